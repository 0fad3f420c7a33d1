"""EKS clusters and their resources."""

from typing import Any, ClassVar
from uuid import uuid4

from testbed.sandbox.aws import Aws, given
from testbed.sandbox.kinds.base import Inputs, Kind, Properties

# of a node group's name, which has 63 at most
LONGEST_PREFIX = 37


class ControlPlane(Kind):
    resource = "aws:eks/cluster:Cluster"
    replace_on = frozenset({"name", "roleArn", "kubernetesNetworkConfig", "encryptionConfig"})
    autoname = "name"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        vpc = inputs["vpcConfig"]
        network = inputs.get("kubernetesNetworkConfig", {})
        encryption = inputs.get("encryptionConfig")
        logs = {"types": inputs.get("enabledClusterLogTypes", []), "enabled": True}
        made = aws.client("eks").create_cluster(
            name=inputs["name"],
            roleArn=inputs["roleArn"],
            resourcesVpcConfig=self._vpc(vpc) | given(subnetIds=vpc["subnetIds"]),
            logging={"clusterLogging": [logs]},
            **given(
                version=inputs.get("version"),
                tags=inputs.get("tags"),
                accessConfig=inputs.get("accessConfig"),
                upgradePolicy=inputs.get("upgradePolicy"),
                deletionProtection=inputs.get("deletionProtection"),
                bootstrapSelfManagedAddons=inputs.get("bootstrapSelfManagedAddons"),
                computeConfig=inputs.get("computeConfig"),
                storageConfig=inputs.get("storageConfig"),
                kubernetesNetworkConfig=given(
                    serviceIpv4Cidr=network.get("serviceIpv4Cidr"),
                    ipFamily=network.get("ipFamily"),
                    elasticLoadBalancing=network.get("elasticLoadBalancing"),
                ),
                encryptionConfig=[{"provider": encryption["provider"], "resources": encryption["resources"]}]
                if encryption
                else None,
            ),
        )["cluster"]
        return inputs["name"], self._computed(made, inputs)

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = aws.client("eks").describe_cluster(name=id_)["cluster"]
        return {"version": found["version"], "tags": found["tags"], **self._computed(found, state)}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        eks = aws.client("eks")
        if old.get("version") != new.get("version"):
            eks.update_cluster_version(name=id_, version=new["version"])
        if old["vpcConfig"] != new["vpcConfig"]:
            eks.update_cluster_config(name=id_, resourcesVpcConfig=self._vpc(new["vpcConfig"]))
        if old.get("deletionProtection") != new.get("deletionProtection"):
            eks.update_cluster_config(name=id_, deletionProtection=new.get("deletionProtection", False))
        logs = new.get("enabledClusterLogTypes", [])
        if old.get("enabledClusterLogTypes", []) != logs:
            enabled = {"clusterLogging": [{"types": logs, "enabled": True}]}
            eks.update_cluster_config(name=id_, logging=enabled)
        found = eks.describe_cluster(name=id_)["cluster"]
        if old.get("tags") != new.get("tags"):
            eks.tag_resource(resourceArn=found["arn"], tags=new.get("tags", {}))
        return self._computed(found, new)

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("eks").delete_cluster(name=id_)

    def _vpc(self, vpc: Inputs) -> dict[str, Any]:
        return given(
            securityGroupIds=vpc.get("securityGroupIds"),
            endpointPrivateAccess=vpc.get("endpointPrivateAccess"),
            endpointPublicAccess=vpc.get("endpointPublicAccess"),
            publicAccessCidrs=vpc.get("publicAccessCidrs"),
        )

    def _computed(self, found: dict[str, Any], inputs: Inputs) -> Properties:
        vpc = found["resourcesVpcConfig"]
        return {
            "arn": found["arn"],
            "clusterId": found["name"],
            "endpoint": found["endpoint"],
            "status": found["status"],
            "platformVersion": found["platformVersion"],
            "certificateAuthority": found["certificateAuthority"],
            "identities": [{"oidcs": [found["identity"]["oidc"]]}],
            "computeConfig": inputs.get("computeConfig"),
            "tagsAll": inputs.get("tags", {}),
            "vpcConfig": inputs["vpcConfig"]
            | given(clusterSecurityGroupId=vpc.get("clusterSecurityGroupId"), vpcId=vpc.get("vpcId")),
        }


