"""The EKS calls that moto does not know, and the checks that EKS makes and moto does not."""

import re
from datetime import date
from ipaddress import IPv4Network, ip_network
from typing import Any
from uuid import uuid4

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.eks import urls
from moto.eks.exceptions import (
    InvalidParameterException,
    InvalidRequestException,
    ResourceInUseException,
    ResourceNotFoundException,
)
from moto.eks.models import Cluster
from moto.eks.responses import EKSResponse
from moto.iam.models import iam_backends
from moto.logs.models import logs_backends

from testbed.sandbox.cloud.facts import ADDONS, REFUSED_ZONES, RESERVED, STANDARD_SUPPORT, VERSIONS

Json = dict[str, Any]
CREATOR = "arn:aws:iam::{}:user/moto"  # STS gives this as the caller
ELASTIC_ADDRESSES = IPv4Network("127.0.0.0/8")  # where moto allocates them
ACCESS_POLICY = r"arn:aws[a-z-]*:eks::aws:cluster-access-policy/\w+"
AGENT = "eks-pod-identity-agent"
NODE_POOLS = ("general-purpose", "system")
PATHS = (
    "/clusters/(?P<name>[^/]+)/addons$",
    "/clusters/(?P<name>[^/]+)/addons/(?P<addonName>[^/]+)$",
    "/clusters/(?P<name>[^/]+)/addons/(?P<addonName>[^/]+)/update$",
    "/addons/supported-versions$",
    "/clusters/(?P<name>[^/]+)/updates$",
    "/clusters/(?P<name>[^/]+)/node-groups/(?P<nodegroupName>[^/]+)/update-version$",
    "/clusters/(?P<name>[^/]+)/access-entries$",
    "/clusters/(?P<name>[^/]+)/access-entries/(?P<principalArn>[^/]+/[^/]+)$",
    "/clusters/(?P<name>[^/]+)/access-entries/(?P<principalArn>[^/]+/[^/]+)/access-policies$",
    "/clusters/(?P<name>[^/]+)/access-entries/(?P<principalArn>[^/]+/[^/]+)/access-policies/(?P<policyArn>[^/]+/[^/]+)$",
    "/clusters/(?P<name>[^/]+)/pod-identity-associations$",
    "/clusters/(?P<name>[^/]+)/pod-identity-associations/(?P<associationId>[^/]+)$",
)


