"""Where the command finds a stack and its kubeconfigs."""

from pathlib import Path

import pytest

from fedmesh import cli
from fedmesh.stack import load

CLUSTER = "{{name: c{n}, trustDomain: t{n}, network: n{n}, region: r, zone: z, kubeconfig: {{path: {path}}}}}"


def stack_file(folder, name, path="~/.kube/config"):
    clusters = ", ".join(CLUSTER.format(n=n, path=path) for n in (1, 2))
    (folder / "Pulumi.yaml").write_text("name: fedmesh\n")
    (folder / f"Pulumi.{name}.yaml").write_text(f"config:\n  fedmesh:clusters: [{clusters}]\n")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("~/.kube/config", "/home/me/.kube/config"),
        ("seoul.kubeconfig", "/project/seoul.kubeconfig"),
        ("/etc/kubeconfig", "/etc/kubeconfig"),
    ],
)
def test_a_kubeconfig_is_found_where_the_program_finds_it(tmp_path, monkeypatch, path, found):
    monkeypatch.setenv("HOME", "/home/me")
    stack_file(tmp_path, "blue", path)
    (first, _) = load(tmp_path, "blue").members
    assert first.kubeconfig == Path(found.replace("/project", str(tmp_path)))


def call(monkeypatch, folder, *arguments):
    asked = []
    monkeypatch.chdir(folder)
    monkeypatch.setattr("fedmesh.status.command.status", lambda mesh, *_: asked.append(mesh.stack) or 0)
    return cli.main(["status", *arguments]), asked


def test_the_only_stack_needs_no_name(tmp_path, monkeypatch):
    monkeypatch.delenv("PULUMI_STACK", raising=False)
    stack_file(tmp_path, "blue")
    assert call(monkeypatch, tmp_path) == (0, ["blue"])


def test_one_of_several_stacks_is_named_by_option_or_variable(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("PULUMI_STACK", raising=False)
    stack_file(tmp_path, "blue")
    stack_file(tmp_path, "green")
    assert call(monkeypatch, tmp_path, "-s", "green") == (0, ["green"])
    assert call(monkeypatch, tmp_path) == (2, [])
    assert "stacks here: blue, green" in capsys.readouterr().err
    monkeypatch.setenv("PULUMI_STACK", "blue")
    assert call(monkeypatch, tmp_path) == (0, ["blue"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["verify", "-s", "red"], "Pulumi.red.yaml does not exist; stacks here: blue, faulty"),
        (["verify", "--timeout", "0"], "--timeout"),
        (["drill"], "app-scaled"),
        (["drill", "77"], "there is no drill 77"),
        (["drill", "nodes"], "needs a test environment"),
        (["drill", "istiod"], "confirm it with --destructive blue"),
        (["attack"], "confirm them with --destructive blue"),
        (["drill", "--security", "all"], "`fedmesh attack`"),
        (["drill", "--security"], "`drill --security` is now `fedmesh attack`"),
        (["verify", "-s", "faulty"], "fedmesh:clusters"),
        (["fly"], "No such command"),
    ],
)
def test_a_wrong_call_is_told_in_one_message_and_ends_with_2(tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    stack_file(tmp_path, "blue")
    (tmp_path / "Pulumi.faulty.yaml").write_text("config:\n  fedmesh:clusters: []\n")
    monkeypatch.setenv("PULUMI_STACK", "blue")
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_every_command_has_a_description_and_an_example(capsys):
    for name, command in cli.commands.commands.items():
        assert cli.main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert command.short_help or command.help
        assert f"  fedmesh {name}" in text.split("Example", 1)[1]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_printed_and_knows_the_commands(monkeypatch, capsys, shell):
    assert cli.main(["completion", shell]) == 0
    assert "_FEDMESH_COMPLETE" in capsys.readouterr().out
    monkeypatch.setenv("_FEDMESH_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "fedmesh ver")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        cli.main([])
    assert "verify" in capsys.readouterr().out


def test_completion_knows_stacks_and_drills(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stack_file(tmp_path, "blue")
    monkeypatch.setenv("_FEDMESH_COMPLETE", "bash_complete")
    for words, completed in (("fedmesh status -s b", "blue"), ("fedmesh drill app-s", "app-scaled")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        with pytest.raises(SystemExit):
            cli.main([])
        assert completed in capsys.readouterr().out
