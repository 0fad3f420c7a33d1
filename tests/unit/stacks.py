"""The stacks that the project commits, with what a user must add to them."""

from datetime import date
from pathlib import Path
from typing import Any

import yaml

from components.config.settings import PREFIX, Settings, parse

PROJECT = Path(__file__).parents[2]
# The tests hold on any day: EKS's versions come and go.
TODAY = date(2026, 11, 25)
# A range on the internet, which nobody calls from here.
CALLERS = "8.8.4.0/24"


def values(stack: str) -> dict[str, Any]:
    """The values of Pulumi.<stack>.yaml by key, without the prefix."""
    config = yaml.safe_load((PROJECT / f"Pulumi.{stack}.yaml").read_text())["config"]
    return {key.removeprefix(PREFIX): value for key, value in config.items()}


def committed(stack: str) -> Settings:
    """The settings of a committed stack; public API servers have callers."""
    given = values(stack)
    for cluster in given["clusters"]:
        endpoint = cluster.get("eks", {}).get("endpoint", {})
        if endpoint.get("public"):
            endpoint["cidrs"] = [CALLERS]
    return parse(given, f"Pulumi.{stack}.yaml", TODAY)
