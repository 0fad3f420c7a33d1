"""The settings of the databases that the program makes on AWS."""

from typing import Annotated

from components.config.fields import Flag, Matching, Model, Text, setting, whole

InstanceClass = Annotated[
    str, Matching("an instance class such as db.t4g.small", r"^db\.[a-z0-9-]+\.[a-z0-9]+$", 40)
]
Storage = Annotated[int, whole(20, 65536)]
BackupDays = Annotated[int, whole(1, 35)]


class RdsSettings(Model):
    """A PostgreSQL database of Amazon RDS for each cluster, in its private subnets, which its nodes alone reach.

    It is encrypted and takes TLS alone. `eks.deletionProtection` of the cluster holds for it too.
    """

    ca_bundle: Text = setting(example="global-bundle.pem", since="0.2")
    """The path of a file, relative to the project, with RDS's roots for the clusters' regions, such as AWS's
    https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem: RDS's certificates are under no public root, and
    SPIRE's server verifies that of its database."""
    instance_class: InstanceClass = setting("db.t4g.small", example="db.m7g.large", since="0.2")
    """The class of the instance. A change interrupts the database."""
    storage: Storage = setting(
        20, example=50, replaces="nothing; RDS makes it larger and never smaller", since="0.2"
    )
    """The size of the gp3 volume in GiB, from 20 to 65536."""
    multi_az: Flag = setting(True, example=False, since="0.2")
    """Whether a standby in another zone takes over when the database or its zone is lost."""
    backup_days: BackupDays = setting(7, example=14, since="0.2")
    """The number of days for which RDS keeps its daily backups, from 1 to 35."""
    final_snapshot: Flag = setting(False, example=True, since="0.2")
    """Whether RDS keeps a snapshot of a database that is deleted. It stays until you delete it."""
