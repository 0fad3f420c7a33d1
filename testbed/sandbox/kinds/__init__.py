"""The resource types that the simulated AWS stands for."""

from testbed.sandbox.kinds import dns, ec2, eks, identity, links
from testbed.sandbox.kinds.base import Kind

KINDS: dict[str, Kind] = {
    kind.resource: kind() for kind in (*ec2.KINDS, *links.KINDS, *identity.KINDS, *eks.KINDS, *dns.KINDS)
}
