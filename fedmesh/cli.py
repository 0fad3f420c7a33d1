"""The command line of `fedmesh`. Commands import what they need when they run: help and completion stay fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from fedmesh.defaults import DEADLINE, DEADLINE_PER_CLUSTER, LOAD_IMAGE, PRE_DEADLINE
from fedmesh.drill.environment import ANY_CLUSTER, Environment
from fedmesh.interrupts import handled

if TYPE_CHECKING:
    from fedmesh.drill.target import Protocol
    from fedmesh.topology import Topology

NAME = "fedmesh"
COMPLETE_VARIABLE = "_FEDMESH_COMPLETE"
INTERRUPTED = 130
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)

Function = Callable[..., Any]


def main(arguments: Sequence[str] | None = None, environment: Environment = ANY_CLUSTER) -> int:
    """Runs one command and returns its exit code.

    0: success; 1: a check, a drill or an attack failed; 2: usage or configuration error, or a cluster that a command
    needs does not answer; 130: Ctrl-C.
    """
    try:
        with handled():
            code = commands.main(
                args=None if arguments is None else list(arguments),
                prog_name=NAME,
                complete_var=COMPLETE_VARIABLE,
                standalone_mode=False,
                obj=environment,
            )
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return 2
    except Exception as error:
        if not _is_told(error):
            raise
        click.echo(f"{NAME}: {error}", err=True)
        return 2
    return code if isinstance(code, int) else 0


def _is_told(error: Exception) -> bool:
    """Whether an error's message is for the user: a configuration error, or a cluster that does not answer."""
    from fedmesh.drill.means import DrillError
    from fedmesh.kube import KubeError

    return isinstance(error, DrillError | KubeError)


def _version() -> str:
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return "unknown: run from a checkout without `make venv` or `pip install`"


def _stack_files(project: Path) -> list[str]:
    return sorted(path.name[len("Pulumi.") : -len(".yaml")] for path in project.glob("Pulumi.*.yaml"))


def _complete_stack(context: click.Context, _option: click.Parameter, typed: str) -> list[CompletionItem]:
    from fedmesh.stack import project_folder

    try:
        project = context.params.get("project") or project_folder(Path.cwd())
    except FileNotFoundError:
        return []
    return [CompletionItem(name) for name in _stack_files(Path(project)) if name.startswith(typed)]


def _complete_drill(_context: click.Context, _option: click.Parameter, typed: str) -> list[CompletionItem]:
    from fedmesh.drill.command import DRILLS

    names = ["all", *(each.name for each in DRILLS)]
    return [CompletionItem(name) for name in names if name.startswith(typed)]


def _of_a_stack(function: Function) -> Function:
    """Adds the options that select a stack."""
    project = click.option(
        "--project", type=FOLDER, help="Folder with Pulumi.yaml. [default: this one or the nearest above]"
    )
    stack = click.option(
        "-s",
        "--stack",
        envvar="PULUMI_STACK",
        shell_complete=_complete_stack,
        help="Stack whose Pulumi.<stack>.yaml describes the mesh. "
        "[default: $PULUMI_STACK, or the only stack of the project]",
    )
    return stack(project(function))


def _mesh(environment: Environment, stack: str | None, project: Path | None) -> tuple[Topology, Path]:
    """The mesh of a stack and its project's folder. Raises click.UsageError and click.ClickException."""
    from components.config.errors import ConfigError
    from fedmesh.stack import load, project_folder

    try:
        folder = project or project_folder(Path.cwd())
        name = stack or environment.stack
        if not name:
            stacks = _stack_files(folder)
            if len(stacks) != 1:
                raise click.UsageError(
                    f"name a stack with --stack; stacks here: {', '.join(stacks) or 'none'}"
                )
            name = stacks[0]
        return load(folder, name), folder
    except (FileNotFoundError, ConfigError) as error:
        raise click.ClickException(str(error)) from error


@click.group(
    context_settings=SETTINGS,
    epilog="Exit codes: 0 success; 1 a check, a drill or an attack failed; 2 usage or configuration error, or a "
    "cluster that a command needs does not answer.",
)
@click.version_option(_version(), prog_name=NAME)
def commands() -> None:
    """Operate a service mesh that the Pulumi program fedmesh manages.

    \b
    Example:
      fedmesh verify --stack prod
    """


