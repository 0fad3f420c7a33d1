"""SPIRE on one cluster, the only issuer of workload identities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import pulumi
import pulumi_kubernetes as k8s

from components.config.clusters import ClusterSpec
from components.config.images import ImageSettings
from components.config.mesh import ChartSpec, SpireSettings
from components.config.upstream import FILES
from components.kube.charts import release
from components.kube.last_known import ClusterState
from components.kube.load_balancers import LoadBalancerService
from components.kube.manifests import Document, as_json, load, load_one, with_images
from components.kube.objects import MANAGED, child_of, register, register_all, register_chain
from components.kube.workloads import load_balancer_address, restart_on

NAMESPACE, SERVER = "spire", "spire-server"
# agents attest the processes of their nodes, and the CSI driver mounts volumes into pods
POD_SECURITY = {"pod-security.kubernetes.io/enforce": "privileged"}
BUNDLE_PORT = 8443
PEER_BUNDLE = "spire-bundle-spiffe"
BUNDLE_KEY = "bundle"  # as in manifests/spire/server-config.yaml
OIDC_NAMESPACE = "spire-oidc"  # as in manifests/spire/oidc.yaml
# The key of the datastore's Secret, the variable that holds its value for the server, and where its files are.
CONNECTION, CONNECTION_VARIABLE, DATASTORE = "connectionString", "SPIRE_DATASTORE", "/run/spire/datastore"
WRITTEN_BY_SERVER = pulumi.ResourceOptions(ignore_changes=["data"])
# Attestation by AWS' instance identity documents. No selector of instance profiles: none is used, and IAM is not asked.
# The parent of a pod's entry is the agent of its node, whose providerID is aws:///<zone>/<instance>.
IID = {"agent_path_template": "/aws_iid/{{ .InstanceID }}", "disable_instance_profile_selectors": True}
IID_PARENT = (
    "spiffe://{{ .TrustDomain }}/spire/agent/aws_iid/{{ slice .NodeSpec.ProviderID"
    ' (len (printf "aws:///%s/" (index .NodeMeta.Labels "topology.kubernetes.io/zone"))) }}'
)
AGENT_DATA = "/var/lib/spire-agent"
CONFIG, KEY_POLICY = "/run/spire/config", "key-policy.json"
LEADER = {"leaderElect": True, "resourceName": "spire-controller-manager", "resourceNamespace": NAMESPACE}


@dataclass(frozen=True)
class AwsRole:
    """A role of the servers in AWS.

    Attributes:
        region: where their keys are.
        key_policy: the policy of each key, JSON.
        tags: the keys' tags.
        ready: resource that the servers' pods depend on.
    """

    region: str
    key_policy: pulumi.Input[str]
    tags: Mapping[str, str]
    ready: pulumi.Resource


@dataclass(frozen=True)
class SpireArgs:
    """Args of Spire.

    Attributes:
        cluster: the cluster's spec.
        cert_manager: resources that Issuers and Certificates depend on.
        storage_class: StorageClass of the server's volume, None for the cluster's default.
        crds: chart of SPIRE's CRDs.
        settings: lifetimes and sizes.
        images: where images come from.
        bundle_load_balancer: settings of the bundle endpoint's Service.
        last_known_state: state of the cluster if it is declared down.
        aws_role: the servers' role in AWS, None where they use nothing of it.
        database: files of the Secret of a database that the program makes, None for none.
    """

    cluster: ClusterSpec
    cert_manager: Sequence[pulumi.Resource]
    storage_class: pulumi.Input[str] | None
    crds: ChartSpec
    settings: SpireSettings
    images: ImageSettings = field(default_factory=ImageSettings)
    bundle_load_balancer: LoadBalancerService = field(default_factory=LoadBalancerService)
    last_known_state: ClusterState | None = None
    aws_role: AwsRole | None = None
    database: Mapping[str, pulumi.Input[str]] | None = None


class Spire(pulumi.ComponentResource):
    """SPIRE server with controller-manager, agent and CSI driver on every node.

    Outputs:
        bundle: the trust domain's bundle in SPIFFE's JSON form, as the server publishes it in the cluster.
        bundle_address: IP or name of the bundle endpoint's load balancer.
        crds: resource that objects of SPIRE's kinds depend on.
    """

    bundle: pulumi.Output[str]
    bundle_address: pulumi.Output[str]
    crds: pulumi.Resource

    def __init__(self, name: str, args: SpireArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:spire:Spire", name, None, opts)
        self._name = name
        self._args = args
        namespace = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": NAMESPACE, "annotations": MANAGED, "labels": POD_SECURITY},
            opts=pulumi.ResourceOptions(parent=self),
        )
        after_namespace = child_of(self, namespace)
        register_all(name, load("spire/network-policies.yaml"), after_namespace)
        self.crds = release(
            f"{name}-crds",
            args.crds,
            name="spire-crds",
            namespace=namespace.metadata.name,
            values={},
            opts=pulumi.ResourceOptions(parent=self),
        )
        oidc: list[pulumi.CustomResource] = self._oidc() if args.settings.oidc else []
        documents = load("spire/access.yaml")
        if args.settings.replicas > 1:
            documents += load("spire/several.yaml")
        if args.database:
            documents += load("spire/database.yaml", {"Secret/spire-database": {"stringData": args.database}})
        access = register_all(name, documents, after_namespace)
        services = self._services(after_namespace)
        self._csi_driver(child_of(self, *access.values()))
        bundles = self._bundles(after_namespace)
        root = self._root(child_of(self, namespace, *args.cert_manager))
        server = self._server(
            child_of(self, self.crds, *root, *access.values(), *services.values(), *bundles, *oidc)
        )
        published = register_all(name, load("spire/published.yaml"), child_of(self, server))
        self._agent(published["ConfigMapPatch/spire-bundle"])
        self.bundle = (
            args.last_known_state.bundle
            if args.last_known_state
            else self._read_bundle(published[f"ConfigMapPatch/{PEER_BUNDLE}"])
        )
        bundle_service = cast(k8s.core.v1.Service, services["Service/spire-bundle"])
        self.bundle_address = bundle_service.status.apply(load_balancer_address)
        self.register_outputs({"bundleAddress": self.bundle_address})

    def _root(self, opts: pulumi.ResourceOptions) -> list[pulumi.CustomResource]:
        upstream = self._args.settings.upstream.plugin
        return [] if upstream else [register_chain(self._name, load("spire/root.yaml"), opts)]

    def _services(self, opts: pulumi.ResourceOptions) -> Mapping[str, pulumi.CustomResource]:
        load_balancer = self._args.bundle_load_balancer
        patch = {"metadata": {"annotations": dict(load_balancer.annotations)}, "spec": load_balancer.spec}
        return register_all(self._name, load("spire/services.yaml", {"Service/spire-bundle": patch}), opts)

    def _csi_driver(self, opts: pulumi.ResourceOptions) -> None:
        documents = with_images(load("spire/csi-driver.yaml"), self._args.images)
        register_all(self._name, documents, opts)

    def _bundles(self, opts: pulumi.ResourceOptions) -> list[pulumi.CustomResource]:
        opts = pulumi.ResourceOptions.merge(opts, WRITTEN_BY_SERVER)
        return list(register_all(self._name, load("spire/bundles.yaml"), opts).values())

    def _oidc(self) -> list[pulumi.CustomResource]:
        namespace, bundle, *access = load("spire/oidc.yaml")
        name = f"{self._name}-oidc"
        opts = child_of(self, register(name, namespace, child_of(self)))
        written = register(name, bundle, pulumi.ResourceOptions.merge(opts, WRITTEN_BY_SERVER))
        return [written, *register_all(name, access, opts).values()]

    def _server(self, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
        args = self._args
        data: dict[str, pulumi.Input[str]] = {**server_data(args)}
        if args.aws_role:
            if args.settings.key_manager == "aws_kms":
                data[KEY_POLICY] = args.aws_role.key_policy
            opts = pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(depends_on=[args.aws_role.ready])
            )
        config, workload = with_images(
            load("spire/server.yaml", restart_on("StatefulSet/spire-server", pulumi.Output.all(**data))),
            args.images,
        )
        place_server(workload["spec"]["template"]["spec"], args.settings)
        workload["spec"]["replicas"] = args.settings.replicas
        claim = workload["spec"]["volumeClaimTemplates"][0]["spec"]
        claim["resources"]["requests"]["storage"] = args.settings.volume_size
        if args.storage_class is not None:
            claim["storageClassName"] = args.storage_class
        made = register(self._name, {**config, "data": data}, opts)
        after_config = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[made]))
        return register(self._name, workload, after_config)

    def _agent(self, published: pulumi.Resource) -> None:
        data = agent_data(self._args)
        config, workload = with_images(
            load(
                "spire/agent.yaml",
                {"ConfigMap/spire-agent": {"data": data}} | restart_on("DaemonSet/spire-agent", data),
            ),
            self._args.images,
        )
        if self._args.settings.node_attestor == "aws_iid":
            # an instance attests once: its agent keeps identity and key over restarts
            (volume,) = [v for v in workload["spec"]["template"]["spec"]["volumes"] if v["name"] == "data"]
            del volume["emptyDir"]
            volume["hostPath"] = {"path": AGENT_DATA, "type": "DirectoryOrCreate"}
        made = register(self._name, config, child_of(self, published))
        register(self._name, workload, child_of(self, made))

    def _read_bundle(self, published: pulumi.CustomResource) -> pulumi.Output[str]:
        # read in every run, so that a cluster that joins later starts with the current keys
        read = k8s.core.v1.ConfigMap.get(
            f"{self._name}-bundle",
            published.id.apply(lambda _: f"{NAMESPACE}/{PEER_BUNDLE}"),
            opts=child_of(self, published),
        )
        return read.data.apply(lambda data: (data or {})[BUNDLE_KEY])


def place_server(pod: Document, settings: SpireSettings) -> None:
    """Schedules the server's pod to its nodes, and gives it what upstream authority and datastore need."""
    (value,) = pod["nodeSelector"].values()
    pod["nodeSelector"] = {settings.node_label: value}
    pod["tolerations"][0]["key"] = settings.node_label
    server = pod["containers"][0]
    if settings.upstream.secret:
        _mount(pod, "upstream", settings.upstream.secret, FILES)
    if settings.datastore:
        server["args"].append("-expandEnv")
        source = {"secretKeyRef": {"name": settings.datastore.secret_name, "key": CONNECTION}}
        server["env"] = [{"name": CONNECTION_VARIABLE, "valueFrom": source}]
        _mount(pod, "datastore", settings.datastore.secret_name, DATASTORE)


