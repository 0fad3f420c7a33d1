"""Peering of VPCs and transit gateways."""

from typing import Any

from testbed.sandbox.aws import Aws, digest, given, pascal, tag_list
from testbed.sandbox.kinds.base import Inputs, Kind, Properties
from testbed.sandbox.kinds.ec2 import Ec2Kind


def connection(aws: Aws, id_: str) -> dict[str, Any] | None:
    """A peering connection as EC2 describes it, unless it is gone."""
    ec2 = aws.client("ec2")
    found = ec2.describe_vpc_peering_connections(VpcPeeringConnectionIds=[id_])["VpcPeeringConnections"]
    return found[0] if found and found[0]["Status"]["Code"] not in ("deleted", "rejected") else None


class VpcPeeringConnection(Ec2Kind):
    resource = "aws:ec2/vpcPeeringConnection:VpcPeeringConnection"
    replace_on = frozenset({"vpcId", "peerVpcId", "peerRegion", "peerOwnerId"})
    ec2_type = "vpc-peering-connection"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        ec2 = aws.client("ec2")
        across = inputs.get("peerRegion", aws.region) != aws.region or inputs.get("peerOwnerId")
        if inputs.get("autoAccept") and across:
            raise ValueError("`autoAccept` is only possible within one region of one account")
        asked = given(PeerRegion=inputs.get("peerRegion"), PeerOwnerId=inputs.get("peerOwnerId"))
        id_ = ec2.create_vpc_peering_connection(
            VpcId=inputs["vpcId"], PeerVpcId=inputs["peerVpcId"], **asked, **self.tags(inputs)
        )["VpcPeeringConnection"]["VpcPeeringConnectionId"]
        if inputs.get("autoAccept"):
            ec2.accept_vpc_peering_connection(VpcPeeringConnectionId=id_)
        found = connection(aws, id_)
        return id_, {"acceptStatus": found["Status"]["Code"] if found else "pending-acceptance"}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = connection(aws, id_)
        if found is None:
            return None
        return {"acceptStatus": found["Status"]["Code"], "vpcId": found["RequesterVpcInfo"]["VpcId"]}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_vpc_peering_connection(VpcPeeringConnectionId=id_)


