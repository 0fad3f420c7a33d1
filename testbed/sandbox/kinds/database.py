"""Databases of RDS."""

from typing import Any

from testbed.sandbox.aws import Aws, given, tag_list, tag_map
from testbed.sandbox.kinds.base import Inputs, Kind, Properties


class SubnetGroup(Kind):
    resource = "aws:rds/subnetGroup:SubnetGroup"
    replace_on = frozenset({"name"})
    autoname = "name"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = aws.client("rds").create_db_subnet_group(
            DBSubnetGroupName=inputs["name"],
            DBSubnetGroupDescription=inputs.get("description", "Managed by Pulumi"),
            SubnetIds=inputs["subnetIds"],
            Tags=tag_list(inputs.get("tags")),
        )["DBSubnetGroup"]
        return inputs["name"], {"arn": made["DBSubnetGroupArn"], "vpcId": made["VpcId"]}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        (found,) = aws.client("rds").describe_db_subnet_groups(DBSubnetGroupName=id_)["DBSubnetGroups"]
        ids = {each["SubnetIdentifier"] for each in found["Subnets"]}
        known = [each for each in state["subnetIds"] if each in ids]
        return {"subnetIds": [*known, *sorted(ids - set(known))]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        aws.client("rds").modify_db_subnet_group(DBSubnetGroupName=id_, SubnetIds=new["subnetIds"])
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("rds").delete_db_subnet_group(DBSubnetGroupName=id_)


class ParameterGroup(Kind):
    resource = "aws:rds/parameterGroup:ParameterGroup"
    replace_on = frozenset({"name", "namePrefix", "family"})
    autoname = "name"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        # the provider adds the time and a count, 26 characters
        name = inputs.get("name") or f"{inputs['namePrefix']}20261127000000000000000001"
        rds = aws.client("rds")
        made = rds.create_db_parameter_group(
            DBParameterGroupName=name,
            DBParameterGroupFamily=inputs["family"],
            Description=inputs.get("description", "Managed by Pulumi"),
            Tags=tag_list(inputs.get("tags")),
        )["DBParameterGroup"]
        self._set(rds, name, inputs)
        return name, {"arn": made["DBParameterGroupArn"], "name": name}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        rds = aws.client("rds")
        found = rds.describe_db_parameter_groups(DBParameterGroupName=id_)["DBParameterGroups"]
        if not found:
            return None
        listed = rds.describe_db_parameters(DBParameterGroupName=id_)["Parameters"]
        values = {each["ParameterName"]: each.get("ParameterValue") for each in listed}
        parameters = [{**each, "value": values.get(each["name"])} for each in state.get("parameters", [])]
        return {"family": found[0]["DBParameterGroupFamily"], "name": id_, "parameters": parameters}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        self._set(aws.client("rds"), id_, new)
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("rds").delete_db_parameter_group(DBParameterGroupName=id_)

    def _set(self, rds: Any, name: str, inputs: Inputs) -> None:
        parameters = [
            {
                "ParameterName": each["name"],
                "ParameterValue": each["value"],
                "ApplyMethod": each.get("applyMethod", "immediate"),
            }
            for each in inputs.get("parameters", [])
        ]
        if parameters:
            rds.modify_db_parameter_group(DBParameterGroupName=name, Parameters=parameters)


class Instance(Kind):
    resource = "aws:rds/instance:Instance"
    replace_on = frozenset(
        {"engine", "dbName", "username", "storageEncrypted", "kmsKeyId", "availabilityZone"}
    )
    autoname = "identifier"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = aws.client("rds").create_db_instance(
            DBInstanceIdentifier=inputs["identifier"],
            Engine=inputs["engine"],
            DBName=inputs.get("dbName", ""),
            MasterUsername=inputs["username"],
            DBSubnetGroupName=inputs["dbSubnetGroupName"],
            StorageEncrypted=inputs.get("storageEncrypted", False),
            Tags=tag_list(inputs.get("tags")),
            **_changeable(inputs),
        )["DBInstance"]
        return inputs["identifier"], {
            "arn": made["DBInstanceArn"],
            "address": made["Endpoint"]["Address"],
            "endpoint": f"{made['Endpoint']['Address']}:{made['Endpoint']['Port']}",
            "port": made["Endpoint"]["Port"],
            "status": made["DBInstanceStatus"],
        }

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        (found,) = aws.client("rds").describe_db_instances(DBInstanceIdentifier=id_)["DBInstances"]
        return {
            "instanceClass": found["DBInstanceClass"],
            "allocatedStorage": found["AllocatedStorage"],
            "multiAz": found["MultiAZ"],
            "publiclyAccessible": found.get("PubliclyAccessible", False),
            "deletionProtection": found["DeletionProtection"],
            "backupRetentionPeriod": found["BackupRetentionPeriod"],
            "vpcSecurityGroupIds": [each["VpcSecurityGroupId"] for each in found["VpcSecurityGroups"]],
            "tags": tag_map(found.get("TagList")),
        }

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        before = _changeable(old)
        changed = {name: value for name, value in _changeable(new).items() if before.get(name) != value}
        logs = changed.pop("EnableCloudwatchLogsExports", None)
        if logs:
            changed["CloudwatchLogsExportConfiguration"] = {"EnableLogTypes": logs}
        if changed:
            at_once = new.get("applyImmediately", False)
            aws.client("rds").modify_db_instance(
                DBInstanceIdentifier=id_, ApplyImmediately=at_once, **changed
            )
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        snapshot = None if state.get("skipFinalSnapshot") else state.get("finalSnapshotIdentifier")
        aws.client("rds").delete_db_instance(
            DBInstanceIdentifier=id_,
            SkipFinalSnapshot=state.get("skipFinalSnapshot", False),
            **given(FinalDBSnapshotIdentifier=snapshot),
        )


def _changeable(inputs: Inputs) -> dict[str, Any]:
    """What a database gets when it is created, and can be changed later."""
    return given(
        AllocatedStorage=inputs.get("allocatedStorage"),
        AutoMinorVersionUpgrade=inputs.get("autoMinorVersionUpgrade"),
        BackupRetentionPeriod=inputs.get("backupRetentionPeriod"),
        CopyTagsToSnapshot=inputs.get("copyTagsToSnapshot"),
        DBInstanceClass=inputs["instanceClass"],
        DBParameterGroupName=inputs.get("parameterGroupName"),
        DeletionProtection=inputs.get("deletionProtection"),
        EnableCloudwatchLogsExports=inputs.get("enabledCloudwatchLogsExports"),
        EngineVersion=inputs.get("engineVersion"),
        MasterUserPassword=inputs.get("password"),
        MultiAZ=inputs.get("multiAz"),
        PubliclyAccessible=inputs.get("publiclyAccessible"),
        StorageType=inputs.get("storageType"),
        VpcSecurityGroupIds=inputs.get("vpcSecurityGroupIds"),
    )


KINDS = (SubnetGroup, ParameterGroup, Instance)
