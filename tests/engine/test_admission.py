"""The admission policies on a real API server: what a tenant asks for, beside what he may ask for."""

import json
import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from components.kube.manifests import FOLDER, merged
from fedmesh.attack.rights import steps
from fedmesh.attack.tokens import REFUSAL, routes
from fedmesh.verify.host_access import of_its_node
from fedmesh.verify.requirements import EXEMPT
from fedmesh.verify.strangers import takes_past
from testbed.lab.apiserver import running
from testbed.waiting import wait_until
from tests.engine.conftest import TOOLS, Server

TENANT = "tenant"
CONTAINER = {"name": "app", "image": "registry.example/app:1.0.0"}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "pod", "namespace": TENANT},
    "spec": {"containers": [CONTAINER]},
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "service", "namespace": TENANT},
    "spec": {"ports": [{"port": 80}]},
}
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}


ISTIO, GATEWAYS, EXTENSIONS = "networking.istio.io", "gateway.networking.k8s.io", "extensions.istio.io"
GROUPS = {
    **dict.fromkeys(("DestinationRule", "ServiceEntry", "VirtualService"), ISTIO),
    **dict.fromkeys(("BackendTLSPolicy", "Gateway"), GATEWAYS),
    **dict.fromkeys(("TrafficExtension", "WasmPlugin"), EXTENSIONS),
}
# Outside of the mesh: nobody's, and one that an administrator gave rights on nodes.
PLAIN, AGENTS = "plain", "agents"
OTHERS = "shop.shop.svc.cluster.local"
OWN = f"web.{TENANT}.svc.cluster.local"


def plural(kind: str) -> str:
    return f"{kind.lower()[:-1]}ies" if kind.endswith(("cy", "ry")) else f"{kind.lower()}s"


def definition(kind: str) -> dict[str, Any]:
    """A kind of Istio's or of Gateway API without a schema."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural(kind)}.{GROUPS[kind]}",
            "annotations": {"api-approved.kubernetes.io": "https://example.com"},
        },
        "spec": {
            "group": GROUPS[kind],
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural(kind)},
            "versions": [
                {
                    "name": "v1alpha1" if GROUPS[kind] == EXTENSIONS else "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": anything},
                }
            ],
        },
    }


def rule(kind: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "rule", "namespace": TENANT}
    version = "v1alpha1" if GROUPS[kind] == EXTENSIONS else "v1"
    return {"apiVersion": f"{GROUPS[kind]}/{version}", "kind": kind, "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An API server with the policies, and a namespace in the mesh whose owner may do all with pods and Services."""
    with running("admission", TOOLS, tmp_path_factory.mktemp("admission")) as made:
        found = Server(made.name, made.kubeconfig)
        for space in (TENANT, PLAIN, AGENTS):
            found.kubectl("create", "namespace", space)
            # Kubernetes' own roles for tenants are put together by a controller, which does not run here
            found.kubectl("create", "role", "owner", "-n", space, "--verb=*", "--resource=pods,services")
            found.kubectl("create", "rolebinding", "owner", "-n", space, "--role=owner", f"--user={TENANT}")
        found.kubectl("label", "namespace", TENANT, "istio-injection=enabled")
        found.kubectl("label", "namespace", AGENTS, "pod-security.kubernetes.io/enforce=privileged")
        for kind in GROUPS:
            found.kubectl("apply", "-f", "-", given=json.dumps(definition(kind)))
        rights = "--resource=" + ",".join(f"{plural(kind)}.{group}" for kind, group in GROUPS.items())
        found.kubectl("create", "role", "routes", "-n", TENANT, "--verb=*", rights)
        found.kubectl("create", "rolebinding", "routes", "-n", TENANT, "--role=routes", f"--user={TENANT}")
        found.kubectl("create", "clusterrole", "spaces", "--verb=create,patch,get", "--resource=namespaces")
        found.kubectl("create", "clusterrolebinding", "spaces", "--clusterrole=spaces", f"--user={TENANT}")
        found.kubectl("apply", "-f", "-", given=json.dumps(NODE))
        found.kubectl("apply", "-f", str(FOLDER / "admission"))
        yield found