@commands.command()
@_of_a_stack
@click.option("--pre", is_flag=True, help="Check the clusters before the first `pulumi up` instead.")
@click.option(
    "--service",
    metavar="NAMESPACE/NAME",
    help="Show instead what is in force for the calls to a service: time-outs, retries, balancing, failover.",
)
@click.option(
    "--read-only",
    is_flag=True,
    help="Read objects only, with the rights of docs/verify-role.yaml. What this cannot see is a warning.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--output", type=FILE, help="Write the JSON report to a file as well.")
@click.option("-q", "--quiet", is_flag=True, help="Print failures only.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="A check without an answer by then has failed. "
    f"[default: {DEADLINE:.0f}, and {DEADLINE_PER_CLUSTER:.0f} for each cluster after the second; "
    f"with --pre {PRE_DEADLINE:.0f}]",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Repeat the checks until all of them pass, this long at most. A new mesh needs up to three minutes until "
    "every istiod reads its peers. [default: 0]",
)
@click.pass_obj
def verify(
    environment: Environment,
    *,
    stack: str | None,
    project: Path | None,
    pre: bool,
    service: str | None,
    read_only: bool,
    as_json: bool,
    output: Path | None,
    quiet: bool,
    timeout: float | None,
    wait: float,
) -> int:
    """Check the live mesh: clusters, configuration, certificates, SPIRE, Istio, traffic and security.

    Each failed check comes with its cause, a remedy and a link to its entry in docs/troubleshooting.md. Warnings do
    not change the exit code. With --pre nothing needs to be installed: the command checks what existing clusters, and
    the AWS account of those that are created, must have before the first `pulumi up`.

    \b
    Examples:
      fedmesh verify --stack prod
      fedmesh verify --stack prod --pre
      fedmesh verify --stack prod --service shop/cart
      fedmesh verify --stack prod --json | jq '.results[] | select(.ok | not)'
    """
    from fedmesh.verify import account
    from fedmesh.verify.command import show_service, verify

    if pre and read_only:
        raise click.UsageError("--pre makes a temporary Service: it cannot be combined with --read-only")
    topology, folder = _mesh(environment, stack, project)
    if service is not None:
        try:
            return show_service(topology, service, as_json=as_json)
        except LookupError as error:
            raise click.ClickException(str(error)) from error
    return verify(
        topology,
        pre=pre,
        as_json=as_json,
        quiet=quiet,
        output=output,
        timeout=timeout,
        wait=wait,
        reads_only=read_only,
        accounts=account.load(folder, topology.stack) if pre else (),
    )


@commands.command()
@_of_a_stack
@click.option("-w", "--watch", is_flag=True, help="Refresh until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two refreshes.",
)
@click.pass_obj
def status(
    environment: Environment, *, stack: str | None, project: Path | None, watch: bool, interval: float
) -> int:
    """Show clusters, certificates, federation and traffic.

    \b
    Examples:
      fedmesh status --stack prod
      fedmesh status --stack prod --watch
    """
    from fedmesh.status.command import status

    topology, _ = _mesh(environment, stack, project)
    return status(topology, watch, interval)


