"""The policy pack is silent on the project's own stacks and examples, as the program registers them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pulumi_policy import PolicyResourceOptions, ResourceValidationArgs, ResourceValidationPolicy

from policies.network import EDGE_SERVICES
from policies.pack import policies
from tests.unit import stacks, test_examples

COMMITTED = sorted(path.name.split(".")[1] for path in stacks.PROJECT.glob("Pulumi.*.yaml"))
# What a load balancer of a cluster that is not AWS's reaches is not in its Service: docs/aws.md has users list these.
INSIDE = ("istio-gateways/istio-eastwestgateway", "spire/spire-bundle")
# Who runs Pulumi, as the mock of AWS says.
DEPLOYER = "arn:aws:iam::123456789012:role/deployer"
OPTIONS = PolicyResourceOptions(False, [], False, None, None, [])


def config(stack: str, folder: Path) -> dict[str, Any]:
    """The values of a stack, with the callers and the local charts that a user must bring."""
    if stack not in COMMITTED:
        return test_examples.config(stack)
    given = stacks.values(stack)
    for cluster in given["clusters"]:
        eks = cluster.get("eks", {})
        if eks.get("endpoint", {}).get("public"):
            eks["endpoint"]["cidrs"] = [stacks.CALLERS]
        if eks.get("admins"):
            eks["admins"].append(DEPLOYER)
        if "kubeconfig" in cluster:
            cluster["kubeconfig"].setdefault("context", "admin")
    for chart in given.get("charts", {}).values():
        if "path" in chart:
            path = folder / Path(chart["path"]).name
            path.mkdir()
            (path / "Chart.yaml").write_text(yaml.safe_dump({"name": path.name, "version": "1.31.0"}))
            chart["path"] = str(path)
    return given


def realistic(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs in which the mock's ARNs name the kind of their resource, as AWS's do."""
    return json.loads(json.dumps(inputs).replace("arn:aws:mock:::", "arn:aws:mock:::kind/"))


def complaints(kind: str, inputs: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for policy in policies():
        assert isinstance(policy, ResourceValidationPolicy)
        args = ResourceValidationArgs(kind, realistic(inputs), "urn", "name", OPTIONS, None, dict(config))
        policy.validate(args, lambda message, _urn, name=policy.name: found.append(f"{name}: {message}"))
    return found


@pytest.mark.parametrize("stack", [*COMMITTED, *test_examples.NAMES])
def test_no_resource_of_the_projects_own_stacks_breaks_a_rule(
    stack: str, folder: Path, tmp_path: Path
) -> None:
    given = config(stack, tmp_path)
    mesh = test_examples.preview(given, folder)
    foreign = any("eks" not in cluster for cluster in given["clusters"])
    listed = {"edgeServices": [*EDGE_SERVICES, *INSIDE]} if foreign else {}
    registered = [each for each in mesh.objects if not each.read]
    assert len(registered) > 50
    found = {each.name: said for each in registered if (said := complaints(each.type, each.inputs, listed))}
    assert found == {}, json.dumps(found, indent=1)