def ask(server: Server, document: dict[str, Any], user: str | None = TENANT) -> str:
    """What the API server answers to a user, or to the administrator (None): "" where it would do as asked."""
    who = [f"--as={user}"] if user else []
    try:
        server.kubectl("create", "--dry-run=server", *who, "-f", "-", given=json.dumps(document))
    except AssertionError as refusal:
        return str(refusal)
    return ""


@pytest.fixture(scope="module")
def enforced(server: Server) -> Server:
    """The server once it has compiled the policies, which takes it a second or two."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        answer = ask(server, merged(SERVICE, {"spec": {"externalIPs": ["192.0.2.1"]}}))
        if "externalIPs" in answer:
            return server
        time.sleep(0.5)
    raise AssertionError(f"the policies do not hold: {answer}")


def pod(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return merged(deepcopy(POD), {"spec": spec or {}, "metadata": metadata})


def on_host(path: str, *, read_only: bool = False, **source: str) -> dict[str, Any]:
    mount = {"name": "host", "mountPath": "/host", "readOnly": read_only}
    volume = {"name": "host", "hostPath": {"path": path, **source}}
    return pod({"volumes": [volume], "containers": [{**CONTAINER, "volumeMounts": [mount]}]})


def contained(**fields: Any) -> dict[str, Any]:
    """A pod whose container has fields of its own."""
    return pod({"containers": [{**CONTAINER, **fields}]})


def secured(**context: Any) -> dict[str, Any]:
    return contained(securityContext=context)


def labelled(key: str, *, inside: bool = False, **spec: Any) -> dict[str, Any]:
    """A gateway of Gateway API that is in another network by one of its two labels."""
    labels = {key: "15443" if key.endswith("Port") else "network-2"}
    if inside:
        return rule("Gateway", infrastructure={"labels": labels}, **spec)
    return merged(rule("Gateway", **spec), {"metadata": {"labels": labels}})


# Whatever a pod could have of its node, by what the refusal names.
ON_NODES: list[tuple[dict[str, Any], str]] = [
    *(
        (on_host(path, read_only=True), "sockets, keys or devices")
        for path in (
            *("/", "/run", "/run/spire", "/var", "/var/run/spire", "/var/lib/kubelet/pods", "/etc"),
            *("/proc/1/root", "/dev", "/root", "/root/.kube", "//run", "/./run", "/usr/./x", "/opt/cni/bin"),
            *("/home", "/home/", "/home/admin", "/home/admin/.kube", "/home/admin/.ssh/", "/mnt", "/mnt/"),
            *("/mnt/k8s-disks", "/mnt/k8s-disks/0", "/mnt/stateful_partition/var", "/data/kubelet/pods"),
            *("/srv/containerd", "/media/docker/volumes", "/mnt/rancher/k3s"),
        )
    ),
    (on_host("/mnt/agent.sock", type="Socket"), "sockets, keys or devices"),
    (on_host("/usr"), "readOnly"),
    (on_host("/var/log"), "readOnly"),
    (pod({"hostNetwork": True}), "namespace of its node"),
    (pod({"hostPID": True}), "namespace of its node"),
    (pod({"hostIPC": True}), "namespace of its node"),
    (secured(privileged=True), "privileged"),
    (
        pod({"initContainers": [{**CONTAINER, "name": "i", "securityContext": {"privileged": True}}]}),
        "privileged",
    ),
    (pod({"securityContext": {"windowsOptions": {"hostProcess": True}}, "hostNetwork": True}), "privileged"),
    *(
        (secured(capabilities={"add": [name]}), "capabilit")
        for name in ("SYS_ADMIN", "SYS_MODULE", "BPF", "DAC_READ_SEARCH", "SYS_RAWIO", "CAP_SYS_ADMIN", "ALL")
    ),
    *(
        (contained(ports=[{"containerPort": 8443, "hostPort": port}]), "port of its node")
        for port in (10250, 8080)
    ),
    (
        pod(
            {
                "initContainers": [
                    {**CONTAINER, "name": "i", "ports": [{"containerPort": 1, "hostPort": 10250}]}
                ]
            }
        ),
        "port of its node",
    ),
]
# Of no harm to the node by themselves: refused in the mesh only, as builders of images without root need them.
UNCONFINED: list[dict[str, Any]] = [
    pod({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
    secured(seccompProfile={"type": "Unconfined"}),
    pod({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}),
    secured(appArmorProfile={"type": "Unconfined"}),
    pod({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}),
    secured(seLinuxOptions={"type": "super_t"}),
    merged(secured(procMount="Unmasked"), {"spec": {"hostUsers": False}}),
]


PROXY: dict[str, Any] = {
    "name": "istio-proxy",
    "image": "docker.io/istio/proxyv2:1.31.0",
    "args": ["proxy", "router", "--domain", "x.svc.cluster.local", "--log_output_level=default:info"],
    "env": [
        {"name": "CA_ADDR", "value": "istiod.istio-system.svc:15012"},
        {"name": "TRUST_DOMAIN", "value": "x"},
    ],
}
# What the injector notes of a pod that Istio's chart `gateway` makes.
OVERRIDES = {
    "containers": [
        {
            "name": "istio-proxy",
            "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
            "resources": {"limits": {"memory": "1Gi"}},
            "volumeMounts": [
                {
                    "name": "kube-api-access-x",
                    "readOnly": True,
                    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                }
            ],
            "imagePullPolicy": "Always",
            "securityContext": {"runAsUser": 1337},
        }
    ]
}


def injected(overrides: Any = OVERRIDES, **proxy: Any) -> dict[str, Any]:
    """A gateway's pod after the injector has seen it."""
    notes = {"sidecar.istio.io/status": "{}", "inject.istio.io/templates": "gateway"}
    if overrides:
        notes["proxy.istio.io/overrides"] = overrides if isinstance(overrides, str) else json.dumps(overrides)
    return pod({"containers": [{**PROXY, **proxy}]}, annotations=notes)