class NodeGroup(Kind):
    resource = "aws:eks/nodeGroup:NodeGroup"
    replace_on = frozenset(
        {
            "clusterName",
            "nodeGroupName",
            "nodeGroupNamePrefix",
            "nodeRoleArn",
            "subnetIds",
            "amiType",
            "capacityType",
            "instanceTypes",
            "diskSize",
        }
    )
    autoname = "nodeGroupName"
    EFFECTS: ClassVar[tuple[str, ...]] = ("NO_SCHEDULE", "NO_EXECUTE", "PREFER_NO_SCHEDULE")

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        self._refuse_wrong_effects(inputs)
        name = inputs.get("nodeGroupName") or self._fresh_name(inputs["nodeGroupNamePrefix"])
        made = aws.client("eks").create_nodegroup(
            clusterName=inputs["clusterName"],
            nodegroupName=name,
            nodeRole=inputs["nodeRoleArn"],
            subnets=inputs["subnetIds"],
            scalingConfig=inputs["scalingConfig"],
            **given(
                amiType=inputs.get("amiType"),
                capacityType=inputs.get("capacityType"),
                instanceTypes=inputs.get("instanceTypes"),
                diskSize=inputs.get("diskSize"),
                labels=inputs.get("labels"),
                taints=inputs.get("taints"),
                tags=inputs.get("tags"),
                version=inputs.get("version"),
                releaseVersion=inputs.get("releaseVersion"),
                updateConfig=inputs.get("updateConfig"),
                launchTemplate=inputs.get("launchTemplate"),
            ),
        )["nodegroup"]
        return f"{inputs['clusterName']}:{name}", self._computed(made)

    def _fresh_name(self, prefix: str) -> str:
        """The name that the provider makes of a prefix: it adds 26 characters."""
        if len(prefix) > LONGEST_PREFIX:
            raise ValueError(f"nodeGroupNamePrefix: {prefix!r} has more than {LONGEST_PREFIX} characters")
        return f"{prefix}{uuid4().hex[:26]}"

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = self._found(aws, id_)
        return {
            "scalingConfig": found["scalingConfig"],
            "version": found["version"],
            "labels": found.get("labels"),
            **self._computed(found),
        }

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        self._refuse_wrong_effects(new)
        eks, (cluster, group) = aws.client("eks"), id_.split(":")
        names = {"clusterName": cluster, "nodegroupName": group}
        rolled = ("version", "releaseVersion", "launchTemplate")
        if any(old.get(name) != new.get(name) for name in rolled):
            asked = {name: new.get(name) for name in rolled if new.get(name)}
            eks.update_nodegroup_version(**names, **asked)
        labels = {
            "addOrUpdateLabels": new.get("labels", {}),
            "removeLabels": sorted(set(old.get("labels", {})) - set(new.get("labels", {}))),
        }
        removed = [taint for taint in old.get("taints", []) if taint not in new.get("taints", [])]
        eks.update_nodegroup_config(
            **names,
            labels=labels,
            scalingConfig=new["scalingConfig"],
            taints=given(addOrUpdateTaints=new.get("taints"), removeTaints=removed),
        )
        found = self._found(aws, id_)
        if old.get("tags") != new.get("tags"):
            eks.tag_resource(resourceArn=found["nodegroupArn"], tags=new.get("tags", {}))
        return self._computed(found)

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        cluster, group = id_.split(":")
        aws.client("eks").delete_nodegroup(clusterName=cluster, nodegroupName=group)

    def _found(self, aws: Aws, id_: str) -> dict[str, Any]:
        cluster, group = id_.split(":")
        found = aws.client("eks").describe_nodegroup(clusterName=cluster, nodegroupName=group)
        return dict(found["nodegroup"])

    def _computed(self, found: dict[str, Any]) -> Properties:
        groups = found.get("resources", {}).get("autoScalingGroups", [])
        return {
            "arn": found["nodegroupArn"],
            "nodeGroupName": found["nodegroupName"],
            "status": found["status"],
            "tagsAll": found.get("tags", {}),
            "resources": [{"autoscalingGroups": [{"name": group["name"]} for group in groups]}],
        }

    def _refuse_wrong_effects(self, inputs: Inputs) -> None:
        for taint in inputs.get("taints", []):
            if taint["effect"] not in self.EFFECTS:
                raise ValueError(f"taint effect {taint['effect']!r}: one of {', '.join(self.EFFECTS)}")


