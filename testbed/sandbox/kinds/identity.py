"""IAM roles and policies, keys, and log groups."""

import json
from typing import Any

from botocore.exceptions import ClientError

from testbed.sandbox.aws import Aws, given, is_missing, tag_list, tag_map
from testbed.sandbox.kinds.base import Inputs, Kind, Properties

# the IAM user guide: quotas of names
LONGEST_ROLE_NAME = 64


class Role(Kind):
    resource = "aws:iam/role:Role"
    replace_on = frozenset({"name", "path"})
    autoname = "name"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        if len(inputs["name"]) > LONGEST_ROLE_NAME:
            raise ValueError(
                f"name: {inputs['name']!r} has more than the {LONGEST_ROLE_NAME} characters of IAM"
            )
        made = aws.client("iam").create_role(
            RoleName=inputs["name"],
            AssumeRolePolicyDocument=_document(inputs["assumeRolePolicy"]),
            **given(
                Path=inputs.get("path"),
                PermissionsBoundary=inputs.get("permissionsBoundary"),
                Description=inputs.get("description"),
                Tags=tag_list(inputs.get("tags")),
            ),
        )["Role"]
        return inputs["name"], {"arn": made["Arn"], "uniqueId": made["RoleId"]}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = aws.client("iam").get_role(RoleName=id_)["Role"]
        return {"arn": found["Arn"], "tags": tag_map(found.get("Tags"))}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        iam = aws.client("iam")
        iam.update_assume_role_policy(RoleName=id_, PolicyDocument=_document(new["assumeRolePolicy"]))
        gone = sorted(set(old.get("tags", {})) - set(new.get("tags", {})))
        if gone:
            iam.untag_role(RoleName=id_, TagKeys=gone)
        iam.tag_role(RoleName=id_, Tags=tag_list(new.get("tags")))
        return {"tagsAll": new.get("tags", {})}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("iam").delete_role(RoleName=id_)


class RolePolicy(Kind):
    resource = "aws:iam/rolePolicy:RolePolicy"
    replace_on = frozenset({"name", "role"})
    autoname = "name"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        self._put(aws, inputs)
        return f"{inputs['role']}:{inputs['name']}", {}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        role, name = id_.split(":")
        found = aws.client("iam").get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        same = json.loads(state["policy"]) == found
        return {"policy": state["policy"] if same else json.dumps(found), "role": role, "name": name}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        self._put(aws, new)
        return {}

    def _put(self, aws: Aws, inputs: Inputs) -> None:
        aws.client("iam").put_role_policy(
            RoleName=inputs["role"], PolicyName=inputs["name"], PolicyDocument=_document(inputs["policy"])
        )

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        role, name = id_.split(":")
        aws.client("iam").delete_role_policy(RoleName=role, PolicyName=name)


class RolePolicyAttachment(Kind):
    resource = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
    can_update = False

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        aws.client("iam").attach_role_policy(RoleName=inputs["role"], PolicyArn=inputs["policyArn"])
        return f"{inputs['role']}-{inputs['policyArn'].rsplit('/', 1)[1]}", {}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        attached = aws.client("iam").list_attached_role_policies(RoleName=state["role"])["AttachedPolicies"]
        return {} if state["policyArn"] in [policy["PolicyArn"] for policy in attached] else None

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("iam").detach_role_policy(RoleName=state["role"], PolicyArn=state["policyArn"])


class KmsKey(Kind):
    resource = "aws:kms/key:Key"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        kms = aws.client("kms")
        tags = [{"TagKey": key, "TagValue": value} for key, value in inputs.get("tags", {}).items()]
        made = kms.create_key(
            **given(Description=inputs.get("description"), Policy=inputs.get("policy"), Tags=tags)
        )
        id_ = made["KeyMetadata"]["KeyId"]
        self._rotate(kms, id_, inputs)
        return id_, {"arn": made["KeyMetadata"]["Arn"], "keyId": id_}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        kms = aws.client("kms")
        found = kms.describe_key(KeyId=id_)["KeyMetadata"]
        if found["KeyState"] == "PendingDeletion":
            return None
        rotated = kms.get_key_rotation_status(KeyId=id_)["KeyRotationEnabled"]
        return {"arn": found["Arn"], "enableKeyRotation": rotated}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        self._rotate(aws.client("kms"), id_, new)
        return {}

    def _rotate(self, kms: Any, id_: str, inputs: Inputs) -> None:
        if inputs.get("enableKeyRotation"):
            kms.enable_key_rotation(KeyId=id_)
        else:
            kms.disable_key_rotation(KeyId=id_)

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        days = state.get("deletionWindowInDays", 30)
        aws.client("kms").schedule_key_deletion(KeyId=id_, PendingWindowInDays=days)


class Alias(Kind):
    resource = "aws:kms/alias:Alias"
    replace_on = frozenset({"name"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        aws.client("kms").create_alias(AliasName=inputs["name"], TargetKeyId=inputs["targetKeyId"])
        return inputs["name"], {"arn": aws.arn("kms", inputs["name"])}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        aliases = aws.client("kms").list_aliases()["Aliases"]
        found = next((alias for alias in aliases if alias["AliasName"] == id_), None)
        return {"targetKeyId": found["TargetKeyId"]} if found else None

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        aws.client("kms").update_alias(AliasName=id_, TargetKeyId=new["targetKeyId"])
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("kms").delete_alias(AliasName=id_)


class LogGroup(Kind):
    resource = "aws:cloudwatch/logGroup:LogGroup"
    replace_on = frozenset({"name"})
    autoname = "name"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        logs = aws.client("logs")
        asked = given(kmsKeyId=inputs.get("kmsKeyId"), tags=inputs.get("tags"))
        logs.create_log_group(logGroupName=inputs["name"], **asked)
        self._retain(logs, inputs)
        return inputs["name"], {"arn": aws.arn("logs", f"log-group:{inputs['name']}")}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        groups = aws.client("logs").describe_log_groups(logGroupNamePrefix=id_)["logGroups"]
        found = next((group for group in groups if group["logGroupName"] == id_), None)
        return {"retentionInDays": found.get("retentionInDays")} if found else None

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        self._retain(aws.client("logs"), new)
        return {}

    def _retain(self, logs: Any, inputs: Inputs) -> None:
        if inputs.get("retentionInDays"):
            days = inputs["retentionInDays"]
            logs.put_retention_policy(logGroupName=inputs["name"], retentionInDays=days)

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        try:
            aws.client("logs").delete_log_group(logGroupName=id_)
        except ClientError as error:
            if not is_missing(error):
                raise


def _document(policy: str) -> str:
    """The document, which must be JSON: IAM says no more than "malformed" otherwise."""
    try:
        json.loads(policy)
    except ValueError as error:
        raise ValueError(f"the policy is no JSON: {error}") from None
    return policy


KINDS = (Role, RolePolicy, RolePolicyAttachment, KmsKey, Alias, LogGroup)
