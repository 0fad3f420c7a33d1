"""The resource types that the simulated AWS stands for."""

from testbed.sandbox.kinds import cdn, database, dns, ec2, eks, identity, links
from testbed.sandbox.kinds.base import Kind

KINDS: dict[str, Kind] = {
    kind.resource: kind() for each in (ec2, links, identity, eks, dns, cdn, database) for kind in each.KINDS
}
