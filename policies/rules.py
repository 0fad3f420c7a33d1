"""The table of rules. Each is a pure function of a resource's type and inputs that yields its violations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from policies import iam, network, nodes, workloads
from policies.inputs import Config, Inputs


@dataclass(frozen=True)
class PolicyRule:
    """A rule: its name, what it asks for, and the function that finds violations.

    `config` holds the defaults of what users may set.
    """

    name: str
    description: str
    find: Callable[[str, Inputs, Config], Iterator[str]]
    config: Config


def _iam(kind: str, inputs: Inputs, config: Config) -> Iterator[str]:
    yield from iam.allowed_actions(kind, inputs, config)
    yield from iam.attached_policies(kind, inputs, config)


RULES = (
    PolicyRule(
        "no-public-endpoint-without-ranges",
        "A public API server has a list of ranges",
        network.public_endpoint,
        {},
    ),
    PolicyRule(
        "encryption-on",
        "Secrets, disks, volumes and databases are encrypted; keys rotate",
        nodes.encryption,
        {},
    ),
    PolicyRule(
        "no-wildcard-iam",
        "Policies name their actions and, where they act, their resources; only listed policies are attached",
        _iam,
        {"managedPolicies": list(iam.MANAGED_POLICIES)},
    ),
    PolicyRule(
        "no-world-ingress-but-at-the-edge",
        "Nothing but the edge is open to everybody",
        network.world_ingress,
        {"edgeServices": list(network.EDGE_SERVICES), "prefixLists": []},
    ),
    PolicyRule(
        "network-policies-close",
        "A NetworkPolicy names the ports or the callers that it lets in",
        network.open_policy,
        {},
    ),
    PolicyRule(
        "imdsv2-only", "Nodes answer metadata requests with a token only, and no pod's", nodes.imds, {}
    ),
    PolicyRule(
        "images-pinned-and-trusted",
        "Images and charts have fixed versions and come from allowed sources",
        workloads.images,
        {
            "registries": list(workloads.REGISTRIES),
            "chartRepositories": list(workloads.CHART_REPOSITORIES),
        },
    ),
    PolicyRule(
        "strict-mtls",
        "mTLS is STRICT everywhere, and no traffic passes the proxies by",
        workloads.strict_mtls,
        {},
    ),
    PolicyRule(
        "required-tags",
        "AWS resources name their project, environment and owner",
        nodes.required_tags,
        {"tags": list(nodes.REQUIRED_TAGS)},
    ),
)
