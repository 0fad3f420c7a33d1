"""Workloads: images, charts, and the mesh's mTLS."""

import re
from collections.abc import Iterator

from policies.inputs import CHARTS, Config, Inputs, group_of, kind_of, known, list_of, mappings

REGISTRIES = (
    "docker.io/istio",
    "docker.io/curlimages",
    "docker.io/grafana",
    "docker.io/prom",
    "ghcr.io/spiffe",
    "public.ecr.aws/eks",
    "quay.io/jetstack",
    "quay.io/kiali",
    "registry.k8s.io",
)
CHART_REPOSITORIES = (
    "https://aws.github.io/eks-charts",
    "https://charts.jetstack.io",
    "https://istio-release.storage.googleapis.com/charts",
    "https://kiali.org/helm-charts",
    "https://spiffe.github.io/helm-charts-hardened",
)
WORKLOADS = (
    *("Deployment", "DaemonSet", "StatefulSet", "Job", "CronJob", "Pod", "ReplicaSet"),
    *("ReplicationController", "PodTemplate"),
)
# A tag that names a release has numbers, or is a commit: `latest`, `master` and `stable` move.
FIXED_TAG = re.compile(r"\d+\.\d+|[0-9a-f]{7,}")
WITH_HOST = re.compile(r"[^/]*[.:][^/]*/")
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
# Traffic of these ports and ranges bypasses the proxy, in plaintext.
EXCLUDING = re.compile(
    r"^traffic\.sidecar\.istio\.io/(exclude\w+|include(Inbound|Outbound)\w+|kubevirtInterfaces)$"
)
ROOT_NAMESPACE = "istio-system"


def images(kind: str, inputs: Inputs, config: Config) -> Iterator[str]:
    """Images have a fixed version and come from trusted registries, those that charts are told to use too."""
    if kind in CHARTS:
        yield from _chart(inputs, config)
        yield from _values(inputs.get("values") or {}, config)
    if kind_of(kind) in WORKLOADS:
        for image in _images(inputs):
            yield from _image(image, config)


def strict_mtls(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """No traffic of the mesh is in plaintext."""
    spec = inputs.get("spec") or {}
    if group_of(kind) == "security.istio.io" and kind_of(kind) == "PeerAuthentication":
        yield from _peer_authentication(inputs.get("metadata") or {}, spec)
    if group_of(kind) == "networking.istio.io" and kind_of(kind) == "DestinationRule":
        yield from _destination_rule(spec)
    if group_of(kind) == "networking.istio.io" and kind_of(kind) == "Sidecar":
        for each in (*list_of(spec.get("ingress")), *list_of(spec.get("egress"))):
            if each.get("captureMode") == "NONE":
                yield "makes traffic bypass the proxy: captureMode is NONE"
    if kind_of(kind) in WORKLOADS or kind in CHARTS:
        yield from _exclusions(inputs)


def _chart(inputs: Inputs, config: Config) -> Iterator[str]:
    chart = str(inputs.get("chart") or "")
    repository = str((inputs.get("repositoryOpts") or {}).get("repo") or "").rstrip("/")
    source = repository or (chart.rsplit("/", 1)[0] if "://" in chart else "")
    if not source:
        return  # a folder of the project
    if source not in [each.rstrip("/") for each in config["chartRepositories"]]:
        yield f"the chart {chart} comes from {source}, which is not allowed"
    if not FIXED_TAG.search(str(inputs.get("version") or "")):
        yield f"the chart {chart} has no fixed version"


def _values(values: Inputs, config: Config) -> Iterator[str]:
    """Charts build images of `hub` or `registry`, `repository` or `image`, and `tag`, at any depth of their values."""
    for each in mappings(values):
        hub = known(each, "hub") or known(each, "registry") or known(each, "imageRegistry")
        image = known(each, "repository") or known(each, "image") or known(each, "image_name")
        whole = isinstance(image, str) and WITH_HOST.match(image)  # which Istio's charts take as it is
        named = image.rsplit("/", 1)[-1].partition(":")[2] if whole else ""
        tag = known(each, "tag") or known(each, "image_version") or known(each, "imageTag") or named
        parts = (image,) if whole else (hub, image)
        source = "/".join(part.strip("/") for part in parts if isinstance(part, str) and part)
        # a name alone is relative to the chart's own hub
        if (hub or "/" in source) and not _is_trusted(source, config):
            yield f"{source} is in a registry that is not allowed"
        if isinstance(tag, str | int | float) and tag and not FIXED_TAG.search(str(tag)):
            yield f"the tag {tag} is not a fixed version"


def _images(inputs: Inputs) -> Iterator[str]:
    for each in mappings(inputs):
        for field in ("containers", "initContainers", "ephemeralContainers"):
            for container in list_of(known(each, field)):
                image = known(container, "image")
                if image:
                    yield image
        for volume in list_of(known(each, "volumes")):
            reference = known(known(volume, "image") or {}, "reference")
            if reference:
                yield reference


def _image(image: str, config: Config) -> Iterator[str]:
    if image == "auto":  # Istio's webhook sets the proxy's image
        return
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    if not DIGEST.search(image) and not FIXED_TAG.search(tag):
        yield f"{image} has no fixed version"
    if not _is_trusted(image, config):
        yield f"{image} comes from a registry that is not allowed"


def _is_trusted(source: str, config: Config) -> bool:
    """Whether an image, or the beginning of its name, lies in an allowed registry."""
    host, _, path = source.partition("/")
    named = source if path and re.search(r"[.:]|^localhost$", host) else f"docker.io/{source}"
    if not path and "." in host:
        named = source
    return any(named == each or named.startswith((f"{each}/", f"{each}:")) for each in config["registries"])


def _peer_authentication(metadata: Inputs, spec: Inputs) -> Iterator[str]:
    mode = (spec.get("mtls") or {}).get("mode", "UNSET")
    ports = [each.get("mode", "UNSET") for each in (spec.get("portLevelMtls") or {}).values()]
    for each in (mode, *ports):
        if each not in ("STRICT", "UNSET"):
            yield f"mTLS is {each}: STRICT is the only mode"
    is_root = known(metadata, "namespace") == ROOT_NAMESPACE and not spec.get("selector")
    if is_root and mode == "UNSET":
        yield "the mesh-wide policy is not STRICT, and so permits plaintext"


def _destination_rule(spec: Inputs) -> Iterator[str]:
    host = str(spec.get("host") or "")
    in_mesh = host.endswith(".local") or "." not in host
    policies = [spec.get("trafficPolicy") or {}]
    policies += [subset.get("trafficPolicy") or {} for subset in list_of(spec.get("subsets"))]
    policies += [port for policy in policies for port in list_of(policy.get("portLevelSettings"))]
    for policy in policies:
        tls = policy.get("tls") or {}
        if tls.get("mode") == "DISABLE" or (in_mesh and tls.get("mode") in ("SIMPLE", "MUTUAL")):
            yield f"turns the mesh's mTLS off towards {host}: {tls['mode']}"
        if tls.get("insecureSkipVerify"):
            yield f"does not verify the certificates of {host}"


def _exclusions(inputs: Inputs) -> Iterator[str]:
    for each in mappings(inputs):
        for key in each:
            value = known(each, key)
            if EXCLUDING.match(key) and value not in ("", "*"):
                yield f"{key}: {value} makes traffic bypass the proxy, in plaintext"
            if key == "sidecar.istio.io/interceptionMode" and value == "NONE":
                yield "makes all traffic bypass the proxy, in plaintext"
            if key == "enableAutoMtls" and str(value).lower() == "false":
                yield "turns the mesh's mTLS off for every call"