class Addon(Kind):
    resource = "aws:eks/addon:Addon"
    replace_on = frozenset({"clusterName", "addonName"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = aws.client("eks").create_addon(**self._asked(inputs), **given(tags=inputs.get("tags")))[
            "addon"
        ]
        return f"{inputs['clusterName']}:{inputs['addonName']}", self._computed(made)

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        cluster, addon = id_.split(":")
        found = aws.client("eks").describe_addon(clusterName=cluster, addonName=addon)["addon"]
        return self._computed(found)

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        eks = aws.client("eks")
        eks.update_addon(**self._asked(new))
        found = eks.describe_addon(clusterName=new["clusterName"], addonName=new["addonName"])["addon"]
        return self._computed(found)

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        cluster, addon = id_.split(":")
        preserve = state.get("preserve", False)
        aws.client("eks").delete_addon(clusterName=cluster, addonName=addon, preserve=preserve)

    def _asked(self, inputs: Inputs) -> dict[str, Any]:
        updating = "resolveConflictsOnUpdate" if "resolveConflictsOnCreate" not in inputs else None
        return given(
            clusterName=inputs["clusterName"],
            addonName=inputs["addonName"],
            addonVersion=inputs.get("addonVersion"),
            configurationValues=inputs.get("configurationValues"),
            serviceAccountRoleArn=inputs.get("serviceAccountRoleArn"),
            resolveConflicts=inputs.get(updating or "resolveConflictsOnCreate"),
            podIdentityAssociations=inputs.get("podIdentityAssociations"),
        )

    def _computed(self, found: dict[str, Any]) -> Properties:
        return {"arn": found["addonArn"], "addonVersion": found["addonVersion"]}


class AccessEntry(Kind):
    resource = "aws:eks/accessEntry:AccessEntry"
    replace_on = frozenset({"clusterName", "principalArn", "type"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = aws.client("eks").create_access_entry(
            clusterName=inputs["clusterName"],
            principalArn=inputs["principalArn"],
            **given(
                kubernetesGroups=inputs.get("kubernetesGroups"),
                type=inputs.get("type"),
                tags=inputs.get("tags"),
                username=inputs.get("userName"),
            ),
        )["accessEntry"]
        return f"{inputs['clusterName']}:{inputs['principalArn']}", {"accessEntryArn": made["accessEntryArn"]}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        cluster, principal = id_.split(":", 1)
        found = aws.client("eks").describe_access_entry(clusterName=cluster, principalArn=principal)
        return {"accessEntryArn": found["accessEntry"]["accessEntryArn"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        aws.client("eks").update_access_entry(
            clusterName=new["clusterName"],
            principalArn=new["principalArn"],
            kubernetesGroups=new.get("kubernetesGroups", []),
        )
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        cluster, principal = id_.split(":", 1)
        aws.client("eks").delete_access_entry(clusterName=cluster, principalArn=principal)


class AccessPolicyAssociation(Kind):
    resource = "aws:eks/accessPolicyAssociation:AccessPolicyAssociation"
    can_update = False

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        aws.client("eks").associate_access_policy(
            clusterName=inputs["clusterName"],
            principalArn=inputs["principalArn"],
            policyArn=inputs["policyArn"],
            accessScope=inputs["accessScope"],
        )
        return "#".join((inputs["clusterName"], inputs["principalArn"], inputs["policyArn"])), {}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        cluster, principal, policy = id_.split("#")
        found = aws.client("eks").list_associated_access_policies(clusterName=cluster, principalArn=principal)
        policies = [each["policyArn"] for each in found["associatedAccessPolicies"]]
        return {} if policy in policies else None

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        cluster, principal, policy = id_.split("#")
        aws.client("eks").disassociate_access_policy(
            clusterName=cluster, principalArn=principal, policyArn=policy
        )


class PodIdentityAssociation(Kind):
    resource = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
    replace_on = frozenset({"clusterName", "namespace", "serviceAccount"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = aws.client("eks").create_pod_identity_association(
            clusterName=inputs["clusterName"],
            namespace=inputs["namespace"],
            serviceAccount=inputs["serviceAccount"],
            roleArn=inputs["roleArn"],
            **given(tags=inputs.get("tags")),
        )["association"]
        return made["associationId"], {
            "associationArn": made["associationArn"],
            "associationId": made["associationId"],
        }

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = aws.client("eks").describe_pod_identity_association(
            clusterName=state["clusterName"], associationId=id_
        )["association"]
        return {"roleArn": found["roleArn"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        aws.client("eks").update_pod_identity_association(
            clusterName=new["clusterName"], associationId=id_, roleArn=new["roleArn"]
        )
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("eks").delete_pod_identity_association(clusterName=state["clusterName"], associationId=id_)


KINDS = (ControlPlane, NodeGroup, Addon, AccessEntry, AccessPolicyAssociation, PodIdentityAssociation)
