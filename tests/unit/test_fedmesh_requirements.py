"""What `fedmesh verify --pre` makes of clusters before anything is installed."""

from pathlib import Path

import pytest
import yaml
from fedmesh_samples import FakeApi, node, pod
from kubernetes.utils.quantity import parse_quantity

from fedmesh import cli
from fedmesh.kube import KubeError
from fedmesh.probe import Janitor
from fedmesh.reading import LiveCluster
from fedmesh.topology import Member, Topology
from fedmesh.verify import command, requirements, room
from fedmesh.verify.checks import PRE
from fedmesh.verify.model import Failed, Mesh, Severity, Warned
from fedmesh.verify.requirements import (
    EXEMPT,
    REVIEWS,
    SERVICES,
    addresses_of,
    judge_addresses,
    judge_api_server,
    judge_others,
    judge_ranges,
    judge_reserved,
    judge_storage,
    judge_versions,
)
from fedmesh.verify.room import Room, free_of, judge_room, requests_of
from fedmesh.verify.runner import run

MANIFESTS = Path(__file__).parents[2] / "manifests"
MEMBERS = tuple(Member(f"cluster-{n}", f"td{n}", f"network-{n}", None, "") for n in (1, 2))
RESERVED = {"key": "dedicated", "value": "spire-server", "effect": "NoExecute"}


def machine(name, *, cidr="10.1.0.0/24", address="192.168.1.1", cpu="4", labels=None, taints=()):
    made = node(name, taints=taints)
    made["metadata"]["labels"] = {
        "topology.kubernetes.io/region": "r",
        "topology.kubernetes.io/zone": "z",
        **(labels or {}),
    }
    made["spec"]["podCIDRs"] = [cidr]
    made["status"] |= {
        "nodeInfo": {"kubeletVersion": "v1.34.4"},
        "addresses": [{"type": "InternalIP", "address": address}],
        "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"},
    }
    return made


def reserved(name="spire", **kind):
    return machine(name, labels={"dedicated": "spire-server"}, taints=[RESERVED], **kind)


def storage_class(name, default=False, provisioner="ebs.csi.aws.com"):
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {"metadata": {"name": name, "annotations": annotations}, "provisioner": provisioner}


class Bare(FakeApi):
    """A cluster without a mesh; `allowed` decides reviews, `addresses` are those of new Services."""

    def __init__(self, number, allowed=lambda _: True, addresses=("203.0.113.9",)):
        self.allowed = allowed
        address = f"192.168.{number}.1"
        super().__init__(
            {
                "/version": {"gitVersion": "v1.34.4"},
                "/api/v1/nodes": [
                    machine("worker", cidr=f"10.{number}.0.0/24", address=address),
                    reserved(cidr=f"10.{number}.1.0/24", address=f"192.168.{number}.2"),
                ],
                "/api/v1/namespaces": [],
                "/api/v1/pods": [],
                "/api/v1/services": [],
                "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases": [],
                "/apis/networking.k8s.io/v1/servicecidrs": [{"spec": {"cidrs": [f"10.10{number}.0.0/16"]}}],
                "/apis/storage.k8s.io/v1/storageclasses": [storage_class("gp3", default=True)],
            }
        )
        self.addresses = addresses

    def items(self, path, **query):
        return [] if "labelSelector" in query else super().items(path)

    def clock_ahead(self):
        return 0.0

    def create(self, path, body):
        super().create(path, body)
        if path == REVIEWS:
            return {"status": {"allowed": self.allowed(body["spec"]["resourceAttributes"])}}
        ingress = [{"ip": address} for address in self.addresses]
        self.answers[f"{path}/{body['metadata']['name']}"] = {
            **body,
            "status": {"loadBalancer": {"ingress": ingress}},
        }
        return body


def results(*apis, topology=None):
    clusters = {m.name: LiveCluster(m, api) for m, api in zip(MEMBERS, apis, strict=True)}
    janitor = Janitor()
    mesh = Mesh(topology or Topology("blue", MEMBERS), clusters, janitor)
    try:
        return run(mesh, PRE, {}, 5)
    finally:
        assert janitor.clean() == []


def test_clusters_that_meet_every_requirement_pass_and_keep_nothing():
    one, two = Bare(1), Bare(2)
    found = results(one, two)
    assert [f"{each.name}: {each.detail}" for each in found if not each.ok] == []
    for api in (one, two):
        made = [f"{path}/{body['metadata']['name']}" for path, body in api.created if path != REVIEWS]
        assert len(made) == 1
        assert made[0].startswith(SERVICES)
        assert api.deleted == made


