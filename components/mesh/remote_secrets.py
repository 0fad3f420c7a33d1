"""Endpoint discovery across clusters: remote secrets without credentials, and the readers that serve them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.config.images import ImageSettings
from components.config.mesh import IstioSettings
from components.kube.manifests import Document, load, load_one, with_images
from components.kube.objects import register, register_all
from components.mesh.istio import injected_by, istiod_name, resources

NAMESPACE = "istio-remote-access"
PORT = 15443
# Where istiod's own Envoy listens, as in manifests/istio/peers-bootstrap.yaml.
LOCAL = "http://127.0.0.1:15100"
# istiod lists and watches the Secrets of a peer, which it does not need.
SECRETS = "/api/v1/secrets"
EMPTY_LIST: dict[str, Any] = {
    "kind": "SecretList",
    "apiVersion": "v1",
    "metadata": {"resourceVersion": "1"},
    "items": [],
}
# The only event of a watch, without which istiod's client would list anew after each.
NOTHING_NEW: dict[str, Any] = {
    "type": "BOOKMARK",
    "object": {"kind": "Secret", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}},
}
# istiod reads the Secrets with this label and the value "true"; what it knew of others it forgets.
ROTATION = "istio/multiCluster"
DRAINED = "drained"
FAULT = "envoy.filters.http.fault"


@dataclass(frozen=True)
class RemoteSecretsMember:
    """One cluster of the mesh.

    Attributes:
        trust_domain: its SPIFFE trust domain.
        east_west_address: IP or name of its east-west gateway.
        istio_namespace: namespace of its istiod, known when istiod is ready.
        after: resources that give its pods proxies and identities.
        drained: whether the peers' istiods ignore it, so that their proxies send no new calls to it.
        provider: access to the cluster.
    """

    trust_domain: str
    east_west_address: pulumi.Input[str]
    istio_namespace: pulumi.Input[str]
    after: Sequence[pulumi.Resource]
    provider: k8s.Provider
    drained: bool = False


@dataclass(frozen=True)
class RemoteSecretsArgs:
    """Args of RemoteSecrets.

    Attributes:
        members: the members by cluster name.
        settings: revisions of istiod, and the number of pods of each reader.
        images: where images come from.
    """

    members: Mapping[str, RemoteSecretsMember]
    settings: IstioSettings
    images: ImageSettings = field(default_factory=ImageSettings)


class RemoteSecrets(pulumi.ComponentResource):
    """A reader on every cluster that only the peers' istiods reach, and a remote secret for every ordered pair.

    istiod reaches a reader through the east-west gateway with its own SVID. No cluster holds a token of another.
    """

    def __init__(
        self, name: str, args: RemoteSecretsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fedmesh:istio:RemoteSecrets", name, None, opts)
        self._name = name
        self._args = args
        routing: dict[str, pulumi.Resource] = {}
        for cluster, member in args.members.items():
            peers = {each: args.members[each] for each in args.members if each != cluster}
            self._reader(cluster, member, [peer.trust_domain for peer in peers.values()])
            routing[cluster] = self._routing(cluster, member, peers)
        for here, there in permutations(args.members, 2):
            self._remote_secret(here, args.members[here], there, routing[here])
        self.register_outputs({})

    def _options(self, member: RemoteSecretsMember, *after: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, provider=member.provider, depends_on=[*after])

    def _reader(self, cluster: str, member: RemoteSecretsMember, peers: Sequence[str]) -> None:
        settings = self._args.settings
        space, *access = load("remote_secrets/access.yaml", access_patches(settings, peers))
        namespace = register(f"{self._name}-{cluster}", space, self._options(member, *member.after))
        inside = self._options(member, namespace)
        register_all(f"{self._name}-{cluster}", load("remote_secrets/network-policies.yaml"), inside)
        made = register_all(f"{self._name}-{cluster}", access, inside)
        workload = load_one("remote_secrets/reader.yaml", {"spec": {"replicas": settings.replicas}})
        (workload,) = with_images([workload], self._args.images)
        register(f"{self._name}-{cluster}", workload, self._options(member, *made.values()))

    def _routing(
        self, cluster: str, member: RemoteSecretsMember, peers: Mapping[str, RemoteSecretsMember]
    ) -> pulumi.CustomResource:
        addresses = pulumi.Output.all(**{name: peer.east_west_address for name, peer in peers.items()})
        trust_domains = {name: peer.trust_domain for name, peer in peers.items()}
        data = addresses.apply(lambda known: routing_data(known, trust_domains))
        document = load_one(
            "remote_secrets/peers.yaml", {"metadata": {"namespace": member.istio_namespace}, "data": data}
        )
        return register(f"{self._name}-{cluster}", document, self._options(member))

    def _remote_secret(
        self, here: str, member: RemoteSecretsMember, there: str, routing: pulumi.Resource
    ) -> None:
        peer = self._args.members[there]
        # known with the peer's gateway: when the peer leaves, istiod is told before the gateway goes
        kubeconfig = pulumi.Output.from_input(peer.east_west_address).apply(
            lambda _: json.dumps(remote_kubeconfig(there))
        )
        document = load_one(
            "remote_secrets/remote-secret.yaml",
            {
                "metadata": {
                    "name": f"istio-remote-secret-{there}",
                    "namespace": member.istio_namespace,
                    "annotations": {"networking.istio.io/cluster": there},
                    "labels": {ROTATION: DRAINED if peer.drained else "true"},
                },
                "stringData": {there: kubeconfig},
            },
        )
        register(f"{self._name}-{here}", document, self._options(member, routing))


def access_patches(settings: IstioSettings, peers: Sequence[str]) -> dict[str, Document]:
    """Patches of manifests/remote_secrets/access.yaml: the injection label, mesh configs and the peers' istiods."""
    revisions = [settings.revision]
    if settings.previous_revision is not None:
        revisions.append(settings.previous_revision)
    (rights,) = [
        each
        for each in load("remote_secrets/access.yaml")
        if each["kind"] == "Role" and each["metadata"]["name"] == NAMESPACE
    ]
    (rule,) = rights["rules"]
    (policy,) = [each for each in load("remote_secrets/access.yaml") if each["kind"] == "AuthorizationPolicy"]
    (allowed,) = policy["spec"]["rules"]
    principals = [
        f"{domain}/ns/istio-system/sa/{istiod_name(revision)}" for domain in peers for revision in revisions
    ]
    configs = [f"istio-{revision}" if revision else "istio" for revision in revisions]
    return {
        f"Namespace/{NAMESPACE}": {"metadata": {"labels": injected_by(settings.revision)}},
        f"Role/{NAMESPACE}": {"rules": [{**rule, "resourceNames": configs}]},
        "AuthorizationPolicy/remote-access": {
            "spec": {"rules": [{**allowed, "from": [{"source": {"principals": principals}}]}]}
        },
    }