def override(**fields: Any) -> dict[str, Any]:
    return {"containers": [{**OVERRIDES["containers"][0], **fields}]}


@pytest.mark.parametrize(
    "document",
    [
        pod(),
        injected(),
        injected(None),
        injected(image="docker.io/istio/proxyv2@sha256:" + "0" * 64),
        on_host("/usr", read_only=True),
        on_host("/var/log/pods", read_only=True),
        on_host("/home/build/.venv/lib", read_only=True),
        on_host("/data/postgres"),
        contained(ports=[{"containerPort": 10250}]),
        secured(capabilities={"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}),  # istio-init's
        secured(capabilities={"add": ["IPC_LOCK", "SYS_NICE", "SYS_PTRACE"]}),
        secured(privileged=False, seccompProfile={"type": "RuntimeDefault"}),
        pod({"tolerations": [{"key": "other", "operator": "Exists"}]}),
        pod(annotations={"inject.istio.io/templates": "sidecar,spire"}),
        pod(
            annotations={  # the injector's, with Istio's CNI plugin
                "sidecar.istio.io/interceptionMode": "REDIRECT",
                "traffic.sidecar.istio.io/includeInboundPorts": "*",
                "traffic.sidecar.istio.io/excludeInboundPorts": "15020",
            }
        ),
        pod(annotations={"proxy.istio.io/config": "{concurrency: 2}"}),
        pod(
            annotations={
                "proxy.istio.io/config": json.dumps({"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}})
            }
        ),
        pod(
            annotations={
                "sidecar.istio.io/userVolume": json.dumps([{"name": "roots", "secret": {"secretName": "x"}}]),
                "sidecar.istio.io/userVolumeMount": json.dumps(
                    [{"name": "roots", "mountPath": "/etc/ssl/certs"}]
                ),
            }
        ),
        pod({"priorityClassName": ""}),
        SERVICE,
        NAMESPACE,
        rule("VirtualService", hosts=[OWN]),
        rule("VirtualService", hosts=["web"]),
        rule("VirtualService", hosts=[OTHERS], exportTo=["."]),
        rule("VirtualService", hosts=[OTHERS], exportTo=[TENANT]),
        rule("VirtualService", hosts=["shop.example"], gateways=["istio-gateways/shop"]),
        rule("DestinationRule", host=OWN),
        rule("DestinationRule", host=OTHERS, exportTo=["."]),
        rule("ServiceEntry", hosts=["api.example"], exportTo=["."]),
        rule("ServiceEntry", hosts=["api"], addresses=["192.0.2.0/24"], exportTo=["."]),
        rule("ServiceEntry", hosts=[OWN]),
        rule("Gateway", gatewayClassName="istio", infrastructure={"labels": {"team": "shop"}}),
        rule(
            "DestinationRule", host="api.example", exportTo=["."], trafficPolicy={"tls": {"mode": "SIMPLE"}}
        ),
    ],
)
def test_a_tenant_gets_what_is_his(enforced: Server, document: dict[str, Any]) -> None:
    assert ask(enforced, document) == ""
    assert document["kind"] != "Pod" or not list(of_its_node(document))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (pod({"tolerations": [{"operator": "Exists"}]}), "toleration"),
        (pod({"tolerations": [{"key": "dedicated", "operator": "Exists"}]}), "toleration"),
        (pod({"nodeSelector": {"dedicated": "spire-server"}}), "nodeSelector"),
        (pod({"nodeName": "node-1"}), "chooses the node"),
        (pod({"priorityClassName": "system-node-critical"}), "priorities"),
        *ON_NODES,
        *((document, "confined") for document in UNCONFINED),
        (pod(annotations={"sidecar.istio.io/proxyImage": "evil.example/x"}), "proxy's image"),
        (pod(annotations={"sidecar.istio.io/bootstrapOverride": "x"}), "proxy's image"),
        *(
            (injected(None, image=image), "proxy's image")
            for image in ("evil.example/proxyv2:1.31.0", "docker.io/istio/proxyv2.evil:1")
        ),
        *(
            (injected(override(**fields)), "what runs in it")
            for fields in (
                {"image": "evil.example/x"},
                {"Image": "evil.example/x"},
                {"command": ["sh"]},
                {"args": ["proxy", "sidecar", "--templateFile=/mnt/x"]},
                {"env": [{"name": "CA_ADDR", "value": "mine.example:15012"}]},
                {"lifecycle": {"postStart": {"exec": {"command": ["sh"]}}}},
                {"volumeMounts": [{"name": "mine", "mountPath": "/var/run/secrets/workload-spiffe-uds"}]},
            )
        ),
        (injected({"initContainers": [{"name": "istio-init"}]}), "what runs in it"),
        (injected('{"containers":[{"name":"istio-proxy","\\u0063ommand":["sh"]}]}'), "what runs in it"),
        *(
            (injected(None, **fields), "what the proxy runs")
            for fields in (
                {"command": ["sh"]},
                {"args": ["proxy", "sidecar", "--templateFile=/mnt/x"]},
                {"args": ["request", "GET"]},
                {"env": [{"name": "CA_ADDR", "value": "mine.example:15012"}]},
                {"env": [{"name": "LD_PRELOAD", "value": "/mnt/x"}]},
            )
        ),
        (
            pod(
                annotations={
                    "proxy.istio.io/config": "proxyMetadata: {WORKLOAD_IDENTITY_SOCKET_FILE: socket}"
                }
            ),
            "identity and config",
        ),
        *(
            (pod(annotations={"proxy.istio.io/config": config}), "identity and config")
            for config in (
                '{"proxyMetadata": {"CA_ADDR": "mine.example:15012"}}',
                '{"proxyMetadata": {"\\u0043A_ADDR": "mine.example:15012"}}',
                "proxy_metadata: {ISTIO_META_TLS_SERVER_KEY: /mnt/key}",
                "discoveryAddress: mine.example:15012",
                "discovery_address: mine.example:15012",
                "custom_config_file: /mnt/envoy.json",
                # a tag of YAML hides the name discoveryAddress
                "{? !!binary ZGlzY292ZXJ5QWRkcmVzcw== : mine.example:15012}",
            )
        ),
        *(
            (pod(annotations={"sidecar.istio.io/userVolumeMount": mounts}), "mounted into the proxy")
            for mounts in (
                '[{"name": "mine", "mountPath": "/var/run/secrets/workload-spiffe-uds"}]',
                '[{"name": "mine", "mountPath": "/mnt/../var/run"}]',
                '[{"name": "mine", "mountPath": "/mnt/a"}, {"name": "mine", "mountPath" : "/"}]',
                '[{"name": "mine", "mount\\u0050ath": "/"}]',
            )
        ),
        (
            pod(annotations={"sidecar.istio.io/userVolume": '[{"name": "workload-socket", "emptyDir": {}}]'}),
            "place of the proxy's",
        ),
        (pod(annotations={"inject.istio.io/templates": "mine"}), "injection templates"),
        (pod(labels={"topology.istio.io/network": "network-2"}), "another network"),
        (rule("VirtualService", hosts=[OTHERS]), "not of the namespace"),
        (rule("VirtualService", hosts=["web", "*"]), "not of the namespace"),
        (rule("VirtualService", hosts=["shop.shop"]), "not of the namespace"),
        (rule("VirtualService", hosts=[OTHERS], gateways=["mesh"]), "not of the namespace"),
        (rule("VirtualService", hosts=[OTHERS], exportTo=[".", "shop"]), "not of the namespace"),
        (rule("DestinationRule", host=OTHERS), "not of the namespace"),
        (rule("DestinationRule", host="*.local", exportTo=["*"]), "not of the namespace"),
        (rule("ServiceEntry", hosts=[OTHERS]), "not of the namespace"),
        (rule("ServiceEntry", hosts=["helloworld"]), "not of the namespace"),
        *(
            (rule("ServiceEntry", hosts=[OWN], addresses=["10.96.0.10"], **more), "addresses")
            for more in ({}, {"exportTo": ["*"]}, {"exportTo": [".", "shop"]})
        ),
        (rule("TrafficExtension", lua={"inlineCode": "x"}), "directly"),
        (rule("WasmPlugin", url="oci://mine.example/x"), "directly"),
        (rule("DestinationRule", host=OWN, trafficPolicy={"tls": {"mode": "SIMPLE"}}), "own mutual TLS"),
        *(
            (
                rule("BackendTLSPolicy", targetRefs=[{"group": "", "kind": kind, "name": "web"}]),
                "own mutual TLS",
            )
            for kind in ("Service", "ServiceEntry")
        ),
        *(
            (labelled(key, inside=inside, gatewayClassName="istio-remote"), "gateway of a network")
            for key in ("topology.istio.io/network", "networking.istio.io/gatewayPort")
            for inside in (False, True)
        ),
        (merged(SERVICE, {"spec": {"externalIPs": ["192.0.2.1"]}}), "externalIPs"),
        (
            merged(SERVICE, {"metadata": {"labels": {"topology.istio.io/network": "n"}}}),
            "gateway of a network",
        ),
        (merged(NAMESPACE, {"metadata": {"labels": {"istio-injection": "enabled"}}}), "administer"),
        (merged(NAMESPACE, {"metadata": {"labels": {"fedmesh.dev/platform": "true"}}}), "administer"),
        (
            merged(NAMESPACE, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}),
            "administer",
        ),
    ],
)
def test_a_tenant_is_refused_what_leads_out(enforced: Server, document: dict[str, Any], reason: str) -> None:
    assert reason in ask(enforced, document)


@pytest.mark.parametrize("target", [*steps("x"), *routes(OTHERS, "x")])
def test_what_fedmesh_attack_tries_is_refused_by_a_policy(enforced: Server, target: str) -> None:
    _, document = {**steps("x"), **routes(OTHERS, "x")}[target]
    answer = ask(enforced, merged(document, {"metadata": {"namespace": TENANT}}))
    assert REFUSAL.search(answer), answer


# Annotations that say where inbound traffic goes.
REDIRECTIONS = [
    ("traffic.sidecar.istio.io/excludeInboundPorts", "80"),
    ("traffic.sidecar.istio.io/excludeInboundPorts", "15020,8080"),
    ("traffic.sidecar.istio.io/excludeInboundPorts", "15020,15090"),
    ("traffic.sidecar.istio.io/includeInboundPorts", ""),
    ("traffic.sidecar.istio.io/includeInboundPorts", "*"),
    ("traffic.sidecar.istio.io/excludeInterfaces", "eth0"),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", "net1"),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", "443"),
    ("istio.io/reroute-virtual-interfaces", "net1"),
    ("status.sidecar.istio.io/port", "8080"),
    ("status.sidecar.istio.io/port", "15020"),
    ("status.sidecar.istio.io/port", "0"),
    ("sidecar.istio.io/interceptionMode", "NONE"),
    ("sidecar.istio.io/interceptionMode", "TPROXY"),
    ("proxy.istio.io/config", "interceptionMode: NONE"),
    ("proxy.istio.io/config", "interceptionMode: 2"),
    ("proxy.istio.io/config", '{"interception_mode": "NONE"}'),
    ("proxy.istio.io/config", "interceptionMode: REDIRECT\ninterceptionMode:\n  NONE"),
    ("proxy.istio.io/config", '{"interceptionMode": "TPROXY", "concurrency": 2}'),
    ("proxy.istio.io/config", "interceptionMode: REDIRECT\n"),
    ("proxy.istio.io/config", "statusPort: 8080"),
    ("proxy.istio.io/config", "{status_port: 8080}"),
    ("proxy.istio.io/config", "{statusPort: 15020}"),
    ("proxy.istio.io/config", "statusPort: 150200"),
]


