"""What the AWS Load Balancer Controller asks of AWS for a Service, by the Service's annotations.

A stand-in for tests that have no Kubernetes: order and defaults follow its sources (v3.5.0, pkg/service and
pkg/deploy).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import boto3
from botocore.config import Config

from testbed.sandbox.aws import digest, tag_list

PREFIX = "service.beta.kubernetes.io/aws-load-balancer"
CLUSTER_TAG = "elbv2.k8s.aws/cluster"
EVERYWHERE = "0.0.0.0/0"
# The controller's own values for what no annotation says (model_builder.go).
HEALTH_CHECK = {"protocol": "TCP", "port": "traffic-port", "interval": "10", "timeout": "10"}
ONCE = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=120)


@dataclass(frozen=True)
class Service:
    """A Service of type LoadBalancer that names this controller."""

    namespace: str
    name: str
    annotations: Mapping[str, str]
    ports: Sequence[int]
    source_ranges: Sequence[str] = ()
    class_name: str = ""

    def annotation(self, name: str, default: str = "") -> str:
        """The value of one of the controller's annotations."""
        return str(self.annotations.get(f"{PREFIX}-{name}", default))


class Controller:
    """The controller of one cluster, which calls AWS as the pods of its cluster do."""

    def __init__(self, cluster: str, region: str, vpc: str, endpoint: str) -> None:
        self.cluster = cluster
        self._vpc = vpc
        session = boto3.Session(
            aws_access_key_id=f"pod.{cluster}.kube-system.aws-load-balancer-controller",
            aws_secret_access_key="pod",  # noqa: S106 - nothing checks it
            region_name=region,
        )
        self._ec2 = session.client("ec2", endpoint_url=endpoint, config=ONCE)
        self._elb = session.client("elbv2", endpoint_url=endpoint, config=ONCE)

    def create(self, service: Service) -> str:
        """Creates the load balancer of a Service; returns its DNS name."""
        tags = self._tags(service)
        group = self._security_group(service, tags)
        targets = {port: self._target_group(service, port, tags) for port in service.ports}
        balancer = self._elb.create_load_balancer(
            Name=service.annotation("name"),
            Type="network",
            Scheme=service.annotation("scheme", "internal"),
            Subnets=self._subnets(service),
            SecurityGroups=[group],
            Tags=tag_list(tags),
        )["LoadBalancers"][0]
        for port, target in targets.items():
            self._elb.create_listener(
                LoadBalancerArn=balancer["LoadBalancerArn"],
                Port=port,
                DefaultActions=[{"Type": "forward", "TargetGroupArn": target}],
                Tags=tag_list(tags),
                **listener(service, port),
            )
        return str(balancer["DNSName"])

    def delete(self, service: Service) -> None:
        """Deletes what it created for a Service, as its finalizer has it."""
        name = service.annotation("name")
        (balancer,) = self._elb.describe_load_balancers(Names=[name])["LoadBalancers"]
        arn = balancer["LoadBalancerArn"]
        groups = self._elb.describe_target_groups(LoadBalancerArn=arn)["TargetGroups"]
        for listener in self._elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]:
            self._elb.delete_listener(ListenerArn=listener["ListenerArn"])
        self._elb.delete_load_balancer(LoadBalancerArn=arn)
        for group in groups:
            self._elb.delete_target_group(TargetGroupArn=group["TargetGroupArn"])
        for group_id in balancer["SecurityGroups"]:
            self._ec2.delete_security_group(GroupId=group_id)

    def _tags(self, service: Service) -> dict[str, str]:
        extra = [
            each.split("=", 1) for each in service.annotation("additional-resource-tags").split(",") if each
        ]
        return {
            **dict(extra),
            CLUSTER_TAG: self.cluster,
            "service.k8s.aws/stack": f"{service.namespace}/{service.name}",
        }

    def _security_group(self, service: Service, tags: Mapping[str, str]) -> str:
        """The group of the load balancer; without source ranges it lets everybody in."""
        group = self._ec2.create_security_group(
            GroupName=f"k8s-{service.annotation('name')}",
            Description="[k8s] Managed SecurityGroup for LoadBalancer",
            VpcId=self._vpc,
            TagSpecifications=[{"ResourceType": "security-group", "Tags": tag_list(tags)}],
        )["GroupId"]
        ranges = [{"CidrIp": cidr} for cidr in service.source_ranges or (EVERYWHERE,)]
        self._ec2.authorize_security_group_ingress(
            GroupId=group,
            IpPermissions=[
                {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": ranges}
                for port in service.ports
            ],
        )
        return str(group)

    def _target_group(self, service: Service, port: int, tags: Mapping[str, str]) -> str:
        def check(name: str) -> str:
            return service.annotation(f"healthcheck-{name}", HEALTH_CHECK.get(name, ""))

        path = {"HealthCheckPath": check("path") or "/"} if check("protocol") != "TCP" else {}
        made = self._elb.create_target_group(
            Name=f"k8s-{digest(self.cluster, service.namespace, service.name, str(port))}",
            Protocol="TCP",
            Port=port,
            VpcId=self._vpc,
            TargetType=service.annotation("nlb-target-type", "instance"),
            HealthCheckProtocol=check("protocol"),
            HealthCheckPort=check("port"),
            HealthCheckIntervalSeconds=int(check("interval")),
            HealthCheckTimeoutSeconds=int(check("timeout")),
            Tags=tag_list(tags),
            **path,
        )
        return str(made["TargetGroups"][0]["TargetGroupArn"])

    def _subnets(self, service: Service) -> list[str]:
        """Finds the subnets by their tags where no annotation lists them, as the controller does."""
        listed = [each for each in service.annotation("subnets").split(",") if each]
        if listed:
            found = self._ec2.describe_subnets(SubnetIds=listed)["Subnets"]
            zones = [each["AvailabilityZone"] for each in found]
            if len(set(zones)) < len(zones):  # validateSubnetsAZExclusivity
                raise LookupError(f"multiple subnets in same Availability Zone: {', '.join(listed)}")
            return listed
        role = "elb" if service.annotation("scheme", "internal") == "internet-facing" else "internal-elb"
        filters = [
            {"Name": "vpc-id", "Values": [self._vpc]},
            {"Name": f"tag:kubernetes.io/role/{role}", "Values": ["", "1"]},
        ]
        found = self._ec2.describe_subnets(Filters=filters)["Subnets"]
        if not found:
            raise LookupError(f"unable to resolve at least one subnet for {service.namespace}/{service.name}")
        return sorted(subnet["SubnetId"] for subnet in found)


def listener(service: Service, port: int) -> dict[str, object]:
    """The protocol of a listener, and its TLS where annotations ask for it; target groups stay TCP."""
    ports = [each for each in service.annotation("ssl-ports").split(",") if each]
    certificates = [each for each in service.annotation("ssl-cert").split(",") if each]
    if not certificates or (ports and str(port) not in ports):
        return {"Protocol": "TCP"}
    alpn = service.annotation("alpn-policy")
    return {
        "Protocol": "TLS",
        "Certificates": [{"CertificateArn": each} for each in certificates],
        "SslPolicy": service.annotation("ssl-negotiation-policy", "ELBSecurityPolicy-2016-08"),
        **({"AlpnPolicy": [alpn]} if alpn else {}),
    }
