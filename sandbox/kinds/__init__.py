"""The resource types that the simulated AWS stands for."""

from sandbox.kinds import dns, ec2, eks, identity, links
from sandbox.kinds.base import Kind

KINDS: dict[str, Kind] = {
    kind.resource: kind() for kind in (*ec2.KINDS, *links.KINDS, *identity.KINDS, *eks.KINDS, *dns.KINDS)
}