@pytest.mark.parametrize(("key", "value"), REDIRECTIONS)
def test_verify_names_the_annotations_that_the_policy_refuses(enforced: Server, key: str, value: str) -> None:
    assert ("inbound port" in ask(enforced, pod(annotations={key: value}))) is takes_past(key, value)


@pytest.mark.parametrize(("document", "reason"), ON_NODES)
def test_a_pod_outside_of_the_mesh_does_not_reach_its_node_either(
    enforced: Server, document: dict[str, Any], reason: str
) -> None:
    assert reason in ask(enforced, merged(document, {"metadata": {"namespace": PLAIN}}))
    assert list(of_its_node(document)), "verify does not name it"


@pytest.mark.parametrize("document", [document for document, _ in ON_NODES] + UNCONFINED)
def test_agents_of_nodes_run_where_an_administrator_lets_them(
    enforced: Server, document: dict[str, Any]
) -> None:
    assert ask(enforced, merged(document, {"metadata": {"namespace": AGENTS}})) == ""


def test_builders_of_images_without_root_run_outside_of_the_mesh(enforced: Server) -> None:
    for document in UNCONFINED:
        assert ask(enforced, merged(document, {"metadata": {"namespace": PLAIN}})) == ""


@pytest.mark.parametrize("name", sorted(EXEMPT - {"kube-system"}))
def test_a_tenant_does_not_take_a_name_that_the_policies_exempt(enforced: Server, name: str) -> None:
    space = merged(NAMESPACE, {"metadata": {"name": name}})
    assert "administer" in ask(enforced, space)
    assert ask(enforced, space, None) == ""


