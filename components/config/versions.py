"""The versions that fedmesh is tested with: Kubernetes, and the official Helm charts that the mesh is made of."""

from dataclasses import dataclass

# Minor versions of Kubernetes 1: the oldest whose kubelets ask for no `nodes/proxy`, which SPIRE's agents do not have,
# and the newest that Istio 1.31 is tested with.
OLDEST_MINOR, NEWEST_MINOR = 33, 36

ISTIO_CHARTS = "https://istio-release.storage.googleapis.com/charts"


@dataclass(frozen=True)
class OfficialChart:
    """A chart's name in its repository, and the version that fedmesh is tested with."""

    name: str
    repository: str
    version: str


OFFICIAL_CHARTS = {
    "certManager": OfficialChart("cert-manager", "https://charts.jetstack.io", "v1.21.2"),
    "istioBase": OfficialChart("base", ISTIO_CHARTS, "1.31.0"),
    "istiod": OfficialChart("istiod", ISTIO_CHARTS, "1.31.0"),
    "istioCni": OfficialChart("cni", ISTIO_CHARTS, "1.31.0"),
    "istioGateway": OfficialChart("gateway", ISTIO_CHARTS, "1.31.0"),
    "spireCrds": OfficialChart("spire-crds", "https://spiffe.github.io/helm-charts-hardened", "0.6.0"),
    "kiali": OfficialChart("kiali-server", "https://kiali.org/helm-charts", "2.31.0"),
}
