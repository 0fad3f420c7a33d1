"""The StorageClass of the volumes of SPIRE and Prometheus."""

from dataclasses import dataclass

import pulumi

from components.config.mesh import StorageSettings
from components.kube.manifests import load_one
from components.kube.objects import register


@dataclass(frozen=True)
class StorageArgs:
    """Args of Storage: the StorageClass to create; without a provisioner none is created."""

    settings: StorageSettings


class Storage(pulumi.ComponentResource):
    """A StorageClass that provisions volumes in the zone of their first pod.

    Outputs:
        class_name: name of the class, known when it exists; None for the cluster's default class.
    """

    class_name: pulumi.Input[str] | None

    def __init__(self, name: str, args: StorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:storage:Storage", name, None, opts)
        settings = args.settings
        self.class_name = settings.class_name or None
        if settings.provisioner:
            document = load_one(
                "storage/class.yaml",
                {
                    "metadata": {"name": settings.class_name},
                    "provisioner": settings.provisioner,
                    "parameters": dict(settings.parameters),
                },
            )
            self.class_name = register(name, document, pulumi.ResourceOptions(parent=self)).id
        self.register_outputs({"className": self.class_name})
