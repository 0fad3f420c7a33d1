"""Availability zones that EKS takes subnets of."""

from collections.abc import Mapping, Sequence

from components.config.errors import ConfigError

# Source: the subnet requirements in the EKS user guide. Zone names map to other ids in every account, so that only
# AWS can tell whether a name stands for one of these.
UNSUPPORTED_ZONE_IDS = frozenset({"use1-az3", "usw1-az2", "cac1-az3"})


def verified_zones(
    zones: Sequence[str], zone_ids: Mapping[str, str], key: str, source: str
) -> dict[str, str]:
    """Returns the zones by name after comparing them with the zones of the account.

    Args:
        zones: the names in the stack file.
        zone_ids: ids of the region's availability zones by name, as the account has them.
        key, source: where the stack file lists the zones.

    Raises:
        ConfigError: the account has no such zone, or EKS does not take its subnets.
    """
    usable = {name for name, zone_id in zone_ids.items() if zone_id not in UNSUPPORTED_ZONE_IDS}
    for zone in zones:
        if zone not in usable:
            reason = (
                f"{zone} is {zone_ids[zone]} in this account, which EKS does not support"
                if zone in zone_ids
                else f"{zone} is not an availability zone of this account"
            )
            raise ConfigError(key, source, f"{reason}; allowed: {', '.join(sorted(usable))}")
    return {zone: zone for zone in zones}
