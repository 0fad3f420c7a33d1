"""The databases that the program makes for SPIRE on AWS: who reaches them, what guards them, how SPIRE connects."""

import asyncio
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pulumi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from components.aws.database import Database, DatabaseArgs, create_databases, read_roots
from components.aws.fleet import EksFleet, create_fleet
from components.config.database import RdsSettings
from components.config.errors import ConfigError
from components.config.mesh import ChartSpec
from components.config.settings import Settings
from components.config.settings import parse as parse_stack
from components.mesh.spire import Spire, SpireArgs
from tests.unit import recording
from tests.unit.program import FILLED_IN
from tests.unit.recording import Recorder, record, value
from tests.unit.test_settings_aws import FILE, TODAY, eks_cluster, existing_cluster

ROOT = "Amazon RDS {} Root CA RSA2048 G1"


def roots(folder: Path, *names: str) -> Path:
    """A file of certificates of CAs, with text around them as AWS's has it."""
    made = ["# Amazon RDS\n"]
    for name in names:
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .sign(key, hashes.SHA256())
        )
        made.append(certificate.public_bytes(serialization.Encoding.PEM).decode())
    file = folder / "global-bundle.pem"
    file.write_text("\n".join(made))
    return file


def parse(rds: dict[str, Any], *clusters: dict[str, Any], **sections: Any) -> Settings:
    spire = {"replicas": 2, "datastore": {"rds": rds}}
    given = list(clusters) or [eks_cluster(2), eks_cluster(3)]
    return parse_stack({"clusters": given, "spire": spire, **sections}, FILE, TODAY)


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    return str(roots(tmp_path, ROOT.format("us-east-1")))


def made(settings: Settings) -> tuple[Recorder, dict[str, dict[str, Any]]]:
    """What the whole AWS half registers, and the databases' files."""
    results: list[dict[str, dict[str, Any]]] = []
    recorder = record(lambda: results.append(create_databases(create_fleet(settings))))
    return recorder, results[0]


def database(protected: bool = False, name: str = "istio-eks-c2", **rds: Any) -> tuple[Recorder, Database]:
    """One database by itself."""
    results: list[Database] = []
    args = DatabaseArgs(
        cluster_name=name,
        vpc_id="vpc-1",
        subnet_ids=["subnet-a", "subnet-b"],
        client_group_id="sg-of-eks",
        settings=RdsSettings.model_validate({"caBundle": "x", **rds}),
        roots="roots",
        protected=protected,
        log_days=30,
        tags={"project": "fedmesh"},
    )
    return record(lambda: results.append(Database("c2-database", args))), results[0]


def instance(*args: Any, **changes: Any) -> dict[str, Any]:
    return database(*args, **changes)[0].one("c2-database-instance").inputs


def test_a_database_is_encrypted_private_doubled_and_backed_up() -> None:
    inputs = instance()
    assert inputs["storageEncrypted"] is True
    assert inputs["publiclyAccessible"] is False
    assert inputs["multiAz"] is True
    assert inputs["backupRetentionPeriod"] == 7
    assert (inputs["instanceClass"], inputs["allocatedStorage"]) == ("db.t4g.small", 20)
    assert inputs["engineVersion"] == "17"


def test_the_nodes_of_its_cluster_alone_reach_it() -> None:
    recorder, _ = database()
    (rule,) = recorder.of("SecurityGroupIngressRule")
    assert rule.inputs["referencedSecurityGroupId"] == "sg-of-eks"
    assert (rule.inputs["fromPort"], rule.inputs["toPort"]) == (5432, 5432)
    assert not {"cidrIpv4", "cidrIpv6", "prefixListId"} & set(rule.inputs)
    assert recorder.outlives(rule, recorder.one("c2-database-instance")), "servers that stop still reach it"
    (group,) = recorder.of("SecurityGroup")
    assert not group.inputs.get("ingress")
    assert instance()["vpcSecurityGroupIds"] == [f"{group.name}-id"]


def test_it_takes_tls_alone() -> None:
    recorder, _ = database()
    group = recorder.one("c2-database-parameters").inputs
    assert group["parameters"] == [{"name": "rds.force_ssl", "value": "1"}]
    assert group["family"] == "postgres17"
    assert instance()["parameterGroupName"] == "c2-database-parameters"


@pytest.mark.parametrize("protected", [True, False])
def test_it_is_protected_as_its_cluster_is(protected: bool) -> None:
    assert instance(protected)["deletionProtection"] is protected


def test_a_snapshot_has_another_name_in_each_life_of_the_database() -> None:
    assert instance()["skipFinalSnapshot"] is True
    kept = instance(finalSnapshot=True)
    assert kept["skipFinalSnapshot"] is False
    # the provider ends the group's name with the time
    assert kept["finalSnapshotIdentifier"] == kept["parameterGroupName"] == "c2-database-parameters"


def test_its_log_is_there_before_rds_would_make_one_that_stays() -> None:
    recorder, _ = database()
    log = recorder.one("c2-database-log")
    assert log.inputs["name"] == "/aws/rds/instance/istio-eks-c2-spire/postgresql"
    assert log.inputs["retentionInDays"] == 30
    assert recorder.outlives(log, recorder.one("c2-database-instance"))


def test_the_password_is_a_secret_and_stays_that_of_the_first_run() -> None:
    recorder, made_one = database()
    found = recorder.one("c2-database-instance")
    assert recorder.ignored[found.urn] == ("password",)
    password = found.inputs["password"]["value"]
    assert len(password) >= 32
    assert password != instance()["password"]["value"], "each database has its own"
    connection = pulumi.Output.from_input(made_one.files["connectionString"])
    assert asyncio.get_event_loop().run_until_complete(connection.is_secret())


