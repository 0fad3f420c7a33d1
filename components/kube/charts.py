"""Third-party Helm charts, from a repository or a local folder."""

import hashlib
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import pulumi
import pulumi_kubernetes as k8s
import yaml

from components.config.errors import ConfigError
from components.config.mesh import ChartSettings, ChartSpec
from components.config.settings import Settings
from components.config.versions import OLDEST_MINOR
from components.kube.manifests import Document
from components.kube.objects import child_of, register

KEEP = "helm.sh/resource-policy"
TIMEOUT_SECONDS = 600
CHART_FILE = re.compile(r"[^/]+/Chart\.yaml")  # of the chart itself, not of one that it needs
RENDERED_FOR = f"1.{OLDEST_MINOR}.0"  # Helm's default is 1.20


def check_archives(settings: Settings, folder: Path | None = None) -> None:
    """Compares the charts' archives with the digests in the stack file. Raises ConfigError."""
    for name, field in ChartSettings.model_fields.items():
        chart: ChartSpec = getattr(settings.charts, name)
        if not chart.sha256:
            continue
        key = f"fedmesh:charts.{field.alias or name}"
        try:
            found = hashlib.sha256(((folder or Path()) / chart.path).read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(
                f"{key}.path", settings.source, f"{chart.path} can't be read: {error.strerror}"
            ) from None
        if found != chart.sha256:
            raise ConfigError(
                f"{key}.sha256", settings.source, f"must be that of {chart.path}, which has {found}"
            )


def release(
    resource: str,
    chart: ChartSpec,
    *,
    name: pulumi.Input[str],
    namespace: pulumi.Input[str],
    values: pulumi.Input[Document],
    opts: pulumi.ResourceOptions,
    timeout: int = TIMEOUT_SECONDS,
) -> k8s.helm.v3.Release:
    """Installs a chart and waits until its workloads are ready.

    Args:
        resource: Pulumi name.
        name, namespace: of the Helm release.
        timeout: seconds to wait.
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
        timeout=timeout,
        # remove what a failed installation left, so that the next run can install again
        allow_null_values=False,
        cleanup_on_fail=True,
        opts=opts,
    )


def rendered(
    prefix: str,
    chart: ChartSpec,
    *,
    namespace: str,
    values: Document,
    parent: pulumi.Resource,
    after: Sequence[pulumi.Resource] = (),
) -> pulumi.Output[list[pulumi.Resource]]:
    """Renders a chart into single resources, CRDs included, which `pulumi destroy` removes.

    Helm itself keeps objects that the chart marks with a resource policy, as Istio marks its CRDs.

    Returns:
        the resources; as the chart is rendered by the provider, they are known only when that is.
    """
    template = template_of(chart, namespace=namespace, values=values, parent=parent)

    def made(documents: list[Document]) -> list[pulumi.Resource]:
        return [
            register(prefix, each, options_of(each, child_of(parent, *after)))
            for each in map(without_keep, documents)
        ]

    return template.apply(made)


def version_of(chart: ChartSpec) -> str:
    """The version of a chart, by which its images are found. A folder or archive says its own."""
    described = Path(chart.path) / "Chart.yaml"
    if Path(chart.path).is_file():
        with tarfile.open(chart.path) as archive:
            name = next(each for each in archive.getnames() if CHART_FILE.fullmatch(each))
            text = cast(IO[bytes], archive.extractfile(name)).read()
    elif chart.path and described.is_file():
        text = described.read_bytes()
    else:
        return chart.version
    return str(yaml.safe_load(text)["version"])


def template_of(
    chart: ChartSpec, *, namespace: str, values: Document, parent: pulumi.Resource
) -> pulumi.Output[list[Document]]:
    """The documents of a chart as the provider renders it; none in a preview before the cluster exists."""
    source = (
        {"path": str(Path(chart.path).absolute())}
        if chart.path
        else {"chart": chart.name, "version": chart.version, "fetch_opts": {"repo": chart.repository}}
    )
    options = {
        "release_name": chart.name,
        "namespace": namespace,
        "values": values,
        "kube_version": RENDERED_FOR,
        **source,
    }
    answer = pulumi.runtime.invoke_output(
        "kubernetes:helm:template",
        {"jsonOpts": json.dumps(options)},
        pulumi.InvokeOutputOptions(parent=parent),
    )

    return answer.apply(_documents)


def _documents(answer: Mapping[str, Any] | None) -> list[Document]:
    return list((answer or {}).get("result", []))


def options_of(document: Document, opts: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
    """The options of a rendered object; the failure policy of a webhook is left to its server.

    The server sets its other fields again after a run has reset them; it sets the policy to Fail once it is ready.
    """
    if document["kind"] != "ValidatingWebhookConfiguration":
        return opts
    left = pulumi.ResourceOptions(ignore_changes=["webhooks[*].failurePolicy"])
    return pulumi.ResourceOptions.merge(opts, left)


def without_keep(document: Document) -> Document:
    """The document without Helm's resource policy, which would keep it after its release."""
    metadata = cast(Document, dict(document["metadata"]))
    annotations = cast(Document, metadata.pop("annotations", None) or {})
    kept = {key: value for key, value in annotations.items() if key != KEEP}
    return {**document, "metadata": {**metadata, **({"annotations": kept} if kept else {})}}