def test_the_command_reports_each_requirement_that_is_not_met(monkeypatch, capsys):
    poor = Bare(1, allowed=lambda right: right["resource"] == "pods", addresses=("127.0.0.1",))
    poor.answers["/api/v1/nodes"] = [machine("worker", cpu="100m")]
    poor.answers["/apis/storage.k8s.io/v1/storageclasses"] = []
    poor.answers["/version"] = {"gitVersion": "v1.31.9"}
    clusters = {"cluster-1": LiveCluster(MEMBERS[0], poor)}
    monkeypatch.setattr(command, "connect", lambda *_: (clusters, {"cluster-2": "no route"}))
    assert command.verify(Topology("blue", MEMBERS), pre=True, timeout=5) == 1
    told = capsys.readouterr().out
    for part in (
        "no route",
        "v1.31.9 is older than 1.33",
        "create, patch, delete namespaces",
        "no node has the label dedicated=spire-server",
        "no StorageClass is the default; there are: none",
        "the address 127.0.0.1 cannot be reached",
        "all nodes together have",
        "docs/troubleshooting.md#a-node-is-reserved-for-the-spire-server",
    ):
        assert part in told


def test_clusters_that_the_program_creates_are_not_checked(monkeypatch, capsys):
    created = tuple(Member(m.name, m.trust_domain, m.network, None, "", created=True) for m in MEMBERS)
    monkeypatch.setattr(command, "connect", lambda *_: pytest.fail("nothing to connect to"))
    assert command.verify(Topology("blue", created), pre=True) == 0
    assert "cluster-2: `pulumi up` creates this cluster" in capsys.readouterr().err


def test_pre_is_an_option_of_verify(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_mesh", lambda *_: (Topology("blue", MEMBERS), tmp_path))
    monkeypatch.setattr("fedmesh.verify.account.load", lambda *_: None)
    monkeypatch.setattr("fedmesh.verify.command.verify", lambda _mesh, **kind: asked.update(kind) or 0)
    assert cli.main(["verify", "--pre"]) == 0
    assert asked["pre"] is True


# Versions


def test_versions_are_judged_by_their_minor_number():
    assert judge_versions("v1.33.0", ["v1.36.1-gke.100"]) == "v1.33.0"
    with pytest.raises(Failed, match=r"v1\.31\.4 is older than 1\.33"):
        judge_versions("v1.34.0", ["v1.31.4"])
    with pytest.raises(Warned, match=r"v1\.40\.0 is newer than 1\.36"):
        judge_versions("v1.40.0", [])


# Rights


def test_an_administrator_is_asked_one_question():
    api = Bare(1)
    found = [each for each in results(api, Bare(2)) if "may create" in each.name]
    assert [each.detail for each in found] == ["all rights", "all rights"]
    assert len([path for path, _ in api.created if path == REVIEWS]) == 1


def test_a_user_with_every_single_right_passes_and_missing_ones_are_listed():
    def no_administrator(right):
        return right["resource"] != "*"

    def no_roles(right):
        return no_administrator(right) and right["resource"] != "clusterroles"

    first, second = (
        each for each in results(Bare(1, no_administrator), Bare(2, no_roles)) if "may create" in each.name
    )
    assert (first.ok, first.detail) == (True, "all that the mesh needs")
    assert second.detail == "not allowed: create, patch, delete clusterroles.rbac.authorization.k8s.io"


def test_every_kind_of_the_manifests_is_among_the_rights_that_are_asked_for():
    # merged into other documents, or no object of Kubernetes
    others = {"ControllerManagerConfig", "Config"}
    needed = set()
    for file in MANIFESTS.rglob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            if isinstance(document, dict) and "kind" in document and document["kind"] not in others:
                needed.add((document["apiVersion"].rpartition("/")[0], plural(document["kind"])))
    asked = {(group, name) for group, names in requirements.RESOURCES.items() for name in names}
    assert {each for each in needed if not each[1].endswith("patches")} <= asked


def plural(kind):
    name = kind.lower()
    if name.endswith("y") and not name.endswith("ey") and not name.endswith("ay"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "ch")) else f"{name}s"


# Nodes


def test_a_reserved_node_needs_label_taint_and_readiness():
    assert judge_reserved([machine("a"), reserved("b")]) == "b"
    with pytest.raises(Failed, match="no node has the label"):
        judge_reserved([machine("a")])
    with pytest.raises(Failed, match="c has the taint only"):
        judge_reserved([machine("c", taints=[RESERVED])])
    with pytest.raises(Warned, match="the label but not the taint"):
        judge_reserved([machine("d", labels={"dedicated": "spire-server"})])
    late = reserved("e")
    late["status"]["conditions"][0]["status"] = "False"
    with pytest.raises(Failed, match="e is not ready"):
        judge_reserved([late])


# Storage


