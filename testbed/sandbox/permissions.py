"""Records the calls of a run to AWS; `cloud.authorization` judges them."""

import os
from pathlib import Path
from typing import Any

# IAM's service prefixes that differ from the API's names.
IAM_NAMES = {"elbv2": "elasticloadbalancing"}
# Calls that IAM knows by another name; tags are asked for separately.
IAM_ACTIONS = {"cloudfront:CreateDistributionWithTags": "cloudfront:CreateDistribution"}
CALLS_FILE = "FEDMESH_SANDBOX_CALLS"


def record(client: Any) -> None:
    """Makes a boto3 client record its calls in the file $FEDMESH_SANDBOX_CALLS, if it is set."""
    path = os.environ.get(CALLS_FILE)
    if not path:
        return
    service = client.meta.service_model.service_name
    prefix = IAM_NAMES.get(service, service)

    def note(model: Any, **_: Any) -> None:
        with Path(path).open("a", encoding="utf-8") as file:
            action = f"{prefix}:{model.name}"
            file.write(f"{IAM_ACTIONS.get(action, action)}\n")

    client.meta.events.register("before-call", note)


def recorded(path: Path) -> set[str]:
    """The recorded calls, as IAM actions."""
    return set(path.read_text(encoding="utf-8").split()) if path.exists() else set()
