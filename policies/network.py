"""Exposure to the internet: API servers, security groups, load balancers."""

from collections.abc import Iterator, Mapping

from policies.inputs import CHARTS, Config, Inputs, is_world, kind_of, known, list_of

CLUSTER = "aws:eks/cluster:Cluster"
EDGE_SERVICES = ("istio-gateways/istio-ingressgateway",)
SCHEME = "service.beta.kubernetes.io/aws-load-balancer-scheme"
# Annotations by which other clouds make a load balancer internal.
INTERNAL = {
    SCHEME: ("internal",),
    "service.beta.kubernetes.io/aws-load-balancer-internal": ("true",),
    "networking.gke.io/load-balancer-type": ("Internal",),
    "service.beta.kubernetes.io/azure-load-balancer-internal": ("true",),
}
GROUPS = ("aws:ec2/securityGroup:SecurityGroup", "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup")
RULE = "aws:ec2/securityGroupRule:SecurityGroupRule"
INGRESS_RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
DATABASES = (
    "aws:rds/instance:Instance",
    "aws:rds/clusterInstance:ClusterInstance",
    "aws:rds/cluster:Cluster",
)
LOAD_BALANCERS = ("aws:lb/loadBalancer:LoadBalancer", "aws:alb/loadBalancer:LoadBalancer")


def public_endpoint(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """EKS opens an API server to the whole internet by default."""
    if kind != CLUSTER:
        return
    vpc = inputs.get("vpcConfig") or {}
    ranges = list_of(vpc.get("publicAccessCidrs"))
    if vpc.get("endpointPublicAccess", True) and not ranges:
        yield "the API server answers the whole internet: list publicAccessCidrs or set endpointPublicAccess to false"
    if is_world(ranges):
        yield f"publicAccessCidrs holds {', '.join(ranges)}, which is a large part of the internet"


def world_ingress(kind: str, inputs: Inputs, config: Config) -> Iterator[str]:
    """Only the edge may be open to the internet."""
    rules = list(_ingress_rules(kind, inputs))
    if is_world([each for rule in rules for each in _ranges(rule)]):
        yield "lets everybody in: name the ranges"
    for rule in rules:
        for prefix_list in (*list_of(rule.get("prefixListIds")), *list_of(rule.get("prefixListId"))):
            if prefix_list not in config["prefixLists"]:
                yield f"lets in the prefix list {prefix_list}, whose ranges can't be seen here"
    if kind in LOAD_BALANCERS and not inputs.get("internal"):
        yield "the load balancer is open to everybody, and it is not at the edge"
    if kind in DATABASES and inputs.get("publiclyAccessible"):
        yield "the database has a public address: set publiclyAccessible to false"
    if kind_of(kind) == "Service":
        yield from _service(inputs, config)
    if kind in CHARTS:
        yield from _service_of_chart(inputs, config)


def open_policy(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """A NetworkPolicy that lets everybody into every port is as good as none."""
    if kind_of(kind) != "NetworkPolicy":
        return
    for rule in list_of((inputs.get("spec") or {}).get("ingress")):
        sources = list_of(known(rule, "from"))
        ranges = [str(known(known(each, "ipBlock") or {}, "cidr") or "") for each in sources]
        if any("port" in each for each in list_of(known(rule, "ports"))):
            continue
        if not sources or is_world(ranges):
            yield "lets everybody into every port: name ports, or who may come"


def _ingress_rules(kind: str, inputs: Inputs) -> Iterator[Inputs]:
    if kind == INGRESS_RULE or (kind == RULE and inputs.get("type") == "ingress"):
        yield inputs
    if kind in GROUPS:
        yield from list_of(inputs.get("ingress"))


def _ranges(rule: Inputs) -> list[str]:
    fields = ("cidrIpv4", "cidrIpv6", "cidrBlocks", "ipv6CidrBlocks")
    return [each for field in fields for each in list_of(rule.get(field)) if each]


def _service(inputs: Inputs, config: Config) -> Iterator[str]:
    metadata, spec = inputs.get("metadata") or {}, inputs.get("spec") or {}
    name = f"{known(metadata, 'namespace') or 'default'}/{known(metadata, 'name')}"
    if spec.get("externalIPs"):
        yield f"{name} takes the traffic of {', '.join(spec['externalIPs'])}"
    if spec.get("type") == "LoadBalancer":
        yield from _load_balancer(name, known(metadata, "annotations") or {}, spec, config)


def _service_of_chart(inputs: Inputs, config: Config) -> Iterator[str]:
    """The Service of a chart with values in the common form; Istio's gateway chart has a load balancer by default."""
    values = inputs.get("values") or {}
    service = known(values, "service")
    chart = str(inputs.get("chart") or "").rsplit("/", 1)[-1]
    if not isinstance(service, Mapping):
        service = {}
    kind = known(service, "type") or ("LoadBalancer" if chart == "gateway" else "")
    if kind == "LoadBalancer":
        name = f"{inputs.get('namespace') or 'default'}/{inputs.get('name')}"
        yield from _load_balancer(name, known(service, "annotations") or {}, service, config)


def _load_balancer(name: str, annotations: Inputs, spec: Inputs, config: Config) -> Iterator[str]:
    if name in config["edgeServices"]:
        return
    internal = any(str(known(annotations, key)) in values for key, values in INTERNAL.items())
    ranges = list_of(known(spec, "loadBalancerSourceRanges"))
    facing = known(annotations, SCHEME) == "internet-facing"
    if is_world(ranges) or (not internal and (facing or not ranges)):
        yield f"the load balancer of {name} is open to everybody, and it is not at the edge"
