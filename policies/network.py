"""Exposure to the internet: API servers, security groups, load balancers."""

from collections.abc import Iterator, Mapping
from typing import Any

from policies.charts import chart_of
from policies.inputs import (
    CHARTS,
    Config,
    Inputs,
    group_of,
    is_unknown,
    is_world,
    kind_of,
    known,
    list_of,
    mappings,
    parsed,
)

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
SOURCES = "service.beta.kubernetes.io/load-balancer-source-ranges"
# The names under which controllers look for a scheme; before the slash, a controller's options may say something else.
SCHEMES = ("/aws-load-balancer-scheme", "alb.ingress.kubernetes.io/scheme")
# Resources of AWS's controllers that set the scheme of many load balancers.
SCHEME_GROUPS = ("elbv2.k8s.aws", "eks.amazonaws.com", "gateway.k8s.aws")
GATEWAY_API = "gateway.networking.k8s.io"
SERVICE_TYPE = "networking.istio.io/service-type"
# For Gateways of these classes istiod makes no load balancer.
INNER_CLASSES = ("istio-waypoint", "istio-remote")
INGRESS_CLASS = "kubernetes.io/ingress.class"
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
    if kind in CHARTS:
        yield from _services_of_chart(inputs, config)
    elif kind_of(kind) == "Service":
        yield from _service(inputs, config)
    elif kind_of(kind) == "Gateway" and group_of(kind) == GATEWAY_API:
        yield from _gateway(inputs, config)
    elif kind_of(kind) and _name(inputs) not in config["edgeServices"]:
        yield from _other_load_balancers(kind, inputs)


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


def _name(inputs: Inputs) -> str:
    metadata = known(inputs, "metadata") or {}
    return f"{known(metadata, 'namespace') or 'default'}/{known(metadata, 'name')}"


def _service(inputs: Inputs, config: Config) -> Iterator[str]:
    metadata, spec = inputs.get("metadata") or {}, inputs.get("spec") or {}
    name, annotations = _name(inputs), known(metadata, "annotations") or {}
    if spec.get("externalIPs"):
        yield f"{name} takes the traffic of {', '.join(spec['externalIPs'])}"
    if is_unknown(metadata, "annotations"):
        return
    # a patch does not repeat the type
    if spec.get("type") == "LoadBalancer" or _is_facing(annotations):
        yield from _load_balancer((name,), annotations, spec, config)


def _services_of_chart(inputs: Inputs, config: Config) -> Iterator[str]:
    """The Services of a chart with values in the common form; Istio's gateway chart has a load balancer by default."""
    values = chart_of(inputs).values
    chart = str(inputs.get("chart") or "").rsplit("/", 1)[-1]
    name = f"{inputs.get('namespace') or 'default'}/{inputs.get('name')}"
    judged = False
    for each in mappings(values):
        for key in each:
            service = known(each, key)
            is_default = each is values and key == "service" and chart == "gateway"
            if not key.lower().endswith("service") or not isinstance(service, Mapping):
                continue
            judged = judged or is_default
            kind = known(service, "type") or ("LoadBalancer" if is_default else "")
            if kind == "LoadBalancer" and not is_unknown(service, "annotations"):
                yield from _load_balancer((name,), known(service, "annotations") or {}, service, config)
    if chart == "gateway" and not judged:
        yield from _load_balancer((name,), {}, {}, config)
    if name not in config["edgeServices"]:
        yield from _facing(values)


def _gateway(inputs: Inputs, config: Config) -> Iterator[str]:
    """The Service that istiod makes for a Gateway of Gateway API, unless it names one that exists."""
    metadata, spec = inputs.get("metadata") or {}, inputs.get("spec") or {}
    chosen = str(known(spec, "gatewayClassName") or "")
    infrastructure = known(spec, "infrastructure")
    # istiod copies those of the Gateway where it has no infrastructure
    above = infrastructure if infrastructure else metadata
    annotations = known(above, "annotations") or {}
    kind = known(known(metadata, "annotations") or {}, SERVICE_TYPE) or "LoadBalancer"
    exists = any(known(each, "type") == "Hostname" for each in list_of(known(spec, "addresses")))
    if is_unknown(above, "annotations"):
        return
    if _is_facing(annotations) or (kind == "LoadBalancer" and chosen not in INNER_CLASSES and not exists):
        name = _name(inputs)
        yield from _load_balancer((name, f"{name}-{chosen}"), annotations, {}, config)


def _other_load_balancers(kind: str, inputs: Inputs) -> Iterator[str]:
    """Load balancers that controllers make for Ingresses, and for what else has annotations for them."""
    yield from _facing(inputs)
    spec = known(inputs, "spec") or {}
    if group_of(kind) in SCHEME_GROUPS and known(spec, "scheme") == "internet-facing":
        yield f"makes the load balancers of {_name(inputs)} open to everybody: scheme is internet-facing"
    annotations = known(known(inputs, "metadata") or {}, "annotations") or {}
    if kind_of(kind) == "Ingress" and known(annotations, INGRESS_CLASS) == "gce":
        yield f"the load balancer of {_name(inputs)} is open to everybody: the class gce-internal is not"
    data = known(inputs, "data") if kind_of(kind) == "ConfigMap" else None
    if data:  # what istiod puts over the Services of its Gateways
        yield from _facing(parsed(known(data, "service")))


def _facing(inputs: Any) -> Iterator[str]:
    for each in mappings(inputs):
        if _is_facing(each):
            yield "makes a load balancer open to everybody, and it is not at the edge: its scheme is internet-facing"


def _is_facing(annotations: Inputs) -> bool:
    return any(
        key.endswith(SCHEMES) and str(known(annotations, key)).strip() == "internet-facing"
        for key in annotations
    )


def _load_balancer(
    names: tuple[str, ...], annotations: Inputs, spec: Inputs, config: Config
) -> Iterator[str]:
    if any(name in config["edgeServices"] for name in names) or is_unknown(annotations, *INTERNAL):
        return
    internal = any(str(known(annotations, key)) in values for key, values in INTERNAL.items())
    written = str(known(annotations, SOURCES) or "").replace(" ", "")
    ranges = [*list_of(known(spec, "loadBalancerSourceRanges")), *(written.split(",") if written else ())]
    if _is_facing(annotations) or is_world(ranges) or (not internal and not ranges):
        yield f"the load balancer of {names[0]} is open to everybody, and it is not at the edge"
