"""The stack file, and the mesh that it describes."""

from __future__ import annotations

from pathlib import Path

from components.config.settings import Settings, load_stack_file
from fedmesh.topology import Member, Topology


def project_folder(start: Path) -> Path:
    """The nearest folder at or above `start` that holds Pulumi.yaml. Raises FileNotFoundError."""
    for folder in (start, *start.parents):
        if (folder / "Pulumi.yaml").is_file():
            return folder
    raise FileNotFoundError(
        f"no Pulumi.yaml in {start} or above it; run the command in the project or use --project"
    )


def load(project: Path, stack: str) -> Topology:
    """Reads the mesh of Pulumi.<stack>.yaml. Raises ConfigError when a value is not allowed, and FileNotFoundError."""
    settings = settings_of(project, stack)
    return Topology(
        stack=stack,
        members=tuple(
            Member(
                name=spec.name,
                trust_domain=spec.trust_domain,
                network=spec.network,
                kubeconfig=spec.kubeconfig.file(project) if spec.kubeconfig else None,
                context=spec.kubeconfig.context if spec.kubeconfig else spec.alias,
                api_server=spec.api_server,
                created=spec.eks is not None,
                drained=spec.drained,
            )
            for spec in settings.clusters
        ),
        samples=settings.samples.enabled,
        storage_class=settings.storage.class_name,
        creates_storage_class=bool(settings.storage.provisioner),
        replicas=settings.istio.replicas,
        edge=settings.aws.edge.mode,
        kiali=settings.observability.kiali.enabled,
    )


def settings_of(project: Path, stack: str) -> Settings:
    """Reads Pulumi.<stack>.yaml. Raises ConfigError when a value is not allowed, and FileNotFoundError."""
    path = project / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        known = sorted(p.name.split(".")[1] for p in project.glob("Pulumi.*.yaml"))
        raise FileNotFoundError(f"{path.name} does not exist; stacks here: {', '.join(known) or 'none'}")
    return load_stack_file(path)