def routing_data(addresses: Mapping[str, str], trust_domains: Mapping[str, str]) -> dict[str, str]:
    """The files of ConfigMap istio-peers.

    Args:
        addresses: IP or name of the east-west gateway by peer.
        trust_domains: SPIFFE trust domain by peer.
    """
    routes = load_one("istio/peers-routes.yaml")
    routes["virtual_hosts"][0]["routes"] = [route for peer in addresses for route in peer_routes(peer)]
    return {
        "clusters.json": resources(
            [peer_cluster(peer, address, trust_domains[peer]) for peer, address in addresses.items()]
        ),
        "routes.json": resources([routes]),
    }


def peer_cluster(peer: str, address: str, trust_domain: str) -> Document:
    """The Envoy cluster of a peer's reader; Envoy accepts no other identity there."""
    endpoint = {"address": {"socket_address": {"address": address, "port_value": PORT}}}
    identity = f"spiffe://{trust_domain}/ns/{NAMESPACE}/sa/remote-access"
    names = [{"san_type": "URI", "matcher": {"exact": identity}}]
    validation = {"default_validation_context": {"match_typed_subject_alt_names": names}}
    return load_one(
        "remote_secrets/peer-cluster.yaml",
        {
            "name": peer,
            "load_assignment": {
                "cluster_name": peer,
                "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
            },
            "transport_socket": {
                "typed_config": {"common_tls_context": {"combined_validation_context": validation}}
            },
        },
    )


def peer_routes(peer: str) -> list[dict[str, Any]]:
    """The routes to a peer; the first match wins. Requests for Secrets, which readers may not read, get an empty list.

    istiod would not count the peer as synced otherwise, and with PILOT_ENABLE_REMOTE_CREDENTIALS_CONTROLLER=false,
    which stops the requests, Istio 1.31 ends with a nil pointer.
    """

    def asked(parameter: str) -> dict[str, Any]:
        return {"path": f"/{peer}{SECRETS}", "query_parameters": [{"name": parameter, "present_match": True}]}

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        kind = {"key": "content-type", "value": "application/json"}
        return {
            "direct_response": {"status": 200, "body": {"inline_string": json.dumps(body)}},
            "response_headers_to_add": [{"header": kind, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
        }

    # istiod ends a watch that it waits for with its answer only, and until then takes no change of any remote secret
    delay = {"fixed_delay": "5s", "percentage": {"numerator": 100}}
    fault = {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault", "delay": delay}
    return [
        # the client falls back to a list
        {"match": asked("sendInitialEvents"), "direct_response": {"status": 422}},
        {"match": asked("watch"), **answer(NOTHING_NEW), "typed_per_filter_config": {FAULT: fault}},
        {"match": {"path": f"/{peer}{SECRETS}"}, **answer(EMPTY_LIST)},
        {
            "match": {"prefix": f"/{peer}/"},
            "route": {"cluster": peer, "prefix_rewrite": "/", "timeout": "0s"},
        },
    ]


def remote_kubeconfig(peer: str) -> Document:
    """A kubeconfig for istiod that leads to the peer through the Envoy beside it, without credentials."""
    return load_one(
        "remote_secrets/kubeconfig.yaml",
        {
            "clusters": [{"name": peer, "cluster": {"server": f"{LOCAL}/{peer}"}}],
            "users": [{"name": peer, "user": {}}],
            "contexts": [{"name": peer, "context": {"cluster": peer, "user": peer}}],
            "current-context": peer,
        },
    )
