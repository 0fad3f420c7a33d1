"""A network with two subnets, and a database in it."""

import pulumi
import pulumi_aws as aws

from components.aws.database import Database, DatabaseArgs
from components.config.database import RdsSettings

vpc = aws.ec2.Vpc("vpc", cidr_block="10.2.0.0/16")
subnets = [
    aws.ec2.Subnet(
        f"subnet-{letter}",
        vpc_id=vpc.id,
        cidr_block=f"10.2.{place}.0/24",
        availability_zone=f"us-east-1{letter}",
    )
    for place, letter in enumerate("ab")
]
nodes = aws.ec2.SecurityGroup("nodes", vpc_id=vpc.id, description="nodes")
made = Database(
    "one-database",
    DatabaseArgs(
        cluster_name="istio-eks-one",
        vpc_id=vpc.id,
        subnet_ids=[each.id for each in subnets],
        client_group_id=nodes.id,
        settings=RdsSettings(ca_bundle="unused"),
        roots="roots",
        protected=False,
        log_days=30,
        tags={"project": "fedmesh"},
    ),
)
pulumi.export("connection", made.files["connectionString"])
