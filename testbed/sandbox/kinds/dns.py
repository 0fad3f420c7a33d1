"""Route 53 and Global Accelerator."""

from typing import Any
from uuid import uuid4

from testbed.sandbox.aws import Aws, given, pascal, tag_list
from testbed.sandbox.kinds.base import Inputs, Kind, Properties

# The accelerator's API lives in one region only.
ACCELERATOR_REGION = "us-west-2"


class Zone(Kind):
    resource = "aws:route53/zone:Zone"
    replace_on = frozenset({"name"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        route53 = aws.client("route53")
        vpcs = [pascal_vpc(vpc, aws) for vpc in inputs.get("vpcs", [])]
        made = route53.create_hosted_zone(
            Name=inputs["name"],
            CallerReference=str(uuid4()),
            HostedZoneConfig={"Comment": inputs.get("comment", ""), "PrivateZone": bool(vpcs)},
            **given(VPC=vpcs[0] if vpcs else None),
        )
        id_ = made["HostedZone"]["Id"].rsplit("/", 1)[1]
        for vpc in vpcs[1:]:
            route53.associate_vpc_with_hosted_zone(HostedZoneId=id_, VPC=vpc)
        tags = tag_list(inputs.get("tags"))
        if tags:
            route53.change_tags_for_resource(ResourceType="hostedzone", ResourceId=id_, AddTags=tags)
        servers = made.get("DelegationSet", {}).get("NameServers", [])
        return id_, {"zoneId": id_, "arn": f"arn:aws:route53:::hostedzone/{id_}", "nameServers": servers}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = aws.client("route53").get_hosted_zone(Id=id_)
        seen = {(vpc["VPCId"], vpc["VPCRegion"]) for vpc in found.get("VPCs", [])}
        known = [
            vpc for vpc in state.get("vpcs", []) if (vpc["vpcId"], vpc.get("vpcRegion", aws.region)) in seen
        ]
        return {"name": found["HostedZone"]["Name"].rstrip("."), "vpcs": known}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        route53 = aws.client("route53")
        before, after = old.get("vpcs", []), new.get("vpcs", [])
        for vpc in after:
            if vpc not in before:
                route53.associate_vpc_with_hosted_zone(HostedZoneId=id_, VPC=pascal_vpc(vpc, aws))
        for vpc in before:
            if vpc not in after:
                route53.disassociate_vpc_from_hosted_zone(HostedZoneId=id_, VPC=pascal_vpc(vpc, aws))
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("route53").delete_hosted_zone(Id=id_)


def pascal_vpc(vpc: Inputs, aws: Aws) -> dict[str, str]:
    """A VPC as Route 53 takes it."""
    return {"VPCId": vpc["vpcId"], "VPCRegion": vpc.get("vpcRegion", aws.region)}


class VpcAssociationAuthorization(Kind):
    resource = "aws:route53/vpcAssociationAuthorization:VpcAssociationAuthorization"
    can_update = False

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        aws.client("route53").create_vpc_association_authorization(**zone_and_vpc(inputs, aws))
        return f"{inputs['zoneId']}:{inputs['vpcId']}", {}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = aws.client("route53").list_vpc_association_authorizations(HostedZoneId=state["zoneId"])
        return {} if state["vpcId"] in [vpc["VPCId"] for vpc in found["VPCs"]] else None

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("route53").delete_vpc_association_authorization(**zone_and_vpc(state, aws))


class ZoneAssociation(Kind):
    resource = "aws:route53/zoneAssociation:ZoneAssociation"
    can_update = False

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        aws.client("route53").associate_vpc_with_hosted_zone(**zone_and_vpc(inputs, aws))
        return f"{inputs['zoneId']}:{inputs['vpcId']}", {"owningAccount": aws.account()}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        here = zone_and_vpc(state, aws)["VPC"]
        found = aws.client("route53").list_hosted_zones_by_vpc(**here)["HostedZoneSummaries"]
        return {} if state["zoneId"] in [zone["HostedZoneId"] for zone in found] else None

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("route53").disassociate_vpc_from_hosted_zone(**zone_and_vpc(state, aws))


def zone_and_vpc(inputs: Inputs, aws: Aws) -> dict[str, Any]:
    """A zone and a VPC as Route 53 takes them."""
    return {"HostedZoneId": inputs["zoneId"], "VPC": pascal_vpc(inputs, aws)}


class Record(Kind):
    resource = "aws:route53/record:Record"
    replace_on = frozenset({"zoneId", "name", "setIdentifier"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        self._change(aws, "CREATE", inputs)
        parts = [inputs["zoneId"], inputs["name"], inputs["type"], inputs.get("setIdentifier")]
        return "_".join(part for part in parts if part), {"fqdn": inputs["name"]}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        listed = aws.client("route53").list_resource_record_sets(HostedZoneId=state["zoneId"])
        for found in listed["ResourceRecordSets"]:
            named = found["Name"].rstrip(".") == state["name"]
            if named and found.get("SetIdentifier") == state.get("setIdentifier"):
                return {
                    "records": [each["Value"] for each in found.get("ResourceRecords", [])] or None,
                    "ttl": found.get("TTL"),
                }
        return None

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        if old["type"] != new["type"]:
            self._change(aws, "DELETE", old)
        self._change(aws, "UPSERT", new)
        return {"fqdn": new["name"]}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        self._change(aws, "DELETE", state)

    def _change(self, aws: Aws, action: str, inputs: Inputs) -> None:
        aliases = [
            {
                "DNSName": alias["name"],
                "HostedZoneId": alias["zoneId"],
                "EvaluateTargetHealth": alias["evaluateTargetHealth"],
            }
            for alias in inputs.get("aliases", [])
        ]
        failover = inputs.get("failoverRoutingPolicies") or [{}]
        weighted = inputs.get("weightedRoutingPolicies") or [{}]
        record = given(
            Name=inputs["name"],
            Type=inputs["type"],
            TTL=inputs.get("ttl"),
            ResourceRecords=[{"Value": value} for value in inputs.get("records", [])],
            AliasTarget=aliases[0] if aliases else None,
            SetIdentifier=inputs.get("setIdentifier"),
            HealthCheckId=inputs.get("healthCheckId"),
            Failover=failover[0].get("type"),
            Weight=weighted[0].get("weight"),
        )
        changes = [{"Action": action, "ResourceRecordSet": record}]
        aws.client("route53").change_resource_record_sets(
            HostedZoneId=inputs["zoneId"], ChangeBatch={"Changes": changes}
        )


class Route53HealthCheck(Kind):
    resource = "aws:route53/healthCheck:HealthCheck"
    replace_on = frozenset({"type", "requestInterval"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        config = given(
            Type=inputs["type"],
            FullyQualifiedDomainName=inputs.get("fqdn"),
            IPAddress=inputs.get("ipAddress"),
            Port=inputs.get("port"),
            ResourcePath=inputs.get("resourcePath"),
            RequestInterval=inputs.get("requestInterval"),
            FailureThreshold=inputs.get("failureThreshold"),
        )
        made = aws.client("route53").create_health_check(
            CallerReference=str(uuid4()), HealthCheckConfig=config
        )
        id_ = made["HealthCheck"]["Id"]
        return id_, {"arn": f"arn:aws:route53:::healthcheck/{id_}"}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = aws.client("route53").get_health_check(HealthCheckId=id_)["HealthCheck"]["HealthCheckConfig"]
        return {"port": found.get("Port"), "resourcePath": found.get("ResourcePath")}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        changed = given(
            FullyQualifiedDomainName=new.get("fqdn"),
            IPAddress=new.get("ipAddress"),
            Port=new.get("port"),
            ResourcePath=new.get("resourcePath"),
            FailureThreshold=new.get("failureThreshold"),
        )
        aws.client("route53").update_health_check(HealthCheckId=id_, **changed)
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("route53").delete_health_check(HealthCheckId=id_)


class Accelerator(Kind):
    resource = "aws:globalaccelerator/accelerator:Accelerator"
    autoname = "name"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        asked = given(IpAddressType=inputs.get("ipAddressType"), Tags=tag_list(inputs.get("tags")))
        made = _accelerators(aws).create_accelerator(
            Name=inputs["name"], Enabled=inputs.get("enabled", True), IdempotencyToken=str(uuid4()), **asked
        )["Accelerator"]
        return made["AcceleratorArn"], {"arn": made["AcceleratorArn"], "dnsName": made["DnsName"]}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = _accelerators(aws).describe_accelerator(AcceleratorArn=id_)["Accelerator"]
        return {"enabled": found["Enabled"], "name": found["Name"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        asked = given(Name=new["name"], IpAddressType=new.get("ipAddressType"))
        _accelerators(aws).update_accelerator(AcceleratorArn=id_, Enabled=new.get("enabled", True), **asked)
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        accelerators = _accelerators(aws)
        accelerators.update_accelerator(AcceleratorArn=id_, Enabled=False)
        accelerators.delete_accelerator(AcceleratorArn=id_)


class Listener(Kind):
    resource = "aws:globalaccelerator/listener:Listener"
    replace_on = frozenset({"acceleratorArn"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = _accelerators(aws).create_listener(
            AcceleratorArn=inputs["acceleratorArn"],
            IdempotencyToken=str(uuid4()),
            Protocol=inputs["protocol"],
            PortRanges=pascal(inputs["portRanges"]),
        )["Listener"]
        return made["ListenerArn"], {"arn": made["ListenerArn"]}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = _accelerators(aws).describe_listener(ListenerArn=id_)["Listener"]
        return {"protocol": found["Protocol"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        ranges = pascal(new["portRanges"])
        _accelerators(aws).update_listener(ListenerArn=id_, Protocol=new["protocol"], PortRanges=ranges)
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        _accelerators(aws).delete_listener(ListenerArn=id_)


class EndpointGroup(Kind):
    resource = "aws:globalaccelerator/endpointGroup:EndpointGroup"
    replace_on = frozenset({"listenerArn", "endpointGroupRegion"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = _accelerators(aws).create_endpoint_group(
            ListenerArn=inputs["listenerArn"],
            EndpointGroupRegion=inputs.get("endpointGroupRegion", aws.region),
            IdempotencyToken=str(uuid4()),
            **self._asked(inputs),
        )["EndpointGroup"]
        return made["EndpointGroupArn"], {"arn": made["EndpointGroupArn"]}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = _accelerators(aws).describe_endpoint_group(EndpointGroupArn=id_)["EndpointGroup"]
        return {"endpointGroupRegion": found["EndpointGroupRegion"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        _accelerators(aws).update_endpoint_group(EndpointGroupArn=id_, **self._asked(new))
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        _accelerators(aws).delete_endpoint_group(EndpointGroupArn=id_)

    def _asked(self, inputs: Inputs) -> dict[str, Any]:
        return given(
            EndpointConfigurations=[
                {
                    "EndpointId": endpoint["endpointId"],
                    "Weight": endpoint.get("weight", 128),
                    "ClientIPPreservationEnabled": endpoint.get("clientIpPreservationEnabled", False),
                }
                for endpoint in inputs.get("endpointConfigurations", [])
            ],
            HealthCheckPort=inputs.get("healthCheckPort"),
            HealthCheckProtocol=inputs.get("healthCheckProtocol"),
            HealthCheckIntervalSeconds=inputs.get("healthCheckIntervalSeconds"),
            ThresholdCount=inputs.get("thresholdCount"),
        )


def _accelerators(aws: Aws) -> Any:
    return aws.client("globalaccelerator", ACCELERATOR_REGION)


KINDS = (
    Zone,
    VpcAssociationAuthorization,
    ZoneAssociation,
    Record,
    Route53HealthCheck,
    Accelerator,
    Listener,
    EndpointGroup,
)