@commands.command()
@_of_a_stack
@click.argument("drills", nargs=-1, metavar="[DRILL]...", shell_complete=_complete_drill)
@click.option(
    "--target",
    metavar="NAMESPACE/SERVICE[:PORT]",
    help="Service that is called; its pods are what drills 1 to 3 take away. [default: the sample helloworld]",
)
@click.option(
    "--protocol",
    type=click.Choice(["http", "grpc", "tcp", "websocket"]),
    default="http",
    show_default=True,
    help="Protocol of the calls. gRPC calls have an empty message; TCP and WebSocket connections last for the whole "
    "drill, and the service must send something over them.",
)
@click.option("--method", default="GET", show_default=True, help="HTTP method of the calls.")
@click.option("--path", default="/", show_default=True, help="HTTP path, or /package.Service/Method of gRPC.")
@click.option(
    "--caller",
    metavar="NAMESPACE[/ACCOUNT]",
    help="Where the calling pods run, and as whom. [default: sleep/sleep, without samples the target's namespace]",
)
@click.option("--client", metavar="CLUSTER", help="Cluster that sends the load. [default: the first]")
@click.option(
    "--rate",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="Requests per second of each load.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Time-out of each request.",
)
@click.option(
    "--before",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Load before the fault.",
)
@click.option(
    "--fault",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Duration of the fault. [default: the drill's own]",
)
@click.option(
    "--after",
    type=click.FloatRange(min=0),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="Load after the fault.",
)
@click.option("--image", default=LOAD_IMAGE, show_default=True, help="Image with vegeta and a shell.")
@click.option(
    "--destructive", metavar="STACK", help="Confirm destructive drills: type the name of the stack."
)
@click.option(
    "--baseline", is_flag=True, help="Send the same load to a set-up as in Istio's documents, for comparison."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--html", type=FILE, help="Write one self-contained page with timelines.")
@click.option("--output", type=FILE, help="Write the findings as JSON to a file as well.")
@click.option("--docs", type=FOLDER, help="Write page, JSON, timelines and a README.md into a folder.")
@click.option("--summary", type=FOLDER, help="Write a README.md and the timelines it shows into a folder.")
@click.option("--security", is_flag=True, hidden=True)
@click.pass_obj
def drill(
    environment: Environment,
    *,
    stack: str | None,
    project: Path | None,
    drills: tuple[str, ...],
    target: str | None,
    protocol: Protocol,
    method: str,
    path: str,
    caller: str | None,
    client: str | None,
    rate: int,
    timeout: float,
    before: float,
    fault: float | None,
    after: float,
    image: str,
    destructive: str | None,
    baseline: bool,
    as_json: bool,
    html: Path | None,
    output: Path | None,
    docs: Path | None,
    summary: Path | None,
    security: bool,
) -> int:
    """Inject faults under load and measure what callers notice.

    DRILL is a number or a name, or `all`; without one the command lists them. The exit code is 1 when a request was
    lost, a drill missed its objective or a change was not undone. Every change is undone at the end, after an error
    and after Ctrl-C. Run one drill at a time.

    \b
    Examples:
      fedmesh drill app-scaled --stack dev
      fedmesh drill app-killed --stack dev --target shop/orders:8080 --method POST --path /orders
      fedmesh drill 5 --stack dev --destructive dev --html drill.html
    """
    from fedmesh.drill.command import Options, catalogue, drill
    from fedmesh.drill.play import Pace

    if security and drills:
        raise click.UsageError("--security takes no drills; it is now the command `fedmesh attack`")
    if security:
        click.echo("fedmesh: `drill --security` is now `fedmesh attack`", err=True)
        return _attack(
            environment, stack=stack, project=project, destructive=destructive, as_json=as_json, output=output
        )
    if not drills:
        raise click.UsageError(f"name a drill, or all.\n\n{catalogue(environment)}")
    topology, folder = _mesh(environment, stack, project)
    options = Options(
        names=drills,
        target=target,
        protocol=protocol,
        method=method,
        path=path,
        caller=caller,
        client=client,
        pace=Pace(rate, timeout, before, fault, after),
        image=image,
        destructive=destructive,
        baseline=baseline,
        json=as_json,
        html=html,
        output=output,
        docs=docs,
        summary=summary,
    )
    return drill(topology, folder, options, environment)


@commands.command()
@_of_a_stack
@click.option("--destructive", metavar="STACK", help="Confirm the attacks: type the name of the stack.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--output", type=FILE, help="Write the findings as JSON to a file as well.")
@click.pass_obj
def attack(
    environment: Environment,
    *,
    stack: str | None,
    project: Path | None,
    destructive: str | None,
    as_json: bool,
    output: Path | None,
) -> int:
    """Attack the mesh and report how each attack was refused.

    The attacks run on every cluster, from pods that the command creates and removes. Each has a control: an authorized
    request to the same target. The exit code is 1 when an attack got through or could not be judged, or when a change
    was not undone.

    \b
    Example:
      fedmesh attack --stack dev --destructive dev
    """
    return _attack(
        environment, stack=stack, project=project, destructive=destructive, as_json=as_json, output=output
    )


def _attack(
    environment: Environment,
    *,
    stack: str | None,
    project: Path | None,
    destructive: str | None,
    as_json: bool,
    output: Path | None,
) -> int:
    from fedmesh.attack.command import attack, refuse_unconfirmed
    from fedmesh.drill.means import Means

    topology, folder = _mesh(environment, stack, project)
    means = Means(topology, folder, environment)
    refuse_unconfirmed(means.contained, topology.stack, destructive)
    return attack(topology, means, as_json, output)


@commands.command()
@_of_a_stack
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--docs", type=FOLDER, help="Write latency.md and latency.json into a folder.")
@click.option("--image", default=LOAD_IMAGE, show_default=True, help="Image with vegeta and a shell.")
@click.pass_obj
def latency(
    environment: Environment,
    *,
    stack: str | None,
    project: Path | None,
    as_json: bool,
    docs: Path | None,
    image: str,
) -> int:
    """Measure the latency that a call to another cluster adds to a local one.

    The exit code is 1 when a request was lost.

    \b
    Example:
      fedmesh latency --stack prod
    """
    from fedmesh.drill.latency import latency

    topology, _ = _mesh(environment, stack, project)
    return latency(topology, as_json, docs, image)


@commands.command()
@_of_a_stack
@click.argument("name", type=click.Choice(["prometheus", "grafana", "kiali"]), default="prometheus")
@click.option("--cluster", help="Cluster of the dashboard. [default: the first]")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port on the loopback. [default: a free one]"
)
@click.option("--browse", is_flag=True, help="Open the dashboard in the browser.")
@click.pass_obj
def dashboard(
    environment: Environment,
    *,
    stack: str | None,
    project: Path | None,
    name: str,
    cluster: str | None,
    port: int,
    browse: bool,
) -> int:
    """Serve a dashboard of the mesh on this machine's loopback until Ctrl-C.

    The connection goes through the cluster's API server; nothing else can reach it.

    \b
    Example:
      fedmesh dashboard grafana --stack prod --cluster seoul --browse
    """
    from fedmesh.dashboard import dashboard

    topology, _ = _mesh(environment, stack, project)
    return dashboard(topology, name, cluster, port, browse)


@commands.command()
@_of_a_stack
@click.argument("cluster")
@click.option("--force", is_flag=True, help="Also when services run on this cluster alone.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait until calls to the cluster have ended, this long at most; what is left is not cut.",
)
@click.pass_obj
def drain(
    environment: Environment,
    *,
    stack: str | None,
    project: Path | None,
    cluster: str,
    force: bool,
    wait: float,
) -> int:
    """Have the other clusters send no new calls to a cluster, and set `drained` in the stack file.

    Calls and connections that the cluster has are not cut. The next `pulumi up` agrees, and takes the cluster out of
    the edge as well. The exit code is 1 when one of the other clusters did not follow.

    \b
    Example:
      fedmesh drain cluster-2 --stack prod
    """
    return _drain(environment, stack, project, cluster, drained=True, force=force, wait=wait)


@commands.command()
@_of_a_stack
@click.argument("cluster")
@click.pass_obj
def undrain(environment: Environment, *, stack: str | None, project: Path | None, cluster: str) -> int:
    """Have the other clusters call a drained cluster again.

    \b
    Example:
      fedmesh undrain cluster-2 --stack prod
    """
    return _drain(environment, stack, project, cluster, drained=False, force=False, wait=0.0)


def _drain(
    environment: Environment,
    stack: str | None,
    project: Path | None,
    cluster: str,
    *,
    drained: bool,
    force: bool,
    wait: float,
) -> int:
    from fedmesh.drain import drain

    topology, folder = _mesh(environment, stack, project)
    return drain(topology, folder, cluster, drained=drained, force=force, wait=wait, say=click.echo)


@commands.command()
@click.argument("shell", type=click.Choice(["bash", "zsh"]))
def completion(shell: str) -> int:
    """Print the completion script of a shell.

    \b
    Examples:
      fedmesh completion bash > ~/.local/share/bash-completion/completions/fedmesh
      fedmesh completion zsh > "${fpath[1]}/_fedmesh"
    """
    generator = get_completion_class(shell)
    if generator is None:
        raise click.ClickException(f"there is no completion for {shell}")
    click.echo(generator(commands, {}, NAME, COMPLETE_VARIABLE).source())
    return 0
