"""`make sandbox`: takes a stack's AWS half from the first preview to destroy, with the real engine."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from testbed.engine import EngineError, Outcome
from testbed.lab import apiserver, paths
from testbed.sandbox import account, changes, door, inventory, permissions, terraform_plan
from testbed.sandbox.aws import Aws
from testbed.sandbox.cloud import running
from testbed.sandbox.engine import SandboxEngine
from testbed.sandbox.reach import require_answer

Say = Callable[[str], None]
FEWEST_CLUSTERS = 2
PLACE = 10  # of the caller's address in its range
FORGET_UNREACHABLE = {"PULUMI_K8S_DELETE_UNREACHABLE": "true"}


class JourneyError(Exception):
    """A step did not do what it must."""


def expect(condition: bool, text: str) -> None:
    """Raises JourneyError with the text unless the condition holds."""
    if not condition:
        raise JourneyError(text)


@dataclass(frozen=True)
class AwsCaller:
    """From where Pulumi is run: an address on the internet, or in the first VPC where an API server is private."""

    address: IPv4Address
    in_vpc: bool

    @classmethod
    def of(cls, config: changes.Config) -> "AwsCaller":
        """The caller whom the stack's own config lets in."""
        made = [cluster["eks"] for cluster in config[changes.CLUSTERS]]
        if all(eks.get("endpoint", {}).get("public") for eks in made):
            return cls(IPv4Network(changes.CALLERS)[PLACE], in_vpc=False)
        return cls(IPv4Network(made[0]["vpcCidr"])[PLACE], in_vpc=True)


class ApiServers:
    """One bare API server per cluster, behind a door that lets in whom AWS would let in.

    Attributes:
        kubeconfigs: the text of the kubeconfigs by the clusters' names.
        doors: the doors by the clusters' names.
    """

    def __init__(self, regions: Mapping[str, str], caller: AwsCaller, folder: Path) -> None:
        self.kubeconfigs: dict[str, str] = {}
        self.doors: dict[str, door.Door] = {}
        self._running: dict[str, ExitStack] = {}
        tools = paths.cache() / "bin"
        for name, region in regions.items():
            stack = self._running[name] = ExitStack()
            started = stack.enter_context(apiserver.running(name, tools, _made(folder / name)))
            url = urlsplit(started.url)
            judge = partial(require_answer, Aws(region), name, caller.address, from_vpc=caller.in_vpc)
            before = stack.enter_context(door.opened((str(url.hostname), int(url.port or 443)), judge))
            self.doors[name] = before
            kubeconfig = started.kubeconfig.read_text(encoding="utf-8")
            self.kubeconfigs[name] = kubeconfig.replace(started.url, f"https://127.0.0.1:{before.port}")

    def refused(self) -> list[str]:
        """Why callers were not let in."""
        return [reason for each in self.doors.values() for reason in each.refused]

    def stop(self, name: str) -> None:
        """Stops one of them for good."""
        self._running.pop(name).close()

    def stop_all(self) -> None:
        """Stops those that are still running."""
        for name in list(self._running):
            self.stop(name)


