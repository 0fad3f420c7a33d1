"""All EKS clusters of a stack: networks, links between them, control planes, nodes, and the private zone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from components.aws.dns import PrivateZone, PrivateZoneArgs, ZoneNetwork
from components.aws.eks import EksCluster, EksClusterArgs, check_owner
from components.aws.existing_network import FoundNetwork, FoundNetworkArgs
from components.aws.links import NetworkEnd, NetworkLinks, NetworkLinksArgs
from components.aws.network import INTERFACE_ENDPOINTS, Network, NetworkArgs
from components.config.accounts import check_accounts, in_account
from components.config.aws import AwsSettings
from components.config.eks import EksSpec, name_in_eks
from components.config.networks import check_gateway
from components.config.zones import verified_zones


@dataclass(frozen=True)
class AwsCluster:
    """One cluster to create: its name in the mesh, its kubeconfig context, its region and its spec."""

    name: str
    alias: str
    region: str
    spec: EksSpec

    @property
    def eks_name(self) -> str:
        """Name of the cluster in EKS."""
        return name_in_eks(self.name)


@dataclass(frozen=True)
class AwsClustersArgs:
    """Args of AwsClusters: the clusters, and the settings that they share.

    Attributes:
        providers: the AWS provider of each cluster by its name.
        source: name of the stack file, for errors.
        spire_servers: the number of SPIRE's servers of each cluster.
    """

    clusters: Sequence[AwsCluster]
    settings: AwsSettings
    providers: Mapping[str, aws.Provider]
    source: str
    spire_servers: int = 1


class AwsClusters(pulumi.ComponentResource):
    """Networks, their links, the clusters in them, and the private zone that all of them resolve.

    Outputs, by the clusters' names in the mesh:
        networks, clusters;
        zone: the private zone, None if the stack has none;
        links: routes between the networks.
    """

    networks: dict[str, Network | FoundNetwork]
    clusters: dict[str, EksCluster]
    zone: PrivateZone | None
    links: NetworkLinks

    def __init__(self, name: str, args: AwsClustersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:aws:AwsClusters", name, None, opts)
        self._args = args
        self._numbers = self._account_numbers()
        self._gateway = self._transit_gateway()
        self.networks = {cluster.name: self._network(cluster) for cluster in args.clusters}
        self.links = NetworkLinks(
            f"{name}-links",
            NetworkLinksArgs(
                ends=[self._end(cluster) for cluster in args.clusters],
                join=args.settings.join,
                tags=args.settings.tags,
                transit_gateway=self._gateway,
            ),
            self._in(args.clusters[0]),
        )
        self.zone = self._zone(f"{name}-dns") if args.settings.private_zone else None
        self.clusters = {cluster.name: self._cluster(cluster) for cluster in args.clusters}
        self.register_outputs({"endpoints": {name: each.endpoint for name, each in self.clusters.items()}})

    def requirements(self, name: str) -> tuple[pulumi.Resource, ...]:
        """Returns the components that must outlive every Kubernetes object of a cluster.

        Finalizers and controllers need the routes to AWS, the nodes, the access entries and, from another network, the
        links for as long as there is an object left.
        """
        return (self.networks[name], self.links, self.clusters[name])

    def boundary(self, name: str) -> pulumi.Input[str] | None:
        """Returns the ARN of the boundary of a cluster's roles, None for none.

        A boundary is a policy of the roles' own account: in every account of the stack it has the same name.
        """
        arn = self._args.settings.permissions_boundary
        (cluster,) = (each for each in self._args.clusters if each.name == name)
        account = cluster.spec.account
        if not arn or account is None or not self._numbers:
            return arn or None
        number = account.number or self._numbers[account.label]
        if isinstance(number, str):
            return in_account(arn, number)
        return number.apply(lambda known: in_account(arn, known))

    def _account_numbers(self) -> dict[str, pulumi.Output[str]]:
        """Returns the number of each account by its label where the stack has several, once it is no other's too."""
        first: dict[str, AwsCluster] = {}
        for cluster in self._args.clusters:
            first.setdefault(cluster.spec.account_label, cluster)
        if len(first) < 2:
            return {}
        numbers = {
            label: aws.get_caller_identity_output(opts=self._invoke(cluster)).account_id
            for label, cluster in first.items()
        }
        names = {label: cluster.name for label, cluster in first.items()}
        checked = pulumi.Output.all(**numbers).apply(
            lambda known: check_accounts(known, names, self._args.source)
        )
        return {
            label: pulumi.Output.all(number, checked).apply(lambda both: str(both[0]))
            for label, number in numbers.items()
        }

    def _transit_gateway(self) -> pulumi.Output[str] | None:
        """Returns the id of the transit gateway that the stack names, once it is known to be of use."""
        id_ = self._args.settings.transit_gateway_id
        if not id_:
            return None
        opts = self._invoke(self._args.clusters[0])
        wanted: list[aws.ec2transitgateway.GetTransitGatewayFilterArgsDict] = [
            {"name": "transit-gateway-id", "values": [id_]},
            {"name": "state", "values": ["available"]},
        ]
        found = aws.ec2transitgateway.get_transit_gateway_output(filters=wanted, opts=opts)
        account = aws.get_caller_identity_output(opts=opts).account_id
        return pulumi.Output.all(found, account).apply(
            lambda both: id_ if check_gateway(_gateway_facts(both[0]), both[1], self._args.source) else ""
        )

    def _in(self, cluster: AwsCluster) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, providers=[self._args.providers[cluster.name]])

    def _invoke(self, cluster: AwsCluster) -> pulumi.InvokeOutputOptions:
        return pulumi.InvokeOutputOptions(parent=self, provider=self._args.providers[cluster.name])

    def _foreign(self, cluster: AwsCluster) -> aws.Provider | None:
        """The provider of a cluster that is in another account than the first, None for the others."""
        home = self._args.clusters[0].spec.account_label
        return None if cluster.spec.account_label == home else self._args.providers[cluster.name]

    def _zone(self, name: str) -> PrivateZone:
        clusters = self._args.clusters
        args = PrivateZoneArgs(
            domain=self._args.settings.private_zone,
            networks=[
                ZoneNetwork(c.name, c.region, self.networks[c.name].vpc_id, self._foreign(c))
                for c in clusters
            ],
            tags=self._args.settings.tags,
        )
        return PrivateZone(name, args, self._in(clusters[0]))

    def _network(self, cluster: AwsCluster) -> Network | FoundNetwork:
        if cluster.spec.network:
            key = f"fedmesh:clusters[{cluster.name}].eks.network"
            return FoundNetwork(
                f"{cluster.name}-network",
                FoundNetworkArgs(
                    network=cluster.spec.network,
                    vpc_cidr=cluster.spec.vpc_cidr,
                    key=key,
                    source=self._args.source,
                    after=self._unowned(cluster),
                ),
                self._in(cluster),
            )
        return Network(
            f"{cluster.name}-network",
            NetworkArgs(
                cluster_name=cluster.eks_name,
                region=cluster.region,
                vpc_cidr=cluster.spec.vpc_cidr,
                zones=cluster.spec.zones,
                verified_zones=self._zones(cluster),
                nat_per_zone=cluster.spec.nat == "per-zone",
                flow_log_days=cluster.spec.flow_log_days,
                interface_endpoints=INTERFACE_ENDPOINTS if cluster.spec.vpc_endpoints == "all" else (),
                permissions_boundary=self.boundary(cluster.name),
                tags=self._args.settings.tags,
            ),
            self._in(cluster),
        )

    def _zones(self, cluster: AwsCluster) -> pulumi.Output[Mapping[str, str]]:
        """Returns the zones by name, known when nothing in the account is in the cluster's way."""
        opts = self._invoke(cluster)
        found = aws.get_availability_zones_output(
            filters=[{"name": "zone-type", "values": ["availability-zone"]}], opts=opts
        )
        zones = found.apply(
            lambda zones: verified_zones(
                cluster.spec.zones,
                dict(zip(zones.names, zones.zone_ids, strict=True)),
                f"fedmesh:clusters[{cluster.name}].eks.zones",
                self._args.source,
            )
        )
        return pulumi.Output.all(zones, self._unowned(cluster)).apply(lambda both: both[0])

    def _unowned(self, cluster: AwsCluster) -> pulumi.Output[bool]:
        """Known when no other stack has an EKS cluster of the name, and accounts and gateway have been checked."""
        opts = self._invoke(cluster)
        tags = aws.eks.get_clusters_output(opts=opts).names.apply(
            lambda names: (
                aws.eks.get_cluster_output(name=cluster.eks_name, opts=opts).tags
                if cluster.eks_name in names
                else pulumi.Output.from_input(dict[str, str]())
            )
        )
        return pulumi.Output.all(tags, self._gateway, *self._numbers.values()).apply(
            lambda known: check_owner(known[0], pulumi.get_stack(), cluster.eks_name)
        )

    def _end(self, cluster: AwsCluster) -> NetworkEnd:
        network = self.networks[cluster.name]
        return NetworkEnd(
            name=cluster.name,
            region=cluster.region,
            cidr=cluster.spec.vpc_cidr,
            vpc_id=network.vpc_id,
            subnet_ids=network.private_subnet_ids,
            route_table_ids=network.route_table_ids,
            account=self._numbers.get(cluster.spec.account_label),
            provider=self._foreign(cluster),
        )

    def _cluster(self, cluster: AwsCluster) -> EksCluster:
        network = self.networks[cluster.name]
        peers = [peer for peer in self._args.clusters if peer.name != cluster.name]
        return EksCluster(
            f"{cluster.name}-eks",
            EksClusterArgs(
                cluster_name=cluster.eks_name,
                alias=cluster.alias,
                region=cluster.region,
                spec=cluster.spec,
                vpc_id=network.vpc_id,
                private_subnet_ids=network.private_subnet_ids,
                public_subnet_ids=network.public_subnet_ids,
                peer_cidrs={peer.name: peer.spec.vpc_cidr for peer in peers},
                peer_addresses=[
                    address for peer in peers for address in self.networks[peer.name].nat_addresses
                ],
                network=network,
                mesh_cidrs=self._args.settings.mesh_cidrs,
                permissions_boundary=self.boundary(cluster.name),
                tags=self._args.settings.tags,
                spire_servers=self._args.spire_servers,
            ),
            self._in(cluster),
        )


def _gateway_facts(found: aws.ec2transitgateway.GetTransitGatewayResult) -> dict[str, Any]:
    return {
        "id": found.id,
        "owner": found.owner_id,
        "association": found.default_route_table_association == "enable",
        "propagation": found.default_route_table_propagation == "enable",
        "dns": found.dns_support == "enable",
        "auto_accept": found.auto_accept_shared_attachments == "enable",
    }
