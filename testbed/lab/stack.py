"""The stacks of a checkout on the lab: their state is in the checkout's folder .lab."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from testbed import engine
from testbed.lab import users_ca
from testbed.lab.interrupted import forget_lost_releases
from testbed.lab.paths import State

FOLDER = ".lab"


def engine_environment(project: Path) -> dict[str, str]:
    """The environment variables with which the engine and fedmesh work on the lab of the checkout `project`."""
    return engine.environment(project / FOLDER, project)


class LabEngine(engine.Engine):
    """The engine on the stack `name` of the checkout `project`."""

    def __init__(self, name: str, project: Path) -> None:
        super().__init__(project, name, project / FOLDER)

    def run(self, verb: str, *arguments: Any, **options: Any) -> engine.Outcome:
        """Runs a command; after an `up`, the clusters have the issuer of users' certificates that the stack names."""
        outcome = super().run(verb, *arguments, **options)
        if verb == "up":
            file = Path(options.get("config_file") or self.config_file)
            config = yaml.safe_load(file.read_text(encoding="utf-8"))["config"]
            if "fedmesh:ingress" in config:
                names = [each["name"] for each in config["fedmesh:clusters"] if not each.get("down")]
                users_ca.give(State(self.folder), names)
        return outcome

    def after_interruption(self, deployment: Mapping[str, Any]) -> None:
        """Lets Helm install again what the killed engine was installing."""
        kubeconfigs = {file.parent.name: file for file in self.folder.glob("clusters/*/admin.kubeconfig")}
        forget_lost_releases(deployment.get("resources") or [], kubeconfigs, self.environment)


def with_values(config: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The configuration with values set as by `pulumi --config-path --config`: `fedmesh:istio.revision=1-31`.

    As Pulumi does, a value that is JSON is taken for what it says, unless it is a number with a fraction. Raises
    ValueError for an assignment without `=`.
    """
    changed = deepcopy(dict(config))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"{assignment!r} is not of the form KEY=VALUE")
        *parents, last = path.split(".")
        place = changed
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = _value(text)
    return changed


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, float) else value
