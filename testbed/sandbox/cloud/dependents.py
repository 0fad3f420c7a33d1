"""What EC2 and Elastic Load Balancing refuse and moto lets pass: taken names, and deleting what others still use.

Sources: the errors DependencyViolation, InvalidIPAddress.InUse (EC2 API reference, error codes) and
DuplicateLoadBalancerName (ELBv2 API reference, CreateLoadBalancer).
"""

from collections.abc import Iterator
from typing import Any

from moto.ec2.exceptions import DependencyViolationError, EC2ClientError
from moto.ec2.models import EC2Backend
from moto.eks.models import eks_backends
from moto.elbv2.exceptions import DuplicateLoadBalancerName, ELBClientError
from moto.elbv2.models import ELBv2Backend, elbv2_backends
from moto.rds.models import rds_backends

from testbed.sandbox.cloud.checks import check_before

LONGEST_NAME = 32  # of a load balancer


def install() -> None:
    """Adds the checks to moto's backends."""
    check_before(ELBv2Backend, "create_load_balancer", _require_free_name)
    check_before(EC2Backend, "delete_subnet", _refuse_used_subnet)
    check_before(EC2Backend, "delete_security_group", _refuse_used_group)
    check_before(EC2Backend, "detach_internet_gateway", _refuse_used_gateway)
    check_before(EC2Backend, "release_address", _refuse_used_address)
    check_before(EC2Backend, "delete_vpc", _refuse_used_vpc)


def _require_free_name(backend: Any, name: str, *_: Any, **__: Any) -> None:
    if len(name) > LONGEST_NAME or name.startswith(("-", "internal-")) or name.endswith("-"):
        raise ELBClientError("ValidationError", f"The load balancer name '{name}' is not valid")
    if any(each.name == name for each in backend.load_balancers.values()):
        raise DuplicateLoadBalancerName


def _refuse_used_subnet(ec2: Any, subnet_id: str) -> None:
    users = list(_users_of_subnet(ec2, subnet_id))
    if users:
        raise DependencyViolationError(
            f"The subnet '{subnet_id}' has dependencies and cannot be deleted: {', '.join(users)}"
        )


def _users_of_subnet(ec2: Any, subnet_id: str) -> Iterator[str]:
    """What keeps a network interface in a subnet."""
    for gateway in ec2.nat_gateways.values():
        if gateway.subnet_id == subnet_id and gateway.state != "deleted":
            yield gateway.id
    for endpoint in _endpoints(ec2):
        if subnet_id in (endpoint.subnet_ids or []):
            yield endpoint.id
    for balancer in elbv2_backends[ec2.account_id][ec2.region_name].load_balancers.values():
        if subnet_id in [subnet.id for subnet in balancer.subnets]:
            yield balancer.name
    for database in _databases(ec2):
        if subnet_id in [subnet["SubnetIdentifier"] for subnet in database.db_subnet_group.subnets]:
            yield database.db_instance_identifier
    for cluster in eks_backends[ec2.account_id][ec2.region_name].clusters.values():
        if subnet_id in cluster.resources_vpc_config["subnetIds"]:
            yield cluster.name
        for group in cluster.nodegroups.values():
            if subnet_id in group.subnets:
                yield f"{cluster.name}:{group.nodegroup_name}"


def _refuse_used_group(ec2: Any, name: str | None = None, group_id: str | None = None) -> None:
    wanted = group_id or name
    users = [each.id for each in _endpoints(ec2) if wanted in each.security_group_ids]
    balancers = elbv2_backends[ec2.account_id][ec2.region_name].load_balancers.values()
    users += [each.name for each in balancers if wanted in (each.security_groups or [])]
    users += [
        each.db_instance_identifier for each in _databases(ec2) if wanted in each.vpc_security_group_ids
    ]
    users += [
        group.id
        for groups in ec2.groups.values()
        for group in groups.values()
        if group.id != wanted and wanted in _referenced(group)
    ]
    if users:
        raise DependencyViolationError(f"resource {wanted} has a dependent object: {', '.join(users)}")


def _endpoints(ec2: Any) -> list[Any]:
    return [each for each in ec2.vpc_end_points.values() if each.state != "deleted"]


def _databases(ec2: Any) -> list[Any]:
    return list(rds_backends[ec2.account_id][ec2.region_name].databases.values())


def _referenced(group: Any) -> set[str]:
    return {
        str(source.get("GroupId"))
        for rule in [*group.ingress_rules, *group.egress_rules]
        for source in [rule.source_group or {}]
    }


def _refuse_used_gateway(ec2: Any, _gateway_id: str, vpc_id: str) -> None:
    mapped = [g.id for g in ec2.nat_gateways.values() if g.vpc_id == vpc_id and g.state != "deleted"]
    balancers = elbv2_backends[ec2.account_id][ec2.region_name].load_balancers.values()
    mapped += [each.name for each in balancers if each.vpc_id == vpc_id and each.scheme != "internal"]
    if mapped:
        raise DependencyViolationError(
            f"Network {vpc_id} has some mapped public address(es), of {', '.join(mapped)}. "
            "Please unmap those public address(es) before detaching the gateway."
        )


def _refuse_used_address(ec2: Any, allocation_id: str | None = None, **_: Any) -> None:
    for each in ec2.addresses:
        if allocation_id and each.allocation_id == allocation_id and each.eni is not None:
            for gateway in ec2.nat_gateways.values():
                if gateway.state != "deleted" and gateway._eni is each.eni:
                    raise EC2ClientError(
                        "InvalidIPAddress.InUse", f"{each.public_ip} is in use by {gateway.id}"
                    )


def _refuse_used_vpc(ec2: Any, vpc_id: str) -> None:
    users = [each.id for each in ec2.internet_gateways.values() if each.vpc and each.vpc.id == vpc_id]
    users += [each.id for each in _endpoints(ec2) if each.vpc_id == vpc_id]
    users += [group.id for group in ec2.groups.get(vpc_id, {}).values() if not group.is_default]
    if users:
        raise DependencyViolationError(
            f"The vpc '{vpc_id}' has dependencies and cannot be deleted: {', '.join(users)}"
        )
