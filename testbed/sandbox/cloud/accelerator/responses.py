"""The calls, as Global Accelerator's API names them."""

from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult, BaseResponse
from moto.elbv2.models import elbv2_backends

from testbed.sandbox.cloud.accelerator.models import Backend, Json, globalaccelerator_backends


class AcceleratorResponse(BaseResponse):
    """Answers for accelerators, listeners and endpoint groups."""

    def __init__(self) -> None:
        super().__init__(service_name="globalaccelerator")

    @property
    def _backend(self) -> Backend:
        return globalaccelerator_backends[self.current_account]["us-west-2"]

    def create_accelerator(self) -> ActionResult:
        arn = self._backend.arn("accelerator")
        made = {
            "AcceleratorArn": arn,
            "Name": self._get_param("Name"),
            "Enabled": self._get_param("Enabled", True),
            "DnsName": f"{arn.rsplit('/', 1)[1]}.awsglobalaccelerator.com",
            "IpAddressType": self._get_param("IpAddressType") or "IPV4",
            "Status": "DEPLOYED",
        }
        return ActionResult({"Accelerator": self._backend.add(arn, made)})

    def describe_accelerator(self) -> ActionResult:
        return ActionResult({"Accelerator": self._accelerator()})

    def update_accelerator(self) -> ActionResult:
        return ActionResult(
            {"Accelerator": self._changed(self._accelerator(), "Name", "Enabled", "IpAddressType")}
        )

    def delete_accelerator(self) -> ActionResult:
        if self._accelerator()["Enabled"]:
            raise JsonRESTError(
                "AcceleratorNotDisabledException", "disable the accelerator before you delete it"
            )
        self._backend.remove(self._get_param("AcceleratorArn"), "Accelerator")
        return ActionResult({})

    def list_accelerators(self) -> ActionResult:
        accelerators = [each for each in self._backend.things.values() if "DnsName" in each]
        return ActionResult({"Accelerators": accelerators})

    def create_listener(self) -> ActionResult:
        parent = self._accelerator()["AcceleratorArn"].split(":accelerator/")[1]
        arn = self._backend.arn("accelerator", parent, "listener")
        made = {
            "ListenerArn": arn,
            "PortRanges": self._get_param("PortRanges"),
            "Protocol": self._get_param("Protocol"),
        }
        return ActionResult({"Listener": self._backend.add(arn, made)})

    def describe_listener(self) -> ActionResult:
        return ActionResult({"Listener": self._listener()})

    def update_listener(self) -> ActionResult:
        return ActionResult({"Listener": self._changed(self._listener(), "PortRanges", "Protocol")})

    def delete_listener(self) -> ActionResult:
        self._backend.remove(self._get_param("ListenerArn"), "Listener")
        return ActionResult({})

    def create_endpoint_group(self) -> ActionResult:
        parent = self._listener()["ListenerArn"].split(":accelerator/")[1]
        region = self._get_param("EndpointGroupRegion")
        if self._get_param("HealthCheckIntervalSeconds", 30) not in (
            10,
            30,
        ):  # CreateEndpointGroup, API reference
            raise JsonRESTError("InvalidArgumentException", "HealthCheckIntervalSeconds must be 10 or 30")
        arn = self._backend.arn("accelerator", parent, "endpoint-group")
        made = {
            "EndpointGroupArn": arn,
            "EndpointGroupRegion": region,
            "EndpointDescriptions": self._endpoints(region),
        }
        return ActionResult({"EndpointGroup": self._backend.add(arn, made)})

    def describe_endpoint_group(self) -> ActionResult:
        return ActionResult({"EndpointGroup": self._group()})

    def update_endpoint_group(self) -> ActionResult:
        group = self._group()
        group["EndpointDescriptions"] = self._endpoints(group["EndpointGroupRegion"])
        return ActionResult({"EndpointGroup": group})

    def delete_endpoint_group(self) -> ActionResult:
        self._backend.remove(self._get_param("EndpointGroupArn"), "EndpointGroup")
        return ActionResult({})

    def _accelerator(self) -> Json:
        return self._backend.get(self._get_param("AcceleratorArn"), "Accelerator")

    def _listener(self) -> Json:
        return self._backend.get(self._get_param("ListenerArn"), "Listener")

    def _group(self) -> Json:
        return self._backend.get(self._get_param("EndpointGroupArn"), "EndpointGroup")

    def _changed(self, thing: Json, *names: str) -> Json:
        thing.update({name: self._get_param(name) for name in names if self._get_param(name) is not None})
        return thing

    def _endpoints(self, region: str) -> list[Json]:
        known = elbv2_backends[self.current_account][region].load_balancers
        asked: list[dict[str, Any]] = self._get_param("EndpointConfigurations") or []
        for each in asked:
            if each["EndpointId"] not in known:
                raise JsonRESTError(
                    "InvalidArgumentException", f"{each['EndpointId']} is no load balancer of {region}"
                )
            listeners = known[each["EndpointId"]].listeners.values()
            # Requirements for endpoints with client IP address preservation, Global Accelerator's developer guide
            if each.get("ClientIPPreservationEnabled") and any(one.protocol == "TLS" for one in listeners):
                raise JsonRESTError(
                    "InvalidArgumentException",
                    f"{each['EndpointId']} has a TLS listener: client IP address preservation is not supported",
                )
        return [{"EndpointId": each["EndpointId"], "Weight": each.get("Weight", 128)} for each in asked]
