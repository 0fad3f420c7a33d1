"""Workloads: images, charts, and the mesh's mTLS."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from policies.charts import chart_of, source_of
from policies.inputs import CHARTS, Config, Inputs, group_of, kind_of, known, list_of, mappings, parsed

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
# Whatever else has containers runs them: custom resources of any kind too. These hold schemas and texts.
WITHOUT_PODS = ("CustomResourceDefinition", "ConfigMap", "Secret")
# Custom resources that are the values of charts throughout; others have some in `spec.values`.
VALUES_GROUPS = ("install.istio.io", "sailoperator.io")
# A tag that names a release has numbers, or is a commit: `latest`, `master` and `stable` move.
FIXED_TAG = re.compile(r"\d+\.\d+|[0-9a-f]{7,}")
WITH_HOST = re.compile(r"[^/]*[.:][^/]*/")
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
# By these annotations and labels of pods, traffic bypasses the proxy or is sent in plaintext; with what they may say.
BYPASSES: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"traffic\.sidecar\.istio\.io/(exclude\w+|kubevirtInterfaces)"), ("",)),
    (re.compile(r"traffic\.sidecar\.istio\.io/include(InboundPorts|OutboundIPRanges)"), ("*",)),
    (re.compile(r"traffic\.sidecar\.istio\.io/includeOutboundPorts"), ("", "*")),
    (re.compile(r"istio\.io/reroute-virtual-interfaces"), ("",)),
    (re.compile(r"sidecar\.istio\.io/interceptionMode"), ("REDIRECT", "TPROXY")),
    (re.compile(r"status\.sidecar\.istio\.io/port"), ("", "0", "15020")),
    (re.compile(r"ambient\.istio\.io/bypass-inbound-capture"), ("", "false")),
    (re.compile(r"security\.istio\.io/tlsMode"), ("istio",)),
)
PROXY_CONFIG = "proxy.istio.io/config"
# The same in values of charts (`global.proxy`) and in a proxy's config, whose fields have two spellings.
SETTINGS: dict[str, tuple[str, ...]] = {
    "excludeInboundPorts": ("",),
    "excludeOutboundPorts": ("",),
    "excludeIPRanges": ("",),
    "includeInboundPorts": ("*",),
    "includeIPRanges": ("*",),
    "interceptionMode": ("REDIRECT", "TPROXY", "0", "1"),
    "interception_mode": ("REDIRECT", "TPROXY", "0", "1"),
    "statusPort": ("", "0", "15020"),
    "status_port": ("", "0", "15020"),
}
# Istio's CNI plugin may leave out the pods of these namespaces alone.
UNCAPTURED = ("kube-system", "istio-system")
ROOT_NAMESPACE = "istio-system"


def images(kind: str, inputs: Inputs, config: Config) -> Iterator[str]:
    """Images have a fixed version and come from trusted registries, those that charts are told to use too."""
    spec = (known(inputs, "spec") or {}) if kind_of(kind) else {}
    if kind in CHARTS:
        yield from _chart(inputs, config)
    elif kind_of(kind) and kind_of(kind) not in WITHOUT_PODS:
        for image in dict.fromkeys(_images(inputs)):
            yield from _image(image, config)
        yield from _values(_values_inside(kind, spec), config)
    if kind_of(kind) == "WasmPlugin":
        yield from _plugin(spec, config)


def strict_mtls(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """No traffic of the mesh is in plaintext."""
    if not kind_of(kind):
        return
    spec = inputs.get("spec") or {}
    if group_of(kind) == "security.istio.io" and kind_of(kind) == "PeerAuthentication":
        yield from _peer_authentication(inputs.get("metadata") or {}, spec)
    if group_of(kind) == "networking.istio.io" and kind_of(kind) == "DestinationRule":
        yield from _destination_rule(spec)
    if group_of(kind) == "networking.istio.io" and kind_of(kind) == "Sidecar":
        for each in (*list_of(spec.get("ingress")), *list_of(spec.get("egress"))):
            if each.get("captureMode") == "NONE":
                yield "makes traffic bypass the proxy: captureMode is NONE"
    if kind in CHARTS:
        values = chart_of(inputs).values
        yield from _bypasses(values)
        yield from _settings(values)
    elif kind_of(kind) == "ConfigMap":
        yield from _configured(known(inputs, "data") or {})
    elif kind_of(kind) not in WITHOUT_PODS:
        yield from _bypasses(inputs)
        yield from _settings(_values_inside(kind, spec))


def _chart(inputs: Inputs, config: Config) -> Iterator[str]:
    chart = str(inputs.get("chart") or "")
    source = source_of(inputs)
    given = chart_of(inputs)
    yield from given.unjudged
    yield from _values(given.values, config)
    for image in given.images:
        yield from _image(image, config)
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
        parts = (image,) if whole else (hub, known(each, "imageNamespace"), image)
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
                if isinstance(image, str) and image:
                    yield image
        for volume in list_of(known(each, "volumes")):
            reference = known(known(volume, "image") or {}, "reference")
            if reference:
                yield reference
        image = known(each, "image")
        if isinstance(image, str) and WITH_HOST.match(image):  # as custom resources of operators have it
            yield image


def _values_inside(kind: str, spec: Inputs) -> Inputs:
    """The values of a chart in a custom resource that an operator installs."""
    if group_of(kind) in VALUES_GROUPS:
        return spec
    values = known(spec, "values")
    return cast(Inputs, values) if isinstance(values, Mapping) else {}


def _plugin(spec: Inputs, config: Config) -> Iterator[str]:
    """What a WasmPlugin has proxies run: an image, unless its address says otherwise."""
    url = str(known(spec, "url") or "")
    scheme, separated, rest = url.partition("://")
    if not separated or scheme == "oci":
        yield from _image(rest if separated else url, config) if url else ()
    elif scheme != "file":
        yield f"proxies run what {url} gives, which is not among the allowed registries"


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


def _bypasses(inputs: Inputs) -> Iterator[str]:
    for each in mappings(inputs):
        for key in each:
            value = known(each, key)
            if value is None:
                continue
            for pattern, allowed in BYPASSES:
                if pattern.fullmatch(key) and str(value).strip() not in allowed:
                    yield f"{key}: {value} makes traffic bypass the proxy, in plaintext"
            if key == PROXY_CONFIG:
                yield from _proxy_config(value)


def _proxy_config(text: Any) -> Iterator[str]:
    section = parsed(text)
    if not isinstance(section, Mapping):
        yield f"{PROXY_CONFIG} can't be read, and so can't be judged"
    else:
        yield from _section(cast(Inputs, section))


def _settings(values: Inputs) -> Iterator[str]:
    """Values of Istio's charts, and a mesh's config, that hold for all pods."""
    for each in mappings(values):
        for key in ("proxy", "defaultConfig"):
            section = known(each, key)
            if isinstance(section, Mapping):
                yield from _section(cast(Inputs, section))
        if str(known(each, "enableAutoMtls")).lower() == "false":
            yield "turns the mesh's mTLS off for every call"
        tls = known(known(each, "defaultTrafficPolicy") or {}, "tls") or {}
        if known(tls, "mode") not in (None, "ISTIO_MUTUAL"):
            yield f"turns the mesh's mTLS off by default: {tls['mode']}"
        left_out = [str(name) for name in list_of(known(each, "excludeNamespaces")) if name not in UNCAPTURED]
        if left_out:
            yield f"makes all traffic of {', '.join(left_out)} bypass the proxy: excludeNamespaces"


def _section(section: Inputs) -> Iterator[str]:
    for key, allowed in SETTINGS.items():
        value = known(section, key)
        if value is not None and str(value).strip() not in allowed:
            yield f"{key}: {value} makes traffic bypass the proxy, in plaintext"


def _configured(data: Inputs) -> Iterator[str]:
    """ConfigMaps of istiod: the mesh's config, and the values by which pods are injected."""
    for key in ("mesh", "values"):
        yield from _settings({key: parsed(known(data, key))})
