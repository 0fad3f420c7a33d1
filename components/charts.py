"""Helm charts of others, from a repository or a local folder."""

from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.manifests import Document
from components.settings_mesh import ChartSpec

KEEP = "helm.sh/resource-policy"
TIMEOUT_SECONDS = 600


def release(
    resource: str,
    chart: ChartSpec,
    *,
    name: pulumi.Input[str],
    namespace: pulumi.Input[str],
    values: Document,
    opts: pulumi.ResourceOptions,
) -> k8s.helm.v3.Release:
    """Installs a chart and waits until its workloads are ready.

    Args:
        resource: Pulumi name.
        name, namespace: of the Helm release.
    """
    remote = not chart.path
    return k8s.helm.v3.Release(
        resource,
        name=name,
        namespace=namespace,
        chart=chart.name if remote else str(Path(chart.path).absolute()),
        version=chart.version if remote else None,
        repository_opts={"repo": chart.repository} if remote else None,
        values=values,
        timeout=TIMEOUT_SECONDS,
        # a release that an interrupted run left behind is taken over, not refused
        allow_null_values=False,
        cleanup_on_fail=True,
        opts=opts,
    )


def rendered(
    resource: str, chart: ChartSpec, *, namespace: str, values: Document, opts: pulumi.ResourceOptions
) -> k8s.helm.v3.Chart:
    """Renders a chart into single resources, CRDs among them, that go when the stack goes.

    Helm itself would leave objects behind that the chart marks as kept, as Istio marks its CRDs.
    """
    options: dict[str, Any] = {"namespace": namespace, "values": values, "transformations": [_forget_keep]}
    config = (
        k8s.helm.v3.LocalChartOpts(path=str(Path(chart.path).absolute()), **options)
        if chart.path
        else k8s.helm.v3.ChartOpts(
            chart=chart.name,
            version=chart.version,
            fetch_opts=k8s.helm.v3.FetchOpts(repo=chart.repository),
            **options,
        )
    )
    return k8s.helm.v3.Chart(resource, config, opts=opts)


def _forget_keep(document: Document, _: pulumi.ResourceOptions) -> None:
    (document.get("metadata", {}).get("annotations") or {}).pop(KEEP, None)
