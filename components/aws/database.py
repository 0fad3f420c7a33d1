"""The PostgreSQL databases of Amazon RDS that the SPIRE servers of EKS clusters share."""

import re
import secrets
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_aws as aws

from components.aws.fleet import EksFleet
from components.config.aws_facts import POSTGRES, partition_of
from components.config.database import RdsSettings
from components.config.errors import ConfigError
from components.mesh.spire import CONNECTION, DATASTORE

PORT = 5432
NAME = "spire"  # of the database, and of its user
ROOTS = "ca.crt"
CA_BUNDLE = "fedmesh:spire.datastore.rds.caBundle"


@dataclass(frozen=True)
class DatabaseArgs:
    """Args of Database.

    Attributes:
        cluster_name: name of the cluster in EKS.
        vpc_id, subnet_ids: the cluster's network and its private subnets.
        client_group_id: the security group whose members alone reach the database.
        settings: size, standby and backups.
        roots: RDS's roots, in PEM.
        protected: whether RDS refuses to delete the database.
        log_days: days for which CloudWatch keeps its log.
        tags: tags of all resources.
    """

    cluster_name: str
    vpc_id: pulumi.Input[str]
    subnet_ids: Sequence[pulumi.Input[str]]
    client_group_id: pulumi.Input[str]
    settings: RdsSettings
    roots: str
    protected: bool
    log_days: int
    tags: Mapping[str, str]


class Database(pulumi.ComponentResource):
    """An encrypted PostgreSQL instance that takes TLS alone, with a standby in another zone.

    Outputs:
        files: by name the files by which SPIRE's server connects: the connection string, a secret, and RDS's roots.
    """

    files: dict[str, pulumi.Input[str]]

    def __init__(self, name: str, args: DatabaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:aws:Database", name, None, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        # a fixed name, so that a database which replaces another one has its address; RDS takes no two hyphens in a row
        self._database = re.sub("-+", "-", f"{args.cluster_name}-{NAME}")
        made = self._instance()
        connection = pulumi.Output.all(made.address, made.password).apply(
            lambda both: (
                f"host={both[0]} port={PORT} dbname={NAME} user={NAME} password={both[1]} sslmode=verify-full "
                f"sslrootcert={DATASTORE}/{ROOTS}"
            )
        )
        self.files = {CONNECTION: pulumi.Output.secret(connection), ROOTS: args.roots}
        self.register_outputs({"address": made.address})

    def _instance(self) -> aws.rds.Instance:
        settings, tags, parameters = self._args.settings, self._tags(), self._parameters()
        group, rule = self._group()
        subnets = aws.rds.SubnetGroup(
            f"{self._name}-subnets",
            name=self._database,
            subnet_ids=list(self._args.subnet_ids),
            tags=tags,
            opts=self._child,
        )
        return aws.rds.Instance(
            f"{self._name}-instance",
            identifier=self._database,
            engine="postgres",
            engine_version=POSTGRES,
            auto_minor_version_upgrade=True,
            instance_class=settings.instance_class,
            allocated_storage=settings.storage,
            storage_type="gp3",
            storage_encrypted=True,
            multi_az=settings.multi_az,
            db_name=NAME,
            username=NAME,
            # the engine keeps the first run's, so that a later one changes nothing
            password=pulumi.Output.secret(secrets.token_urlsafe(32)),
            db_subnet_group_name=subnets.name,
            vpc_security_group_ids=[group.id],
            publicly_accessible=False,
            parameter_group_name=parameters.name,
            backup_retention_period=settings.backup_days,
            copy_tags_to_snapshot=True,
            deletion_protection=self._args.protected,
            skip_final_snapshot=not settings.final_snapshot,
            # the group's name is another one in each life of the database, and a snapshot outlives it
            final_snapshot_identifier=parameters.name if settings.final_snapshot else None,
            enabled_cloudwatch_logs_exports=["postgresql"],
            apply_immediately=True,
            tags=tags,
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[self._log_group(), rule], ignore_changes=["password"]
            ),
        )

    def _tags(self) -> dict[str, str]:
        return {**self._args.tags, "Name": self._database}

    def _parameters(self) -> aws.rds.ParameterGroup:
        return aws.rds.ParameterGroup(
            f"{self._name}-parameters",
            # that of the next major version is made before this one is deleted
            name_prefix=f"{self._database}-",
            family=f"postgres{POSTGRES}",
            parameters=[{"name": "rds.force_ssl", "value": "1"}],
            tags=self._tags(),
            opts=self._child,
        )

    def _group(self) -> tuple[aws.ec2.SecurityGroup, aws.vpc.SecurityGroupIngressRule]:
        group = aws.ec2.SecurityGroup(
            f"{self._name}-clients",
            description=f"PostgreSQL from the nodes of {self._args.cluster_name}",
            vpc_id=self._args.vpc_id,
            tags=self._tags(),
            opts=self._child,
        )
        rule = aws.vpc.SecurityGroupIngressRule(
            f"{self._name}-from-nodes",
            security_group_id=group.id,
            description="PostgreSQL from the nodes",
            ip_protocol="tcp",
            from_port=PORT,
            to_port=PORT,
            referenced_security_group_id=self._args.client_group_id,
            tags=self._tags(),
            opts=self._child,
        )
        return group, rule

    def _log_group(self) -> aws.cloudwatch.LogGroup:
        """Creates the log group before RDS would, which sets no retention and leaves it behind."""
        return aws.cloudwatch.LogGroup(
            f"{self._name}-log",
            name=f"/aws/rds/instance/{self._database}/postgresql",
            retention_in_days=self._args.log_days,
            tags=self._tags(),
            opts=self._child,
        )


def create_databases(fleet: EksFleet) -> dict[str, dict[str, pulumi.Input[str]]]:
    """Creates a database for each EKS cluster, if the stack asks for that, and returns its files by cluster.

    Raises:
        ConfigError: there are no roots of RDS for all regions.
    """
    settings = fleet.settings.rds
    if not (settings and fleet.resources and fleet.settings.aws.mesh):
        return {}
    roots = read_roots(
        settings.ca_bundle, (each.region for each in fleet.specs.values()), fleet.settings.source
    )
    return {
        name: Database(
            f"{name}-database",
            DatabaseArgs(
                cluster_name=cluster.eks_name,
                vpc_id=fleet.resources.networks[name].vpc_id,
                subnet_ids=fleet.resources.networks[name].private_subnet_ids,
                client_group_id=fleet.resources.clusters[name].security_group_id,
                settings=settings,
                roots=roots,
                protected=cluster.spec.deletion_protection,
                log_days=cluster.spec.flow_log_days,
                tags=fleet.settings.aws.tags,
            ),
            fleet.beside(name),
        ).files
        for name, cluster in fleet.specs.items()
    }


def read_roots(path: str, regions: Iterable[str], source: str) -> str:
    """Reads the file with RDS's roots for all regions. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        text = Path(path).expanduser().read_text(encoding="ascii")
        context.load_verify_locations(cadata=text)
    except (OSError, ValueError) as error:
        raise ConfigError(
            CA_BUNDLE, source, f"{path} must be a file of certificates in PEM: {error}"
        ) from None
    known = str(context.get_ca_certs())
    # the names of the roots in China and GovCloud are not known here
    for region in regions:
        if partition_of(region) == "aws" and f"Amazon RDS {region} Root CA" not in known:
            raise ConfigError(CA_BUNDLE, source, f"{path} holds no root of RDS in {region}")
    return text