@pytest.mark.parametrize(
    ("classes", "wanted", "created", "found"),
    [
        ([], "gp3", True, "`pulumi up` creates gp3"),
        ([storage_class("a"), storage_class("b", default=True)], "", False, "b"),
        ([storage_class("a")], "a", False, "a"),
    ],
)
def test_a_storage_class_is_named_default_or_created(classes, wanted, created, found):
    assert judge_storage(classes, wanted, created) == found


@pytest.mark.parametrize(
    ("classes", "wanted", "told"),
    [
        ([storage_class("a")], "", "no StorageClass is the default; there are: a"),
        ([storage_class("a", default=True)], "b", "no StorageClass is named b"),
        ([storage_class("a", True, "kubernetes.io/no-provisioner")], "", "does not provision volumes"),
    ],
)
def test_a_storage_class_that_is_missing_or_static_is_told(classes, wanted, told):
    with pytest.raises(Failed, match=told):
        judge_storage(classes, wanted, False)


# Addresses


def test_an_address_must_come_and_lead_to_other_machines():
    assert judge_addresses(["nlb.example", "10.0.0.7"]) == "nlb.example, 10.0.0.7"
    with pytest.raises(Failed, match="has no address after 60 s"):
        judge_addresses(None)
    with pytest.raises(Failed, match=r"127\.0\.0\.1 cannot be reached"):
        judge_addresses(["127.0.0.1"])


def test_an_api_server_on_the_loopback_needs_another_url_for_the_peers():
    assert judge_api_server("https://api.example:6443") == "https://api.example:6443"
    for url in ("https://127.0.0.1:40123", "https://localhost:6443", "https://[::1]:6443"):
        with pytest.raises(Failed, match="this machine only"):
            judge_api_server(url)


def test_without_kiali_no_peer_needs_the_api_server():
    assert judge_api_server("https://127.0.0.1:40123", kiali=False) == "not needed without Kiali"


def cluster_with(number, nodes, servicecidrs=()):
    api = Bare(number)
    api.answers["/api/v1/nodes"] = nodes
    api.answers["/apis/networking.k8s.io/v1/servicecidrs"] = servicecidrs
    return addresses_of(LiveCluster(MEMBERS[number - 1], api))


def test_a_peers_node_in_the_own_pod_range_fails_and_equal_pod_ranges_are_a_warning():
    own = cluster_with(1, [machine("a", cidr="10.1.0.0/16")])
    inside = cluster_with(2, [machine("b", cidr="10.2.0.0/16", address="10.1.7.7")])
    with pytest.raises(Failed, match=r"10\.1\.7\.7 of cluster-2 lies in 10\.1\.0\.0/16"):
        judge_ranges(own, {"cluster-2": inside})
    same = cluster_with(2, [machine("b", cidr="10.1.0.0/16", address="192.168.2.1")])
    with pytest.raises(Warned, match=r"10\.1\.0\.0/16 overlaps 10\.1\.0\.0/16 of cluster-2"):
        judge_ranges(own, {"cluster-2": same})
    apart = cluster_with(2, [machine("b", cidr="fd00::/64", address="192.168.2.1")])
    assert judge_ranges(own, {"cluster-2": apart}) == "10.1.0.0/16"


def test_service_ranges_are_left_out_where_kubernetes_does_not_show_them():
    old = cluster_with(1, [machine("a")], KubeError("no such kind", 404))
    assert [str(each) for each in old.ranges] == ["10.1.0.0/24"]


# Room