class Journey:
    """One stack's life, step by step. `plans` is the folder for its plans, which checkov reads."""

    def __init__(self, engine: SandboxEngine, say: Say, plans: Path | None = None) -> None:
        self._engine = engine
        self._plans = plans
        self._say = say
        self._config = engine.committed()
        self._half = changes.aws_half(self._config)
        self._regions = tuple(sorted({cluster["region"] for cluster in self._config[changes.CLUSTERS]}))
        self._servers: ApiServers
        self._planned: list[dict[str, Any]] = []
        self._before = inventory.take(self._regions).left

    @property
    def clusters(self) -> dict[str, str]:
        """The regions of the clusters by their names in EKS, including the one that is added later."""
        count = len(self._config[changes.CLUSTERS]) + 1
        grown = changes.grown(self._config, count)[changes.CLUSTERS]
        return {f"istio-eks-{cluster['name']}": cluster["region"] for cluster in grown}

    @property
    def caller(self) -> AwsCaller:
        """From where Pulumi is run."""
        return AwsCaller.of(self._config)

    def run(self, servers: ApiServers) -> dict[str, float]:
        """Takes every step and returns the duration of each in seconds. Raises JourneyError or EngineError."""
        self._servers = servers
        seconds: dict[str, float] = {}
        for name, step in self._steps():
            started = time.monotonic()
            try:
                outcome = step()
            except EngineError as error:
                reasons = "\n".join(f"not let in: {reason}" for reason in servers.refused())
                raise JourneyError(f"{name}: {error}\n{reasons}") from error
            seconds[name] = time.monotonic() - started
            self._say(f"  {name:<44} {outcome or 'as expected'}")
        return seconds

    def _steps(self) -> Iterator[tuple[str, Callable[[], Outcome | str | None]]]:
        yield "preview of everything, with every policy", self._preview
        yield "up, AWS half, with every policy", self._make
        yield "up again changes nothing", self._unchanged
        yield "refresh finds no drift", lambda: self._refresh(expected=0)
        yield "what was made", self._report
        yield "a route deleted by hand is found and repaired", self._drift
        yield "one more general node per cluster", lambda: self._up(changes.resized(self._half, 1), "update")
        self._half = changes.resized(self._half, 1)
        yield "next Kubernetes version", lambda: self._up(changes.upgraded(self._half), "update")
        self._half = changes.upgraded(self._half)
        if self._config[changes.CLUSTERS][0]["eks"].get("deletionProtection"):
            yield "protected clusters refuse to be destroyed", self._refused
            self._half = changes.unprotected(self._half)
            yield "protection taken off", lambda: self._up(self._half, "update")
        yield "one more cluster", self._grow
        yield "that cluster removed again", lambda: self._up(self._half, "delete")
        yield "up again changes nothing, still", self._unchanged
        yield "one API server dies, up for the others", self._survive
        if len(self._half[changes.CLUSTERS]) > FEWEST_CLUSTERS:
            yield "the dead one taken out of the config", self._remove_dead
        else:
            yield "what lay on the dead one leaves the state", self._forget_dead
        yield "destroy", lambda: self._engine.run("destroy")
        yield "nothing is left", self._nothing_left
        yield "each call was one that docs/iam-policy.json allows", self._permitted

    def _preview(self) -> Outcome:
        self._engine.configure(self._config)
        self._planned, outcome = self._engine.planned(policy_packs=self._policies)
        expect(set(outcome.changes) == {"create"}, f"a first preview only creates, not {outcome}")
        return outcome

    def _make(self) -> Outcome:
        """Policies also see IDs and addresses here, which a first preview does not know."""
        outcome = self._up(self._half, "create", policy_packs=self._policies)
        if self._plans:
            terraform_plan.write(terraform_plan.merged(self._planned, self._engine.resources()), self._plans)
        return outcome

    @property
    def _policies(self) -> list[str]:
        return [str(self._engine.project / "policies")]

    def _up(
        self,
        config: changes.Config,
        operation: str,
        variables: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Outcome:
        self._engine.configure(config)
        outcome = self._engine.run("up", variables=variables, **options)
        expect(outcome.changes.get(operation, 0) > 0, f"nothing to {operation}: {outcome}")
        replaced = outcome.changes.get("replace", 0) + outcome.changes.get("create-replacement", 0)
        expect(replaced == 0, f"{replaced} resources were replaced: {outcome.output[-3000:]}")
        return outcome

    def _unchanged(self) -> Outcome:
        outcome = self._engine.run("up", expect_no_changes=True)
        expect(outcome.changed == 0, f"a second up changed something: {outcome}")
        return outcome

    def _refresh(self, expected: int) -> Outcome:
        outcome = self._engine.run("refresh")
        expect(
            outcome.changed == expected,
            f"{outcome.changed} drifted, not {expected}: {outcome.output[-3000:]}",
        )
        return outcome

    def _report(self) -> str:
        return "\n" + inventory.as_text(inventory.take(self._regions))

    def _drift(self) -> Outcome:
        ec2 = Aws(self._regions[0]).client("ec2")
        table, route = next(
            (table, route)
            for table in ec2.describe_route_tables()["RouteTables"]
            for route in table["Routes"]
            if route.get("NatGatewayId")
        )
        cidr = route["DestinationCidrBlock"]
        ec2.delete_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock=cidr)
        self._refresh(expected=1)
        repaired = self._engine.run("up")
        expect(repaired.changes.get("create") == 1, f"one route was to be made again: {repaired}")
        return repaired

    def _grow(self) -> Outcome:
        return self._up(changes.grown(self._half, len(self._half[changes.CLUSTERS]) + 1), "create")

    def _survive(self) -> Outcome:
        self._servers.stop(list(self.clusters)[-2])
        self._half = changes.resized(self._half, 1)
        return self._up(self._half, "update")

    def _remove_dead(self) -> Outcome:
        self._half = changes.without(self._half, len(self._half[changes.CLUSTERS]) - 1)
        return self._up(self._half, "delete", variables=FORGET_UNREACHABLE)

    def _forget_dead(self) -> Outcome:
        outcome = self._engine.run("refresh", variables=FORGET_UNREACHABLE)
        expect(outcome.changes.get("delete", 0) > 0, f"nothing left the state: {outcome}")
        return outcome

    def _refused(self) -> str:
        try:
            self._engine.run("destroy")
        except EngineError as error:
            expect("deletion protection" in str(error), f"refused for another reason: {error}")
        else:
            raise JourneyError("clusters with deletion protection were destroyed")
        self._engine.run("up")
        return "refused, and up made whole what the try had taken"

    def _permitted(self) -> str:
        """AWS has judged every call with its resource and conditions; one that is not allowed would have ended `up`."""
        actions = permissions.recorded(self._engine.calls)
        expect(len(actions) > 0, "no call was recorded")
        return f"{len(actions)} different actions"

    def _nothing_left(self) -> None:
        left = inventory.take(self._regions).left
        expect(
            left == self._before,
            f"left behind: { {k: n for k, n in left.items() if n != self._before.get(k, 0)} }",
        )