class Eks(EKSResponse):
    """EKS with addons, access entries, pod identities and upgrades."""

    def create_cluster(self) -> ActionResult:
        config = self._get_param("resourcesVpcConfig")
        self._require_role(self._get_param("roleArn"))
        vpc = self._require_subnets(config["subnetIds"])
        self._require_supported(self._get_param("version"))
        self._refuse_reserved(config)
        self._require_encryption_key()
        self._require_whole_auto_mode()
        super().create_cluster()
        cluster = self._cluster()
        group = self._ec2().create_security_group(
            f"eks-cluster-sg-{cluster.name}-{uuid4().hex[:8]}",
            "EKS created security group applied to ENI that is attached to EKS Control Plane master nodes",
            vpc_id=vpc,
        )
        cluster.resources_vpc_config = {**config, "clusterSecurityGroupId": group.id, "vpcId": vpc}
        for attribute, name in (
            ("access_config", "accessConfig"),
            ("upgrade_policy", "upgradePolicy"),
            ("deletion_protection", "deletionProtection"),
            ("compute_config", "computeConfig"),
            ("storage_config", "storageConfig"),
        ):
            setattr(cluster, attribute, self._get_param(name))
        self._let_in_the_creator(cluster)
        self._keep_logs(cluster)
        return ActionResult({"cluster": cluster})

    def _require_supported(self, version: str | None) -> None:
        """A cluster with standard support alone is not created with a version that has only extended support."""
        if version not in STANDARD_SUPPORT:
            raise InvalidParameterException(message=f"unsupported Kubernetes version {version}")
        policy = (self._get_param("upgradePolicy") or {}).get("supportType", "EXTENDED")
        end = STANDARD_SUPPORT[version]
        if policy == "STANDARD":
            if date.today() > end:
                raise InvalidParameterException(
                    message=f"standard support for Kubernetes {version} ended on {end}: set supportType EXTENDED"
                )
        elif date.today() > end.replace(year=end.year + 1):
            raise InvalidParameterException(message=f"unsupported Kubernetes version {version}")

    def _refuse_reserved(self, config: Json) -> None:
        for cidr in config.get("publicAccessCidrs") or []:
            try:
                IPv4Network(cidr)
            except ValueError:
                raise InvalidParameterException(message=f"Invalid CIDR: {cidr}") from None
            if IPv4Network(cidr).prefixlen == 32 and IPv4Network(cidr).subnet_of(ELASTIC_ADDRESSES):
                continue
            if any(ip_network(cidr).overlaps(ip_network(each)) for each in RESERVED):
                raise InvalidParameterException(
                    message=f"The following CIDRs are not allowed in publicAccessCidrs: [{cidr}]"
                )

    def _require_whole_auto_mode(self) -> None:
        """The three parts of Auto Mode are on or off together (API reference, ComputeConfigRequest and its siblings).

        It needs access entries, and a cluster without the addons that EKS installs by itself (auto-enable-existing of
        the user guide).
        """
        compute = self._get_param("computeConfig") or {}
        storage = (self._get_param("storageConfig") or {}).get("blockStorage") or {}
        balancing = (self._get_param("kubernetesNetworkConfig") or {}).get("elasticLoadBalancing") or {}
        parts = {bool(each.get("enabled")) for each in (compute, storage, balancing)}
        if len(parts) > 1:
            raise InvalidParameterException(
                message="compute, block storage and load balancing of EKS Auto Mode must be all enabled or all disabled"
            )
        if True not in parts:
            return
        if self._get_param("bootstrapSelfManagedAddons") is not False:
            raise InvalidParameterException(message="EKS Auto Mode needs bootstrapSelfManagedAddons false")
        if (self._get_param("accessConfig") or {}).get("authenticationMode", "CONFIG_MAP") == "CONFIG_MAP":
            raise InvalidParameterException(message="EKS Auto Mode needs authentication mode API")
        unknown = set(compute.get("nodePools") or []) - set(NODE_POOLS)
        if unknown:
            raise InvalidParameterException(message=f"{unknown.pop()} is not one of {', '.join(NODE_POOLS)}")
        if compute.get("nodePools"):
            self._require_role(str(compute.get("nodeRoleArn") or ""))

    def _let_in_the_creator(self, cluster: Any) -> None:
        """EKS makes an access entry of whoever creates a cluster, unless it is told not to."""
        access = getattr(cluster, "access_config", None) or {}
        if access.get("authenticationMode", "CONFIG_MAP") == "CONFIG_MAP":
            return
        if access.get("bootstrapClusterCreatorAdminPermissions", True):
            self._entries(cluster)[CREATOR.format(self.current_account)] = self._new_entry(
                cluster, CREATOR.format(self.current_account)
            )

    def _keep_logs(self, cluster: Any) -> None:
        """EKS makes the log group of the control plane where it is missing, and never takes it away."""
        types = [
            each for setup in (cluster.logging or {}).get("clusterLogging", []) for each in setup["types"]
        ]
        group = f"/aws/eks/{cluster.name}/cluster"
        logs = logs_backends[self.current_account][self.region]
        if types and group not in logs.groups:
            logs.create_log_group(group, {})

    def update_cluster_config(self) -> ActionResult:
        cluster = self._cluster()
        changed = self._get_param("resourcesVpcConfig") or {}
        self._refuse_reserved(changed)
        cluster.resources_vpc_config = {**cluster.resources_vpc_config, **changed}
        if self._get_param("logging"):
            cluster.logging = self._get_param("logging")
        if self._get_param("deletionProtection") is not None:
            cluster.deletion_protection = self._get_param("deletionProtection")
        return self._update("ConfigUpdate")

    def delete_cluster(self) -> ActionResult:
        cluster = self._cluster()
        if getattr(cluster, "deletion_protection", False):
            raise InvalidRequestException(message=f"deletion protection is on for cluster {cluster.name}")
        answer = super().delete_cluster()
        group = cluster.resources_vpc_config["clusterSecurityGroupId"]
        self._ec2().delete_security_group(group_id=group)
        return answer

    def update_cluster_version(self) -> ActionResult:
        cluster, wanted = self._cluster(), self._get_param("version")
        self._refuse_jump(cluster.version, wanted)
        for group in cluster.nodegroups.values():
            if _minor(wanted) - _minor(group.version) > 3:
                raise InvalidRequestException(
                    message=f"nodes of {group.nodegroup_name} are too old for {wanted}"
                )
        cluster.version = wanted
        return self._update("VersionUpdate")

    def create_nodegroup(self) -> ActionResult:
        cluster = self._cluster()
        self._require_role(self._get_param("nodeRole"))
        self._require_subnets(self._get_param("subnets"), zones=1)
        self._refuse_newer_than(cluster, self._get_param("version"))
        self._refuse_other_architecture(self._get_param("amiType"), self._get_param("instanceTypes"))
        template = self._get_param("launchTemplate")
        if template and template.get("id") not in self._ec2().launch_templates:
            raise InvalidRequestException(message=f"launch template {template.get('id')} does not exist")
        return super().create_nodegroup()

    def _refuse_other_architecture(self, image: str | None, instance_types: list[str] | None) -> None:
        """The image of a node group is for one architecture, and its instances must have it."""
        wanted = "arm64" if "ARM_64" in (image or "") else "x86_64"
        for each in instance_types or []:
            found = INSTANCE_TYPES.get(each)
            if found and wanted not in found["ProcessorInfo"]["SupportedArchitectures"]:
                raise InvalidParameterException(
                    message=f"[{each}] is not a valid instance type for requested amiType {image}"
                )

    def update_nodegroup_version(self) -> ActionResult:
        cluster = self._cluster()
        group = cluster.nodegroups[self._get_param("nodegroupName")]
        wanted = self._get_param("version") or group.version
        self._refuse_newer_than(cluster, wanted)
        group.version = wanted
        group.launch_template = self._get_param("launchTemplate") or group.launch_template
        return self._update("VersionUpdate")

    def create_addon(self) -> ActionResult:
        cluster, name = self._cluster(), self._get_param("addonName")
        if name in self._addons(cluster):
            raise ResourceInUseException(message=f"Addon already exists: {name}")
        if name not in ADDONS:
            raise InvalidParameterException(message=f"Addon {name} specified is not supported")
        version = self._addon_version(name, cluster)
        identities = self._addon_identities(name)
        addon = {
            "addonName": name,
            "clusterName": cluster.name,
            "status": "ACTIVE" if _has_nodes(cluster) or name in ("vpc-cni", "kube-proxy") else "DEGRADED",
            "addonVersion": version,
            "addonArn": f"{cluster.arn.replace(':cluster/', ':addon/')}/{name}/{uuid4()}",
            "createdAt": utcnow(),
            "tags": self._get_param("tags") or {},
            "configurationValues": self._get_param("configurationValues"),
            "podIdentityAssociations": identities,
        }
        if addon["status"] == "DEGRADED":
            raise InvalidRequestException(message=f"addon {name} is DEGRADED: no node can take its pods")
        self._addons(cluster)[name] = addon
        return ActionResult({"addon": addon})

    def describe_addon(self) -> ActionResult:
        return ActionResult({"addon": self._addon()})

    def update_addon(self) -> ActionResult:
        addon = self._addon()
        addon["addonVersion"] = self._addon_version(addon["addonName"], self._cluster())
        addon["configurationValues"] = self._get_param("configurationValues")
        return self._update("AddonUpdate")

    def delete_addon(self) -> ActionResult:
        addon = self._addon()
        del self._addons(self._cluster())[addon["addonName"]]
        return ActionResult({"addon": addon})

    def list_addons(self) -> ActionResult:
        return ActionResult({"addons": sorted(self._addons(self._cluster()))})

    def describe_addon_versions(self) -> ActionResult:
        name, version = self._get_param("addonName"), self._get_param("kubernetesVersion")
        found = ADDONS.get(name, {}).get(version, ())
        versions = [
            {
                "addonVersion": each,
                "compatibilities": [
                    {
                        "clusterVersion": version,
                        "defaultVersion": each == found[-1],
                        "platformVersions": ["*"],
                    }
                ],
            }
            for each in reversed(found)
        ]
        return ActionResult({"addons": [{"addonName": name, "addonVersions": versions}] if found else []})

    def create_access_entry(self) -> ActionResult:
        cluster, principal = self._cluster(), self._get_param("principalArn")
        if (getattr(cluster, "access_config", None) or {}).get(
            "authenticationMode", "CONFIG_MAP"
        ) == "CONFIG_MAP":
            raise InvalidRequestException(message="the cluster's authentication mode has no access entries")
        if principal in self._entries(cluster):
            raise ResourceInUseException(
                message=f"The specified access entry resource is already in use: {principal}"
            )
        entry = self._new_entry(cluster, principal)
        entry["kubernetesGroups"] = self._get_param("kubernetesGroups") or []
        entry["type"] = self._get_param("type") or "STANDARD"
        self._entries(cluster)[principal] = entry
        return ActionResult({"accessEntry": entry})

    def _new_entry(self, cluster: Any, principal: str) -> Json:
        return {
            "clusterName": cluster.name,
            "principalArn": principal,
            "kubernetesGroups": [],
            "accessEntryArn": f"{cluster.arn.replace(':cluster/', ':access-entry/')}/{uuid4()}",
            "type": "STANDARD",
            "policies": [],
        }

    def describe_access_entry(self) -> ActionResult:
        return ActionResult({"accessEntry": self._entry()})

    def update_access_entry(self) -> ActionResult:
        entry = self._entry()
        entry["kubernetesGroups"] = self._get_param("kubernetesGroups") or []
        return ActionResult({"accessEntry": entry})

    def delete_access_entry(self) -> ActionResult:
        del self._entries(self._cluster())[self._entry()["principalArn"]]
        return ActionResult({})

    def associate_access_policy(self) -> ActionResult:
        entry, policy = self._entry(), self._get_param("policyArn")
        if not re.fullmatch(ACCESS_POLICY, policy):
            raise InvalidParameterException(message=f"{policy} is no access policy")
        entry["policies"].append({"policyArn": policy, "accessScope": self._get_param("accessScope")})
        return ActionResult({"associatedAccessPolicy": entry["policies"][-1]})

    def disassociate_access_policy(self) -> ActionResult:
        entry, policy = self._entry(), self._get_param("policyArn")
        entry["policies"] = [each for each in entry["policies"] if each["policyArn"] != policy]
        return ActionResult({})

    def list_associated_access_policies(self) -> ActionResult:
        return ActionResult({"associatedAccessPolicies": self._entry()["policies"]})

    def create_pod_identity_association(self) -> ActionResult:
        cluster = self._cluster()
        self._require_role(self._get_param("roleArn"))
        made = self._identity(cluster, self._get_param("namespace"), self._get_param("serviceAccount"))
        made["roleArn"] = self._get_param("roleArn")
        self._identities(cluster)[made["associationId"]] = made
        return ActionResult({"association": made})

    def describe_pod_identity_association(self) -> ActionResult:
        return ActionResult({"association": self._association()})

    def update_pod_identity_association(self) -> ActionResult:
        association = self._association()
        self._require_role(self._get_param("roleArn"))
        association["roleArn"] = self._get_param("roleArn")
        return ActionResult({"association": association})

    def delete_pod_identity_association(self) -> ActionResult:
        association = self._association()
        del self._identities(self._cluster())[association["associationId"]]
        return ActionResult({"association": association})

    def list_pod_identity_associations(self) -> ActionResult:
        return ActionResult({"associations": list(self._identities(self._cluster()).values())})

    def _cluster(self) -> Any:
        name = self._get_param("name")
        cluster = self.eks_backend.clusters.get(name)
        if cluster is None:
            raise ResourceNotFoundException(message=f"No cluster found for name: {name}.")
        return cluster

    def _ec2(self) -> Any:
        return ec2_backends[self.current_account][self.region]

    def _addons(self, cluster: Cluster) -> dict[str, Json]:
        return cluster.__dict__.setdefault("_addons", {})

    def _entries(self, cluster: Cluster) -> dict[str, Json]:
        return cluster.__dict__.setdefault("_entries", {})

    def _identities(self, cluster: Cluster) -> dict[str, Json]:
        return cluster.__dict__.setdefault("_identities", {})

    def _addon(self) -> Json:
        return self._one(self._addons(self._cluster()), self._get_param("addonName"))

    def _entry(self) -> Json:
        return self._one(self._entries(self._cluster()), self._get_param("principalArn"))

    def _association(self) -> Json:
        return self._one(self._identities(self._cluster()), self._get_param("associationId"))

    def _one(self, known: dict[str, Json], name: str) -> Json:
        if name not in known:
            raise ResourceNotFoundException(message=f"{name} does not exist")
        return known[name]

    def _identity(self, cluster: Cluster, namespace: str, account: str) -> Json:
        id_ = f"a-{uuid4().hex[:17]}"
        return {
            "clusterName": cluster.name,
            "namespace": namespace,
            "serviceAccount": account,
            "associationId": id_,
            "associationArn": f"{cluster.arn.replace(':cluster/', ':podidentityassociation/')}/{id_}",
        }

    def _addon_identities(self, addon: str) -> list[str]:
        asked = self._get_param("podIdentityAssociations") or []
        if asked and not _is_auto(self._cluster()) and AGENT not in self._addons(self._cluster()):
            raise InvalidRequestException(
                message=f"{addon} asks for a pod identity before the agent is there"
            )
        for each in asked:
            self._require_role(each["roleArn"])
        return [each["serviceAccount"] for each in asked]

    def _addon_version(self, name: str, cluster: Cluster) -> str:
        version = self._get_param("addonVersion") or ADDONS[name][cluster.version][-1]
        known = {each for versions in ADDONS[name].values() for each in versions}
        # kube-proxy may be older than the control plane and never newer
        newer = name == "kube-proxy" and int(version.split(".")[1]) > _minor(cluster.version)
        if version not in known or newer:
            raise InvalidParameterException(message=f"Addon version {version} specified is not supported")
        return version

    def _require_role(self, arn: str) -> None:
        roles = iam_backends[self.current_account][self.partition].roles.values()
        if arn not in {role.arn for role in roles}:
            raise InvalidParameterException(
                message=f"Role with arn: {arn}, could not be assumed: no such role"
            )

    def _require_subnets(self, ids: list[str], zones: int = 2) -> str:
        subnets = self._ec2().describe_subnets(subnet_ids=ids)
        ids_of_zones = {zone.name: zone.zone_id for zone in self._ec2().describe_availability_zones()}
        refused = [each for s in subnets if (each := ids_of_zones.get(s.availability_zone)) in REFUSED_ZONES]
        if refused:
            raise InvalidParameterException(message=f"Cannot create cluster: {refused[0]} is not supported")
        if len({subnet.availability_zone for subnet in subnets}) < zones:
            raise InvalidParameterException(message="Subnets specified must be in at least two different AZs")
        if len({subnet.vpc_id for subnet in subnets}) > 1:
            raise InvalidParameterException(message="Subnets specified must be in one VPC")
        return str(subnets[0].vpc_id)

    def _require_encryption_key(self) -> None:
        for config in self._get_param("encryptionConfig") or []:
            if not config["provider"].get("keyArn", "").startswith("arn:"):
                raise InvalidParameterException(message="encryptionConfig needs the ARN of a key")

    def _refuse_jump(self, current: str, wanted: str) -> None:
        if wanted not in VERSIONS or _minor(wanted) - _minor(current) != 1:
            text = f"Unsupported Kubernetes minor version update from {current} to {wanted}"
            raise InvalidParameterException(message=text)

    def _refuse_newer_than(self, cluster: Cluster, version: str | None) -> None:
        if version and _minor(version) > _minor(cluster.version):
            text = f"Nodegroup Kubernetes version {version} is newer than the cluster's {cluster.version}"
            raise InvalidParameterException(message=text)

    def _update(self, kind: str) -> ActionResult:
        return ActionResult({"update": {"id": str(uuid4()), "status": "Successful", "type": kind}})


def _is_auto(cluster: Any) -> bool:
    return bool((getattr(cluster, "compute_config", None) or {}).get("enabled"))


def _has_nodes(cluster: Any) -> bool:
    """Whether a node can take pods without tolerations: one of a group that is not SPIRE's, or Auto Mode's."""
    return _is_auto(cluster) or any(not group.taints for group in cluster.nodegroups.values())


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def install() -> None:
    """Replaces moto's EKS with this one."""
    moto_paths = [path for path in urls.url_paths if path.startswith("{0}")]
    for path in [*moto_paths, *("{0}" + path for path in PATHS)]:
        urls.url_paths[path] = Eks.dispatch