def test_what_was_there_before_the_policies_goes_on(enforced: Server) -> None:
    """Nobody asked its owner: controllers must be able to label it, and to free it of finalizers."""
    space = {"namespace": "earlier", "finalizers": ["example.com/held"]}
    notes = {"traffic.sidecar.istio.io/excludeInboundPorts": "80"}
    spec = {
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "system-node-critical",
        "hostNetwork": True,
    }
    before = merged(pod(spec, **space, annotations=notes), {"metadata": {"name": "before"}})
    external = merged(SERVICE, {"metadata": {"namespace": "earlier"}, "spec": {"externalIPs": ["192.0.2.1"]}})
    enforced.kubectl("create", "namespace", "earlier")
    enforced.kubectl("label", "namespace", "earlier", "istio-injection=enabled", "fedmesh.dev/platform=true")
    enforced.kubectl("create", "-f", "-", given=json.dumps(before))
    enforced.kubectl("create", "-f", "-", given=json.dumps(external))
    enforced.kubectl("label", "namespace", "earlier", "fedmesh.dev/platform-")
    try:
        after = merged(before, {"metadata": {"name": "after"}})
        # the API server hears of the label by a watch
        wait_until(lambda: bool(ask(enforced, after, None)), 30, lambda: "the label is not known", 0.2)
        enforced.kubectl("label", "pod", "before", "-n", "earlier", "seen=true")
        enforced.kubectl(
            "patch", "pod", "before", "-n", "earlier", "--type=merge", '-p={"metadata":{"finalizers":null}}'
        )
        enforced.kubectl("annotate", "service", "service", "-n", "earlier", "seen=true")
        with pytest.raises(AssertionError, match="externalIPs"):
            add = '-p={"spec":{"externalIPs":["192.0.2.1","192.0.2.2"]}}'
            enforced.kubectl("patch", "service", "service", "-n", "earlier", "--type=merge", add)
        with pytest.raises(AssertionError, match="inbound port"):
            other = "traffic.sidecar.istio.io/excludeInboundPorts=81"
            enforced.kubectl("annotate", "pod", "before", "-n", "earlier", "--overwrite", other)
    finally:
        enforced.kubectl("delete", "namespace", "earlier", "--wait=false")


