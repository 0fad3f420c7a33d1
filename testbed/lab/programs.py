"""The command line and configuration files of every program that runs on a node."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from testbed.lab.config import Cluster, Node
from testbed.lab.paths import State

CNI_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin")
# the node's folder of CNI plugins, where DaemonSets such as istio-cni install theirs
CNI_BIN = "/opt/cni/bin"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
WORKER = ("containerd", "kubelet", "kube-proxy")
CONTROL_PLANE = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "lab-controller",
)
RESOLVER = "coredns"
PAUSE = "registry.k8s.io/pause:3.10"


@dataclass(frozen=True)
class Program:
    """A program that the node keeps running: its arguments, environment variables, and the address it waits for."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, int] | None = None


@dataclass(frozen=True)
class NodeContext:
    """The node of some programs, with the folders of its state and tools."""

    cluster: Cluster
    node: Node
    state: State
    tools: Path
    cgroup: str

    @property
    def folder(self) -> Path:
        return self.state.node(self.cluster.name, self.node.name)

    @property
    def pki(self) -> Path:
        return self.state.pki(self.cluster.name)


def programs(context: NodeContext, python: str) -> list[Program]:
    """The node's programs: on the first node of a cluster the control plane too."""
    own = _control_plane(context, python) if context.node.control_plane else []
    resolver = [_resolver(context)] if context.node in context.cluster.resolvers else []
    return [*own, *resolver, *_worker(context)]


def program_names(cluster: Cluster, node: Node) -> set[str]:
    """The names of the programs that run on a node of a cluster."""
    resolver = {RESOLVER} if node in cluster.resolvers else set[str]()
    return {*WORKER, *resolver, *(CONTROL_PLANE if node.control_plane else ())}


def resolvers(context: NodeContext) -> list[str]:
    """The addresses of the cluster's resolvers, the node's own first."""
    nodes = sorted(context.cluster.resolvers, key=lambda node: node != context.node)
    return [str(node.address) for node in nodes]


def write_configs(context: NodeContext) -> None:
    """Writes the programs' configuration files."""
    write = {
        "containerd.toml": _containerd(),
        "kubelet.yaml": yaml.safe_dump(_kubelet(context)),
        "resolv.conf": "".join(f"nameserver {address}\n" for address in resolvers(context)),
        "Corefile": _corefile(context),
        "10-lab.conflist": json.dumps(_network(context.node)),
    }
    for name, content in write.items():
        (context.folder / name).write_text(content)


def _control_plane(context: NodeContext, python: str) -> list[Program]:
    pki, cluster, tools = context.pki, context.cluster, context.tools
    api = ("127.0.0.1", cluster.port)
    etcd = "http://127.0.0.1:2379"
    # the lab's data need not survive a power failure, and fsync is slow on small machines
    store = [f"{tools}/etcd", f"--data-dir={context.folder}/etcd", "--unsafe-no-fsync", "--logger=zap"]
    store += [
        f"--listen-client-urls={etcd}",
        f"--advertise-client-urls={etcd}",
        "--listen-peer-urls=http://127.0.0.1:2380",
    ]
    kubeconfig = "--kubeconfig={}"
    return [
        Program("etcd", store, {"GOGC": "50"}),
        Program("kube-apiserver", api_server(tools, pki, cluster, etcd), after=("127.0.0.1", 2379)),
        Program(
            "kube-controller-manager",
            controller_manager(tools, pki),
            after=api,
        ),
        Program(
            "kube-scheduler",
            [
                f"{tools}/kube-scheduler",
                kubeconfig.format(pki / "scheduler.kubeconfig"),
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
            ],
            after=api,
        ),
        Program(
            "lab-controller",
            [
                python,
                "-m",
                "testbed.lab.controller",
                "--cluster",
                cluster.name,
                "--state",
                str(context.state.root),
            ],
            after=api,
        ),
    ]


def controller_manager(tools: Path, pki: Path) -> list[str]:
    """The command line of kube-controller-manager, which listens on the loopback interface only."""
    return [
        f"{tools}/kube-controller-manager",
        f"--kubeconfig={pki / 'controller-manager.kubeconfig'}",
        f"--service-account-private-key-file={pki}/service-accounts.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--allocate-node-cidrs=false",
        "--bind-address=127.0.0.1",
    ]


def api_server(tools: Path, pki: Path, cluster: Cluster, etcd: str) -> list[str]:
    """The command line of kube-apiserver."""
    return [
        f"{tools}/kube-apiserver",
        f"--etcd-servers={etcd}",
        f"--service-cluster-ip-range={cluster.services}",
        f"--advertise-address={cluster.control_plane.address}",
        f"--secure-port={cluster.port}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={pki}/service-accounts.pub",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
    ]


def _resolver(context: NodeContext) -> Program:
    command = [f"{context.tools}/coredns", "-conf", f"{context.folder}/Corefile"]
    return Program(RESOLVER, command, after=_api(context))


def _api(context: NodeContext) -> tuple[str, int]:
    return str(context.cluster.control_plane.address), context.cluster.port


def _worker(context: NodeContext) -> list[Program]:
    pki, cluster, node, tools = context.pki, context.cluster, context.node, context.tools
    api = _api(context)
    labels = ",".join(f"{key}={value}" for key, value in node.labels.items())
    return [
        Program("containerd", ["containerd", "-c", f"{context.folder}/containerd.toml"]),
        Program(
            "kubelet",
            [
                f"{tools}/kubelet",
                f"--config={context.folder}/kubelet.yaml",
                f"--kubeconfig={pki}/{node.name}.kubeconfig",
                f"--hostname-override={node.name}",
                f"--node-ip={node.address}",
                f"--node-labels={labels}",
            ],
            after=api,
        ),
        Program(
            "kube-proxy",
            [
                f"{tools}/kube-proxy",
                f"--kubeconfig={pki}/proxy.kubeconfig",
                "--proxy-mode=iptables",
                f"--hostname-override={node.name}",
                f"--cluster-cidr={cluster.pods}",
                # these leave the machine's conntrack limits as they are
                "--conntrack-max-per-core=0",
                "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0",
            ],
            after=api,
        ),
    ]


def _containerd() -> str:
    return f"""version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # root may lack CAP_SYS_RESOURCE, without which scores below one's own are refused
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_BIN}"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def _kubelet(context: NodeContext) -> dict[str, object]:
    pki, node = context.pki, context.node
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": context.cgroup,
        "clusterDNS": resolvers(context),
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%", "memory.available": "100Mi"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": False,
        "maxPods": 110,
        "nodeStatusUpdateFrequency": "5s",
        "oomScoreAdj": 0,
        "registerWithTaints": [dict(taint) for taint in node.taints],
        "resolvConf": f"{context.folder}/resolv.conf",
        "serializeImagePulls": False,
        "syncFrequency": "10s",
        "tlsCertFile": f"{pki}/{node.name}.crt",
        "tlsPrivateKeyFile": f"{pki}/{node.name}.key",
    }


def _corefile(context: NodeContext) -> str:
    return f""".:53 {{
  ready {context.node.address}:8181
  errors
  cache 5
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {context.pki}/lab.kubeconfig
    pods insecure
  }}
}}
"""


def _network(node: Node) -> dict[str, object]:
    # with ptp, unlike bridge, traffic between pods of one node passes the node's rules for Services
    return {
        "cniVersion": "1.0.0",
        "name": "lab",
        "plugins": [
            {
                "type": "ptp",
                "mtu": 1500,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-ipam",
                    "ranges": [[{"subnet": str(node.pods)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