def busy(on, cpu, namespace="apps", phase="Running", **kind):
    spec = {
        "nodeName": on,
        "containers": [{"resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}],
        **kind,
    }
    return {"metadata": {"name": "p", "namespace": namespace}, "spec": spec, "status": {"phase": phase}}


def test_what_is_free_leaves_out_ended_pods_and_the_meshs_own():
    pods = [busy("a", "500m"), busy("a", "1", phase="Succeeded"), busy("a", "1", "spire"), busy("b", "1")]
    assert free_of(machine("a"), pods) == Room(3.5, 7 * 2**30, 109)


def test_requests_are_those_of_the_scheduler():
    sidecar = {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}}
    largest = {"resources": {"requests": {"cpu": "2", "memory": "64Mi"}}}
    assert requests_of(busy("a", "200m", initContainers=[sidecar, largest])) == Room(2.0, 2**30, 1)
    assert requests_of(busy("a", "200m", initContainers=[sidecar])).cpu == pytest.approx(0.3)


def test_nodes_need_room_for_their_own_pods_and_together_for_the_mesh():
    nodes = [machine("a"), reserved("b")]
    assert "are free" in judge_room(nodes, [], 1)
    with pytest.raises(Failed, match=r"a has 0\.00 of 0\.04 CPUs"):
        judge_room(nodes, [busy("a", "4")], 1)
    with pytest.raises(Failed, match=r"b has 0\.10 of 0\.11 CPUs for the SPIRE server"):
        judge_room(nodes, [busy("b", "3900m")], 1)
    with pytest.raises(Failed, match=r"all nodes together have 1\.46 of 1\.61 CPUs"):
        judge_room(nodes, [busy("a", "2500m")], 10)


def requests_in(document):
    """CPU and memory that a pod template or Helm values ask for, over all containers."""
    if isinstance(document, dict):
        asked = document.get("requests")
        if isinstance(asked, dict) and "cpu" in asked:
            yield parse_quantity(asked["cpu"]), parse_quantity(asked["memory"])
        for each in document.values():
            yield from requests_in(each)
    elif isinstance(document, list):
        for each in document:
            yield from requests_in(each)


def total(*files):
    found = [
        each
        for file in files
        for document in yaml.safe_load_all((MANIFESTS / file).read_text())
        for each in requests_in(document)
    ]
    return float(sum(cpu for cpu, _ in found)), float(sum(memory for _, memory in found))


SIDECAR = (0.02, 48 * 2**20)


@pytest.mark.parametrize(
    ("needed", "asked"),
    [
        (room.PER_NODE, total("spire/agent.yaml", "spire/csi-driver.yaml")),
        (room.PER_SERVER, total("spire/server.yaml")),
    ],
)
def test_the_room_of_spire_is_what_its_manifests_request(needed, asked):
    assert (needed.cpu, needed.memory) == pytest.approx(asked)


def test_the_room_of_the_control_plane_and_the_rest_covers_what_the_manifests_request():
    istiod, gateways = total("istio/istiod-values.yaml"), total("istio/gateway-values.yaml")
    # the values of istiod hold those of sidecars too
    assert room.PER_REPLICA.cpu == pytest.approx(istiod[0] - SIDECAR[0] + 2 * gateways[0])
    assert room.PER_REPLICA.memory == pytest.approx(istiod[1] - SIDECAR[1] + 2 * gateways[1])
    rest = total("observability/prometheus.yaml", "samples/sleep.yaml", "samples/helloworld.yaml")
    assert room.PER_CLUSTER.cpu >= rest[0] + 2 * SIDECAR[0]
    assert room.PER_CLUSTER.memory >= rest[1] + 2 * SIDECAR[1]


def test_only_what_a_cluster_needs_is_fatal():
    warnings = [each.name for each in PRE if each.severity is Severity.WARNING]
    assert warnings == ["pods of other software can be recreated"]


AGENT = {"tolerations": [{"operator": "Exists"}], "priorityClassName": "system-node-critical"}


@pytest.mark.parametrize(
    ("spec", "labels", "complaint"),
    [
        ({"tolerations": [{"operator": "Exists"}]}, {}, "logs/agent tolerates the taint"),
        ({"tolerations": [{"key": "dedicated"}]}, {}, "logs/agent tolerates the taint"),
        ({"priorityClassName": "system-node-critical"}, {}, "logs/agent has a system priority"),
        (
            AGENT,
            {"pod-security.kubernetes.io/enforce": "privileged", "istio-injection": "enabled"},
            "tolerates",
        ),
        ({"hostNetwork": True}, {}, "logs/agent has hostNetwork"),
        ({"containers": [{"name": "a", "ports": [{"hostPort": 80}]}]}, {}, "takes port 80 of its node"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/proc"}}]}, {}, "mounts /proc of its node"),
        ({"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}, {}, ""),
        ({"hostNetwork": True}, {"pod-security.kubernetes.io/enforce": "privileged"}, ""),
        ({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, {}, ""),
        (AGENT, {"fedmesh.dev/platform": "true"}, ""),
        (AGENT, {"pod-security.kubernetes.io/enforce": "privileged"}, ""),
    ],
)
def test_pods_that_would_be_refused_when_they_are_made_anew_are_named(spec, labels, complaint):
    agent = pod("agent", namespace="logs")
    agent["spec"] |= spec
    spaces = [{"metadata": {"name": "logs", "labels": labels}}]
    if complaint:
        with pytest.raises(Failed, match=complaint):
            judge_others([agent], spaces)
    else:
        assert judge_others([agent], spaces) == "no pod would be refused"


def test_the_platforms_namespaces_are_those_that_the_policies_exempt():
    for file in (MANIFESTS / "admission").glob("*.yaml"):
        policy = next(yaml.safe_load_all(file.read_text()))
        selector = policy["spec"]["matchConstraints"].get("namespaceSelector")
        if selector and selector["matchExpressions"][0]["operator"] == "NotIn":
            assert set(selector["matchExpressions"][0]["values"]) == EXEMPT, file.name
