"""Machines, disks and keys on AWS, and the tags of what costs money."""

from collections.abc import Iterator

from policies.inputs import Config, Inputs, kind_of, list_of
from policies.network import CLUSTER

LAUNCH_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
INSTANCE = "aws:ec2/instance:Instance"
MACHINES = (
    LAUNCH_TEMPLATE,
    INSTANCE,
    "aws:ec2/launchConfiguration:LaunchConfiguration",
    "aws:ec2/spotInstanceRequest:SpotInstanceRequest",
)
# provisioners of EBS volumes: the addon's, and that of EKS Auto Mode
EBS = ("ebs.csi.aws.com", "ebs.csi.eks.amazonaws.com")
# databases with storage of their own; instances of Aurora have that of their cluster
STORED_DATABASES = ("aws:rds/instance:Instance", "aws:rds/cluster:Cluster")
REQUIRED_TAGS = ("project", "environment", "owner")
# Resources whose tags a bill or an audit needs.
TAGGED = frozenset(
    {
        CLUSTER,
        LAUNCH_TEMPLATE,
        "aws:eks/nodeGroup:NodeGroup",
        "aws:eks/addon:Addon",
        "aws:ec2/vpc:Vpc",
        "aws:ec2/subnet:Subnet",
        "aws:ec2/eip:Eip",
        "aws:ec2/natGateway:NatGateway",
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:ec2transitgateway/transitGateway:TransitGateway",
        "aws:iam/role:Role",
        "aws:kms/key:Key",
        "aws:cloudwatch/logGroup:LogGroup",
        "aws:route53/zone:Zone",
        "aws:globalaccelerator/accelerator:Accelerator",
        "aws:cloudfront/distribution:Distribution",
        "aws:rds/instance:Instance",
    }
)


def encryption(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """Kubernetes secrets, disks, volumes and databases are encrypted, and keys are rotated."""
    if kind == CLUSTER and not inputs.get("encryptionConfig"):
        yield "Kubernetes secrets are not encrypted with a key of yours: set encryptionConfig"
    if kind == LAUNCH_TEMPLATE:
        yield from _disks(inputs)
    if kind in STORED_DATABASES and not inputs.get("storageEncrypted"):
        yield "the database is not encrypted: set storageEncrypted"
    if kind == "aws:ebs/volume:Volume" and not inputs.get("encrypted"):
        yield "the volume is not encrypted"
    if kind == "aws:kms/key:Key" and not inputs.get("enableKeyRotation"):
        yield "the key is never rotated: set enableKeyRotation"
    is_ebs = kind_of(kind) == "StorageClass" and inputs.get("provisioner") in EBS
    if is_ebs and (inputs.get("parameters") or {}).get("encrypted") != "true":
        yield "volumes of this class are not encrypted: set the parameter encrypted"


def imds(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """IMDSv1 answers any forwarded request, and with more than one hop pods reach the metadata service."""
    if kind not in MACHINES:
        return
    options = inputs.get("metadataOptions") or {}
    if options.get("httpEndpoint") == "disabled":
        return
    if options.get("httpTokens") != "required":
        yield "IMDSv1 is on: set metadataOptions.httpTokens to required"
    hops = options.get("httpPutResponseHopLimit")
    if hops is not None and int(hops) > 1:
        yield f"pods read the node's credentials over {int(hops)} hops: set httpPutResponseHopLimit to 1"


def required_tags(kind: str, inputs: Inputs, config: Config) -> Iterator[str]:
    """AWS resources that cost money have the required tags."""
    if kind not in TAGGED:
        return
    missing = [tag for tag in config["tags"] if not (inputs.get("tags") or {}).get(tag)]
    if missing:
        yield f"lacks the tags {', '.join(missing)}"


def _disks(inputs: Inputs) -> Iterator[str]:
    disks = list_of(inputs.get("blockDeviceMappings"))
    if not disks:
        yield "the disks of the image are not encrypted: list them in blockDeviceMappings"
    for disk in disks:
        if str((disk.get("ebs") or {}).get("encrypted")).lower() != "true":
            yield f"the disk {disk.get('deviceName')} is not encrypted"