@pytest.mark.parametrize("meshed", [False, True])
def test_pods_of_network_plugins_go_to_every_node(enforced: Server, meshed: bool) -> None:
    space = f"plugin-{meshed}".lower()
    enforced.kubectl("create", "namespace", space)
    try:
        mesh = ["istio-injection=enabled"] if meshed else []
        enforced.kubectl("label", "namespace", space, "pod-security.kubernetes.io/enforce=privileged", *mesh)
        for spec in (
            {"tolerations": [{"operator": "Exists"}]},
            {"priorityClassName": "system-node-critical"},
        ):
            assert bool(ask(enforced, pod(spec, namespace=space), None)) == meshed
    finally:
        enforced.kubectl("delete", "namespace", space, "--wait=false")


def test_administrators_put_namespaces_into_the_mesh(enforced: Server) -> None:
    meshed = merged(NAMESPACE, {"metadata": {"labels": {"istio-injection": "enabled"}}})
    assert ask(enforced, meshed, None) == ""


@pytest.mark.parametrize(("label", "open_"), [("dedicated", False), ("other", True)])
def test_a_node_does_not_make_itself_one_of_spires(enforced: Server, label: str, open_: bool) -> None:
    line = ["label", "node", "node-1", f"{label}=spire-server", "--dry-run=server"]
    if open_:
        enforced.kubectl(*line, "--as=system:node:node-1", "--as-group=system:nodes")
    else:
        with pytest.raises(AssertionError, match="must not give itself"):
            enforced.kubectl(*line, "--as=system:node:node-1", "--as-group=system:nodes")
