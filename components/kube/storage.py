"""The StorageClass of the volumes of SPIRE and Prometheus."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from components.config.mesh import StorageSettings
from components.config.settings import Settings
from components.kube.manifests import load_one
from components.kube.objects import register


@dataclass(frozen=True)
class StorageArgs:
    """Args of Storage.

    Attributes:
        settings: the StorageClass to create; without a provisioner none is created.
        auto_mode: whether a class for the nodes of EKS Auto Mode is created beside it, for all but SPIRE.
    """

    settings: StorageSettings
    auto_mode: bool = False


class Storage(pulumi.ComponentResource):
    """A StorageClass that provisions volumes in the zone of their first pod.

    Outputs:
        class_name: name of the class, known when it exists; None for the cluster's default class.
        general_class_name: name of the class for pods that are not on SPIRE's nodes.
    """

    class_name: pulumi.Input[str] | None
    general_class_name: pulumi.Input[str] | None

    def __init__(self, name: str, args: StorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:storage:Storage", name, None, opts)
        settings = args.settings
        self.class_name = settings.class_name or None
        if settings.provisioner:
            default = {"storageclass.kubernetes.io/is-default-class": str(not args.auto_mode).lower()}
            document = load_one(
                "storage/class.yaml",
                {
                    "metadata": {"name": settings.class_name, "annotations": default},
                    "provisioner": settings.provisioner,
                    "parameters": dict(settings.parameters),
                },
            )
            self.class_name = register(name, document, pulumi.ResourceOptions(parent=self)).id
        self.general_class_name = self.class_name
        if args.auto_mode:
            document = load_one("storage/auto-mode.yaml")
            self.general_class_name = register(
                f"{name}-auto-mode", document, pulumi.ResourceOptions(parent=self)
            ).id
        self.register_outputs({"className": self.class_name})


def create_storage(settings: Settings, options: Mapping[str, pulumi.ResourceOptions]) -> dict[str, Storage]:
    """Creates the StorageClasses of all clusters, with the options of each by its name.

    Without the mesh nothing is made on a cluster, whose API server may be out of reach until something else joins the
    networks, but the StorageClass that the stack itself asks for.
    """
    if not (settings.meshed or settings.storage.provisioner):
        return {}
    return {
        spec.name: Storage(
            f"{spec.name}-storage",
            StorageArgs(settings.storage_of(spec), settings.has_auto_storage(spec)),
            options[spec.name],
        )
        for spec in settings.clusters
    }