def test_spire_verifies_the_database_by_rdss_roots() -> None:
    _, made_one = database()
    connection = value(pulumi.Output.from_input(made_one.files["connectionString"]))
    words = dict(each.split("=", 1) for each in connection.split())
    assert words["sslmode"] == "verify-full"
    assert words["sslrootcert"] == "/run/spire/datastore/ca.crt"
    assert made_one.files["ca.crt"] == "roots"


def test_a_name_has_no_two_hyphens_in_a_row() -> None:
    assert instance(name="istio-eks-a--b")["identifier"] == "istio-eks-a-b-spire"


def test_each_eks_cluster_has_one_in_its_private_subnets(bundle: str) -> None:
    recorder, files = made(parse({"caBundle": bundle}))
    assert sorted(files) == ["c2", "c3"]
    assert files["c2"]["ca.crt"] == Path(bundle).read_text()
    subnets = recorder.one("c2-database-subnets").inputs["subnetIds"]
    assert subnets == ["c2-network-private-us-east-1a-id", "c2-network-private-us-east-1b-id"]
    (rule,) = [each for each in recorder.of("SecurityGroupIngressRule") if "c2-database" in each.name]
    assert rule.inputs["referencedSecurityGroupId"] == "sg-of-eks"


def test_a_first_look_without_the_mesh_has_no_database(bundle: str) -> None:
    fleet = EksFleet(parse({"caBundle": bundle}, aws={"mesh": False}), {}, {}, Mock())
    assert create_databases(fleet) == {}


def test_without_the_key_there_is_no_database() -> None:
    plain = parse_stack({"clusters": [eks_cluster(2), eks_cluster(3)]}, FILE, TODAY)
    assert create_databases(EksFleet(plain, {}, {}, Mock())) == {}


def spire(settings: Settings, database: dict[str, pulumi.Input[str]] | None) -> Recorder:
    def build() -> Spire:
        crds = ChartSpec(name="spire-crds", path="charts/spire-crds")
        args = SpireArgs(settings.clusters[0], [], None, crds, settings.spire, database=database)
        return Spire("c2-spire", args)

    return record(build)


def test_spires_servers_read_the_connection_from_a_secret_that_is_there_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for kind in ("Service", "ConfigMap"):
        monkeypatch.setitem(
            recording.COMPUTED, f"kubernetes:core/v1:{kind}", FILLED_IN[f"kubernetes:core/v1:{kind}"]
        )
    recorder = spire(parse({"caBundle": "x"}), {"connectionString": "host=db", "ca.crt": "roots"})
    secret = recorder.one("c2-spire-spire-database-secret")
    assert secret.inputs["stringData"]["value"] == {"connectionString": "host=db", "ca.crt": "roots"}
    server = recorder.one("c2-spire-spire-server-statefulset")
    pod = server.inputs["spec"]["template"]["spec"]
    (variable,) = pod["containers"][0]["env"]
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "spire-database", "key": "connectionString"}
    assert {"name": "datastore", "secret": {"secretName": "spire-database"}} in pod["volumes"]
    assert recorder.outlives(secret, server)


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(run: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        run()
    assert FILE in str(error.value)
    return error.value


@pytest.mark.parametrize(
    ("datastore", "key", "text"),
    [
        ({}, "secret", "exactly one of secret and rds"),
        ({"secret": "it", "rds": {"caBundle": "x"}}, "secret", "exactly one of secret and rds"),
        ({"rds": {}}, "rds.caBundle", "missing"),
        (
            {"rds": {"caBundle": "x", "instanceClass": "t4g.small"}},
            "rds.instanceClass",
            "such as db.t4g.small",
        ),
        ({"rds": {"caBundle": "x", "storage": 10}}, "rds.storage", "from 20 to 65536"),
        ({"rds": {"caBundle": "x", "backupDays": 0}}, "rds.backupDays", "from 1 to 35"),
        ({"rds": {"caBundle": "x", "engine": "mysql"}}, "rds.engine", "unknown"),
    ],
)
def test_a_wrong_datastore_is_refused(datastore: dict[str, Any], key: str, text: str) -> None:
    clusters = [eks_cluster(2), eks_cluster(3)]
    values = {"clusters": clusters, "spire": {"datastore": deepcopy(datastore)}}
    error = refused(lambda: parse_stack(values, FILE, TODAY))
    assert error.key == f"fedmesh:spire.datastore.{key}"
    assert text in error.allowed


def test_a_cluster_that_exists_gets_no_database() -> None:
    error = refused(lambda: parse({"caBundle": "x"}, existing_cluster(2), eks_cluster(3)))
    assert error.key == "fedmesh:spire.datastore.rds"
    assert "c2 exist" in error.allowed
    assert "use secret" in error.allowed


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], "certificates in PEM"),
        ([ROOT.format("eu-west-1")], "no root of RDS in us-east-1"),
        (["Amazon RDS Beta us-east-1 Root CA RSA2048 G1"], "no root of RDS in us-east-1"),
    ],
)
def test_a_file_without_the_roots_of_a_region_is_refused(tmp_path: Path, names: list[str], text: str) -> None:
    file = roots(tmp_path, *names)
    error = refused(lambda: read_roots(str(file), ["us-east-1"], FILE))
    assert error.key == "fedmesh:spire.datastore.rds.caBundle"
    assert text in error.allowed


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    error = refused(lambda: read_roots(str(tmp_path / "none.pem"), ["us-east-1"], FILE))
    assert "No such file" in error.allowed


def test_the_roots_of_china_are_taken_as_they_are(tmp_path: Path) -> None:
    file = roots(tmp_path, "Amazon RDS cn")
    assert read_roots(str(file), ["cn-north-1"], FILE) == file.read_text()