class VpcPeeringConnectionAccepter(Kind):
    resource = "aws:ec2/vpcPeeringConnectionAccepter:VpcPeeringConnectionAccepter"
    replace_on = frozenset({"vpcPeeringConnectionId"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        ec2, id_ = aws.client("ec2"), inputs["vpcPeeringConnectionId"]
        if inputs.get("autoAccept"):
            ec2.accept_vpc_peering_connection(VpcPeeringConnectionId=id_)
        ec2.create_tags(Resources=[id_], Tags=tag_list(inputs.get("tags")))
        return id_, {"acceptStatus": "active" if inputs.get("autoAccept") else "pending-acceptance"}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = connection(aws, id_)
        return {"acceptStatus": found["Status"]["Code"]} if found else None

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        aws.client("ec2").create_tags(Resources=[id_], Tags=tag_list(new.get("tags")))
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        """The requester's side deletes the connection."""


class PeeringConnectionOptions(Kind):
    resource = "aws:ec2/peeringConnectionOptions:PeeringConnectionOptions"
    replace_on = frozenset({"vpcPeeringConnectionId"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        self._apply(aws, inputs)
        return inputs["vpcPeeringConnectionId"], {}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = connection(aws, id_)
        if found is None:
            return None
        sides = {"requester": "RequesterVpcInfo", "accepter": "AccepterVpcInfo"}
        return {
            side: {
                "allowRemoteVpcDnsResolution": found[info]
                .get("PeeringOptions", {})
                .get("AllowDnsResolutionFromRemoteVpc", False)
            }
            for side, info in sides.items()
            if side in state
        }

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        self._apply(aws, new)
        return {}

    def _apply(self, aws: Aws, inputs: Inputs) -> None:
        found = connection(aws, inputs["vpcPeeringConnectionId"])
        if found is None or found["Status"]["Code"] != "active":
            raise ValueError("the options of a peering connection can only be set once it is active")
        sides = {
            f"{side.capitalize()}PeeringConnectionOptions": {
                "AllowDnsResolutionFromRemoteVpc": inputs[side]["allowRemoteVpcDnsResolution"]
            }
            for side in ("requester", "accepter")
            if inputs.get(side)
        }
        aws.client("ec2").modify_vpc_peering_connection_options(
            VpcPeeringConnectionId=inputs["vpcPeeringConnectionId"], **sides
        )

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        """The options go with their connection."""


class TransitGateway(Ec2Kind):
    resource = "aws:ec2transitgateway/transitGateway:TransitGateway"
    ec2_type, describe = "transit-gateway", "describe_transit_gateways"
    ids, listed = "TransitGatewayIds", "TransitGateways"
    OPTIONS = (
        "dnsSupport",
        "autoAcceptSharedAttachments",
        "defaultRouteTableAssociation",
        "defaultRouteTablePropagation",
    )

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        options = {name: inputs[name] for name in self.OPTIONS if name in inputs}
        made = aws.client("ec2").create_transit_gateway(
            Description=inputs.get("description", ""), Options=pascal(options), **self.tags(inputs)
        )["TransitGateway"]
        table = made["Options"]["AssociationDefaultRouteTableId"]
        return made["TransitGatewayId"], {
            "arn": made["TransitGatewayArn"],
            "ownerId": aws.account(),
            "associationDefaultRouteTableId": table,
            "propagationDefaultRouteTableId": made["Options"]["PropagationDefaultRouteTableId"],
        }

    def seen(self, found: dict[str, Any]) -> Properties:
        return {"description": found["Description"]}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_transit_gateway(TransitGatewayId=id_)


class VpcAttachment(Ec2Kind):
    resource = "aws:ec2transitgateway/vpcAttachment:VpcAttachment"
    replace_on = frozenset({"transitGatewayId", "vpcId"})
    ec2_type, describe = "transit-gateway-attachment", "describe_transit_gateway_vpc_attachments"
    ids, listed = "TransitGatewayAttachmentIds", "TransitGatewayVpcAttachments"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = aws.client("ec2").create_transit_gateway_vpc_attachment(
            TransitGatewayId=inputs["transitGatewayId"],
            VpcId=inputs["vpcId"],
            SubnetIds=inputs["subnetIds"],
            Options={"DnsSupport": inputs.get("dnsSupport", "enable")},
            **self.tags(inputs),
        )["TransitGatewayVpcAttachment"]
        return made["TransitGatewayAttachmentId"], {"vpcOwnerId": aws.account()}

    def seen(self, found: dict[str, Any]) -> Properties:
        return {"subnetIds": found["SubnetIds"], "vpcId": found["VpcId"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        before, after = set(old["subnetIds"]), set(new["subnetIds"])
        asked = given(AddSubnetIds=sorted(after - before), RemoveSubnetIds=sorted(before - after))
        if asked:
            aws.client("ec2").modify_transit_gateway_vpc_attachment(TransitGatewayAttachmentId=id_, **asked)
        return super().update(aws, id_, old, new)

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_transit_gateway_vpc_attachment(TransitGatewayAttachmentId=id_)


class PeeringAttachment(Ec2Kind):
    resource = "aws:ec2transitgateway/peeringAttachment:PeeringAttachment"
    replace_on = frozenset({"transitGatewayId", "peerTransitGatewayId", "peerRegion"})
    ec2_type, describe = "transit-gateway-attachment", "describe_transit_gateway_peering_attachments"
    ids, listed = "TransitGatewayAttachmentIds", "TransitGatewayPeeringAttachments"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = aws.client("ec2").create_transit_gateway_peering_attachment(
            TransitGatewayId=inputs["transitGatewayId"],
            PeerTransitGatewayId=inputs["peerTransitGatewayId"],
            PeerAccountId=inputs.get("peerAccountId", aws.account()),
            PeerRegion=inputs["peerRegion"],
            **self.tags(inputs),
        )["TransitGatewayPeeringAttachment"]
        return made["TransitGatewayAttachmentId"], {"state": made.get("State")}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_transit_gateway_peering_attachment(TransitGatewayAttachmentId=id_)


class PeeringAttachmentAccepter(Kind):
    resource = "aws:ec2transitgateway/peeringAttachmentAccepter:PeeringAttachmentAccepter"
    replace_on = frozenset({"transitGatewayAttachmentId"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        id_ = inputs["transitGatewayAttachmentId"]
        made = aws.client("ec2").accept_transit_gateway_peering_attachment(TransitGatewayAttachmentId=id_)
        accepter = made["TransitGatewayPeeringAttachment"]["AccepterTgwInfo"]
        return id_, {"transitGatewayId": accepter["TransitGatewayId"], "peerRegion": accepter.get("Region")}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        ec2 = aws.client("ec2")
        asked = ec2.describe_transit_gateway_peering_attachments(TransitGatewayAttachmentIds=[id_])
        found = asked["TransitGatewayPeeringAttachments"]
        return {} if found and found[0]["State"] not in ("deleted", "deleting") else None

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        aws.client("ec2").create_tags(Resources=[id_], Tags=tag_list(new.get("tags")))
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        """The side that asked deletes the attachment."""


class TransitGatewayRoute(Kind):
    resource = "aws:ec2transitgateway/route:Route"
    can_update = False

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        aws.client("ec2").create_transit_gateway_route(**self._names(inputs), **self._target(inputs))
        table, cidr = inputs["transitGatewayRouteTableId"], inputs["destinationCidrBlock"]
        return f"{table}_{cidr}_{digest(table, cidr)}", {}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        asked = aws.client("ec2").search_transit_gateway_routes(
            TransitGatewayRouteTableId=state["transitGatewayRouteTableId"],
            Filters=[{"Name": "type", "Values": ["static"]}],
        )
        cidr = state["destinationCidrBlock"]
        found = [r for r in asked["Routes"] if r["DestinationCidrBlock"] == cidr and r["State"] != "deleted"]
        return {"destinationCidrBlock": cidr} if found else None

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_transit_gateway_route(**self._names(state))

    def _names(self, inputs: Inputs) -> dict[str, str]:
        return {
            "TransitGatewayRouteTableId": inputs["transitGatewayRouteTableId"],
            "DestinationCidrBlock": inputs["destinationCidrBlock"],
        }

    def _target(self, inputs: Inputs) -> dict[str, str]:
        return given(TransitGatewayAttachmentId=inputs.get("transitGatewayAttachmentId"))


KINDS = (
    VpcPeeringConnection,
    VpcPeeringConnectionAccepter,
    PeeringConnectionOptions,
    TransitGateway,
    VpcAttachment,
    PeeringAttachment,
    PeeringAttachmentAccepter,
    TransitGatewayRoute,
)