def _mount(pod: Document, name: str, secret: str, path: str) -> None:
    pod["volumes"].append({"name": name, "secret": {"secretName": secret}})
    pod["containers"][0]["volumeMounts"].append({"name": name, "mountPath": path, "readOnly": True})


def server_data(args: SpireArgs) -> dict[str, str]:
    """The files of the server's ConfigMap: configs of spire-server and spire-controller-manager."""
    settings = args.settings
    issuer = settings.issuer_of(args.cluster.name)
    psat = {"clusters": {args.cluster.name: {"service_account_allow_list": ["spire:spire-agent"]}}}
    iid = settings.node_attestor == "aws_iid"
    server = {
        "server": {
            "trust_domain": args.cluster.trust_domain,
            "log_level": settings.log_level,
            "ca_ttl": settings.ca_ttl,
            "default_x509_svid_ttl": settings.svid_ttl,
            "federation": {"bundle_endpoint": {"refresh_hint": settings.refresh_hint}},
            **({"jwt_issuer": issuer} if issuer else {}),
            # an instance whose agent lost its identity attests once more, after that has expired
            **({"prune_attested_nodes_expired_for": "1m", "prune_tofu_nodes": True} if iid else {}),
        },
        "plugins": {
            "NodeAttestor": {settings.node_attestor: {"plugin_data": IID if iid else psat}},
        },
    }
    config = load_one("spire/server-config.yaml", server)
    if settings.upstream.plugin:
        plugin, data = settings.upstream.plugin
        config["plugins"]["UpstreamAuthority"] = {plugin: {"plugin_data": data}}
    if settings.oidc:
        (published,) = config["plugins"]["BundlePublisher"]["k8s_configmap"]["plugin_data"]["clusters"]
        published["oidc"] = {**published["peers"], "namespace": OIDC_NAMESPACE}
    if args.aws_role and settings.key_manager == "aws_kms":
        # each server finds its own keys by the id on its volume
        keys = {
            "region": args.aws_role.region,
            "key_identifier_file": "/run/spire/data/server-id",
            "key_policy_file": f"{CONFIG}/{KEY_POLICY}",
            "enable_tag_based_key_discovery": True,
            "key_tags": dict(args.aws_role.tags),
        }
        config["plugins"]["KeyManager"] = {"aws_kms": {"plugin_data": keys}}
    if settings.datastore:
        # the Secret's value stays out of the ConfigMap
        connection = {"database_type": "postgres", "connection_string": f"${{{CONNECTION_VARIABLE}}}"}
        config["plugins"]["DataStore"] = {"sql": {"plugin_data": connection}}
    manager: Document = {"clusterName": args.cluster.name, "trustDomain": args.cluster.trust_domain}
    if settings.replicas > 1:
        manager["leaderElection"] = LEADER
    if iid:
        manager["parentIDTemplate"] = IID_PARENT
    return {
        "server.json": as_json(config),
        "controller-manager.json": as_json(load_one("spire/controller-manager-config.yaml", manager)),
    }


def agent_data(args: SpireArgs) -> dict[str, str]:
    """The file of the agent's ConfigMap."""
    agent = {"trust_domain": args.cluster.trust_domain, "log_level": args.settings.log_level}
    config = load_one("spire/agent-config.yaml", {"agent": agent})
    if args.settings.node_attestor == "aws_iid":
        directory = {"directory": config["agent"]["data_dir"]}
        config["plugins"]["NodeAttestor"] = {"aws_iid": {"plugin_data": {}}}
        config["plugins"]["KeyManager"] = {"disk": {"plugin_data": directory}}
    else:
        config["plugins"]["NodeAttestor"]["k8s_psat"]["plugin_data"] = {"cluster": args.cluster.name}
    return {"agent.json": as_json(config)}
