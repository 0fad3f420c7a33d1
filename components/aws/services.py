"""What the layers of each EKS cluster use of AWS."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from components.aws.database import create_databases
from components.aws.dns_solver import dns_solvers
from components.aws.fleet import EksFleet
from components.aws.spire_role import spire_roles
from components.mesh.spire import AwsRole


@dataclass(frozen=True)
class AwsServices:
    """What one cluster uses of AWS; None for what it does not use.

    Attributes:
        dns_solver: cert-manager's identity.
        spire_role: role of SPIRE's servers.
        database: files by which SPIRE's servers reach the database that the program makes.
    """

    dns_solver: pulumi.Resource | None = None
    spire_role: AwsRole | None = None
    database: Mapping[str, pulumi.Input[str]] | None = None


def aws_services(fleet: EksFleet) -> dict[str, AwsServices]:
    """Creates what the stack's settings ask for on its EKS clusters, and returns it by cluster."""
    solvers, roles, databases = dns_solvers(fleet), spire_roles(fleet), create_databases(fleet)
    return {
        name: AwsServices(solvers.get(name), roles.get(name), databases.get(name)) for name in fleet.specs
    }
