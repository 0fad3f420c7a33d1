"""Existing clusters: read from their kubeconfigs and health-checked before the first resource."""

import base64
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import pulumi
import pulumi_kubernetes as k8s
import urllib3
import yaml
from kubernetes import client
from kubernetes import config as kube

from components.config.clusters import ClusterSpec, KubeconfigSpec
from components.config.errors import ConfigError
from components.config.settings import Settings
from components.config.versions import OLDEST_MINOR
from components.kube.last_known import LastKnownState

ANSWER_SECONDS = 5
FILES = ("certificate-authority", "client-certificate", "client-key")

Json = dict[str, Any]


@dataclass(frozen=True)
class ExistingCluster:
    """Access to a cluster.

    Attributes:
        kubeconfig: JSON with one context, named after the cluster's alias; certificates and keys are inline.
        api_server: URL under which the other clusters reach the API server.
    """

    kubeconfig: str
    api_server: str

    @property
    def requirements(self) -> tuple[pulumi.Resource, ...]:
        """The program creates nothing that an existing cluster needs."""
        return ()


def provider(
    name: str,
    kubeconfig: pulumi.Input[str],
    skip: bool | None = None,
    requirements: Sequence[pulumi.Resource] = (),
) -> k8s.Provider:
    """The provider of a cluster, also when its address changes. With `skip`, unreachable resources stay as they are."""
    return k8s.Provider(
        name,
        kubeconfig=pulumi.Output.secret(kubeconfig),
        cluster_identifier=name,
        # update ConfigMaps and Secrets in place: a replacement would leave their readers without them
        enable_config_map_mutable=True,
        enable_secret_mutable=True,
        skip_update_unreachable=skip,
        opts=pulumi.ResourceOptions(depends_on=[*requirements]),
    )


class ClusterAccess(Protocol):
    """Access to a cluster, existing or created."""

    @property
    def kubeconfig(self) -> pulumi.Input[str]:
        """JSON with one context."""
        ...

    @property
    def requirements(self) -> tuple[pulumi.Resource, ...]:
        """Resources that must outlive every object of the cluster."""
        ...


def kubernetes_providers(
    clusters: Mapping[str, ClusterAccess], last_known: LastKnownState
) -> dict[str, k8s.Provider]:
    """The providers of all clusters by name; those of clusters declared down skip unreachable resources."""
    return {
        name: provider(
            name,
            last_known.validated(cluster.kubeconfig),
            last_known.skips_unreachable(name),
            cluster.requirements,
        )
        for name, cluster in clusters.items()
    }


def existing_clusters(settings: Settings, folder: Path = Path()) -> dict[str, ExistingCluster]:
    """Reads the kubeconfigs of the existing clusters and checks that the clusters answer, except those declared down.

    Args:
        folder: base of relative kubeconfig paths, by default the working folder, which is the project's.

    Raises:
        ConfigError: a kubeconfig or context does not exist, an API server does not answer or is too old.
    """
    indexed = [(index, spec) for index, spec in enumerate(settings.clusters) if spec.kubeconfig]
    found = {
        spec.name: read_cluster(spec, folder, f"fedmesh:clusters[{index}].kubeconfig", settings.source)
        for index, spec in indexed
    }
    with ThreadPoolExecutor(max_workers=8) as pool:
        checks = [
            pool.submit(check_answers, found[spec.name], f"fedmesh:clusters[{index}]", settings.source)
            for index, spec in indexed
            if not spec.down
        ]
    for check in checks:
        check.result()
    return found


def read_cluster(spec: ClusterSpec, folder: Path, key: str, source: str) -> ExistingCluster:
    """Reads one cluster's kubeconfig; `key` is its key in the stack file. Raises ConfigError."""
    wanted = cast(KubeconfigSpec, spec.kubeconfig)
    path = wanted.file(folder)
    try:
        document: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{key}.path", source, f"{wanted.path} can't be read: {error.strerror}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{key}.path", source, f"{wanted.path} must be a kubeconfig in YAML") from None
    if not isinstance(document, dict) or not cast(Json, document).get("contexts"):
        raise ConfigError(f"{key}.path", source, f"{wanted.path} must be a kubeconfig with a context")
    config = cast(Json, document)
    name = wanted.context or str(config.get("current-context", ""))
    contexts = {str(entry["name"]): entry["context"] for entry in config["contexts"]}
    if name not in contexts:
        known = ", ".join(contexts)
        raise ConfigError(f"{key}.context", source, f"{wanted.path} has no context {name!r}; it has {known}")
    try:
        cluster = _entry(config, "clusters", contexts[name]["cluster"], path)
        user = _entry(config, "users", contexts[name]["user"], path)
        server = str(cluster["server"])
    except OSError as error:
        missing = f"{wanted.path} names {error.filename}, which can't be read: {error.strerror}"
        raise ConfigError(f"{key}.path", source, missing) from None
    except KeyError as error:
        raise ConfigError(f"{key}.path", source, f"context {name} of {wanted.path} has no {error}") from None
    alone = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": spec.alias,
        "clusters": [{"name": spec.alias, "cluster": cluster}],
        "users": [{"name": spec.alias, "user": user}],
        "contexts": [{"name": spec.alias, "context": {"cluster": spec.alias, "user": spec.alias}}],
    }
    return ExistingCluster(json.dumps(alone), spec.api_server or server)


def _entry(config: Json, kind: str, name: str, path: Path) -> Json:
    entries = cast(Sequence[Json], config.get(kind, []))
    found = next((entry for entry in entries if entry["name"] == name), Json())
    content = dict(cast(Json, found[kind.removesuffix("s")]))
    for field in FILES:
        if field in content:
            file = path.parent / str(content.pop(field))
            content[f"{field}-data"] = base64.b64encode(file.read_bytes()).decode()
    return content


def _client(config: Json) -> client.ApiClient:
    settings = client.Configuration()
    settings.retries = 0  # each retry would wait for the whole time-out again
    kube.load_kube_config_from_dict(  # pyright: ignore[reportUnknownMemberType]
        config, client_configuration=settings, persist_config=False
    )
    return client.ApiClient(settings)


def check_answers(cluster: ExistingCluster, key: str, source: str) -> None:
    """Checks that the API server answers, accepts the user and is of a supported version. Raises ConfigError."""
    config = json.loads(cluster.kubeconfig)
    server = str(config["clusters"][0]["cluster"]["server"])
    try:
        api = _client(config)
        version = client.VersionApi(api).get_code(_request_timeout=ANSWER_SECONDS)
        client.CoreV1Api(api).list_namespace(limit=1, _request_timeout=ANSWER_SECONDS)
    except urllib3.exceptions.HTTPError as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigError(
            key,
            source,
            f"the API server {server} does not answer within {ANSWER_SECONDS} s: {reason}; "
            f"if it will be away for a while, set {key}.down",
        ) from None
    except kube.ConfigException as error:
        raise ConfigError(f"{key}.kubeconfig", source, f"must be a usable kubeconfig: {error}") from None
    except client.ApiException as error:
        raise ConfigError(key, source, f"the API server {server} refuses: {_answer(error)}") from None
    if int(version.minor.rstrip("+")) < OLDEST_MINOR:
        needed = f"1.{OLDEST_MINOR} or newer is needed"
        raise ConfigError(key, source, f"Kubernetes {version.git_version} is too old: {needed}")


def _answer(error: Any) -> str:
    return f"{error.status} {error.reason}"