@contextmanager
def api_servers(
    engine: SandboxEngine, regions: Mapping[str, str], caller: AwsCaller, folder: Path
) -> Iterator[ApiServers]:
    """Runs API servers that stand in for an engine's clusters of these names."""
    servers = ApiServers(regions, caller, folder)
    try:
        for name, kubeconfig in servers.kubeconfigs.items():
            file = engine.clusters / f"{name}.kubeconfig"
            file.touch(mode=0o600)
            file.write_text(kubeconfig, encoding="utf-8")
        yield servers
    finally:
        servers.stop_all()


def run(project: Path, stacks: list[str], say: Say, plans: Path | None = None) -> dict[str, dict[str, float]]:
    """Takes stacks through their lives, each with a fresh AWS. Returns seconds by stack and step.

    Each stack's plan is written to a folder of its name in `plans`, for checkov.
    """
    return {stack: _run(project, stack, say, plans / stack if plans else None) for stack in stacks}


def _run(project: Path, stack: str, say: Say, plans: Path | None) -> dict[str, float]:
    say(f"stack {stack}")
    policy = project / "docs" / "iam-policy.json"
    with _folder(project, stack) as folder, running.running(folder / "aws.log", policy) as cloud:
        inventory.use(cloud)
        account.prepare(cloud["AWS_ENDPOINT_URL"])
        engine = SandboxEngine(project, folder, stack, cloud)
        journey = Journey(engine, say, plans)
        with api_servers(engine, journey.clusters, journey.caller, folder) as servers:
            return journey.run(servers)


def scale(project: Path, stack: str, counts: list[int], say: Say) -> dict[int, float]:
    """Returns the duration of a full preview in seconds, by the number of clusters."""
    seconds: dict[int, float] = {}
    with _folder(project, "scale") as folder, running.running(folder / "aws.log") as cloud:
        engine = SandboxEngine(project, folder, stack, cloud)
        for count in counts:
            engine.configure(changes.grown(engine.committed(), count))
            outcome = engine.run("preview")
            seconds[count] = outcome.seconds
            say(f"  preview of {count:>2} clusters {outcome}")
    return seconds


@contextmanager
def _folder(project: Path, name: str) -> Iterator[Path]:
    """A fresh folder for state and logs, which contain secrets. It is removed afterwards, or at the next start."""
    folder = project / ".sandbox" / "run" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
