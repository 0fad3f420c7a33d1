"""What RDS refuses of databases and moto lets pass, and the log group that it makes for a database.

Sources: the errors and constraints of CreateDBInstance, DeleteDBInstance, CreateDBSubnetGroup, DeleteDBSubnetGroup and
DeleteDBParameterGroup (RDS API reference, as botocore 1.44.5 has it).
"""

import re
from typing import Any

from moto.ec2.models import ec2_backends
from moto.logs.models import logs_backends
from moto.rds.exceptions import InvalidParameterCombination, InvalidParameterValue, RDSClientError
from moto.rds.models import RDSBackend

from testbed.sandbox.cloud.checks import check_before

SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 128
SMALLEST_GP3 = 20  # GiB


def install() -> None:
    """Adds the checks to moto's RDS."""
    check_before(RDSBackend, "create_subnet_group", _check_zones)
    check_before(RDSBackend, "create_db_instance", _check_new)
    check_before(RDSBackend, "delete_db_instance", _check_snapshot)
    check_before(RDSBackend, "delete_subnet_group", _refuse_used_subnets)
    check_before(RDSBackend, "delete_db_parameter_group", _refuse_used_parameters)


def _check_zones(_rds: Any, _name: str, _description: str, subnets: list[Any], _tags: Any) -> None:
    zones = {each.availability_zone for each in subnets}
    if len(zones) < 2:
        raise RDSClientError(
            "DBSubnetGroupDoesNotCoverEnoughAZs",
            "The DB subnet group doesn't meet Availability Zone (AZ) coverage requirement. Current AZ coverage: "
            f"{', '.join(sorted(zones))}. Add subnets to cover at least 2 AZs.",
        )
    if len({each.vpc_id for each in subnets}) > 1:
        raise RDSClientError("InvalidSubnet", "The subnets are in several VPCs")


def _check_new(rds: Any, asked: Any) -> None:
    name, password = asked["db_instance_identifier"], asked.get("master_user_password") or ""
    if not re.fullmatch(r"[a-z]([a-z0-9]|-(?!-))*", name) or name.endswith("-") or len(name) > 63:
        raise InvalidParameterValue(f"The parameter DBInstanceIdentifier is not a valid identifier: {name}")
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD or re.search(r'[/"@]|[^ -~]', password):
        raise InvalidParameterValue("The parameter MasterUserPassword is not a valid password.")
    if int(asked.get("allocated_storage") or 0) < SMALLEST_GP3:
        raise InvalidParameterCombination(f"Invalid storage size for gp3: less than {SMALLEST_GP3} GiB")
    family = f"{asked['engine']}{str(asked['engine_version']).split('.', maxsplit=1)[0]}"
    parameters = rds.db_parameter_groups.get(asked.get("db_parameter_group_name"))
    if parameters and parameters.family != family:
        raise InvalidParameterCombination(
            f"The parameter group {parameters.name} is of the family {parameters.family} and not {family}"
        )
    _check_groups(rds, asked)
    for log in asked.get("enable_cloudwatch_logs_exports") or []:
        group, logs = f"/aws/rds/instance/{name}/{log}", logs_backends[rds.account_id][rds.region_name]
        if group not in logs.groups:
            logs.create_log_group(group, {})


def _check_groups(rds: Any, asked: Any) -> None:
    """The database and its security groups are in one VPC."""
    (subnets,) = rds.describe_db_subnet_groups(asked["db_subnet_group_name"])
    ec2 = ec2_backends[rds.account_id][rds.region_name]
    for id_ in asked.get("vpc_security_group_ids") or []:
        group = ec2.get_security_group_from_id(id_)
        if group is None or group.vpc_id != subnets.vpc_id:
            raise InvalidParameterCombination(
                "The DB instance and EC2 security group are in different VPCs. "
                f"The DB instance is in {subnets.vpc_id} and the EC2 security group is in {group and group.vpc_id}"
            )


def _check_snapshot(
    rds: Any, db_instance_identifier: str, *_: Any, skip_final_snapshot: Any = False, **asked: Any
) -> None:
    snapshot = asked.get("final_db_snapshot_identifier")
    if not skip_final_snapshot and not snapshot:
        raise InvalidParameterCombination(
            "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified."
        )
    if (
        snapshot
        and snapshot in rds.database_snapshots
        and not rds.databases[db_instance_identifier].deletion_protection
    ):
        raise RDSClientError(
            "DBSnapshotAlreadyExists",
            f"Cannot create the snapshot because a snapshot with the identifier {snapshot} already exists.",
        )


def _refuse_used_subnets(rds: Any, name: str) -> None:
    users = [
        each.db_instance_identifier for each in rds.databases.values() if each.db_subnet_group.name == name
    ]
    if users:
        raise RDSClientError(
            "InvalidDBSubnetGroupStateFault",
            f"Cannot delete the subnet group '{name}' because at least one database instance: {users[0]} is still "
            "using it.",
        )


def _refuse_used_parameters(rds: Any, name: str) -> None:
    if any(each.db_parameter_group_name == name for each in rds.databases.values()):
        raise RDSClientError(
            "InvalidDBParameterGroupState",
            "One or more database instances are still members of this parameter group, so the group cannot be deleted",
        )
