"""The wrapper of the engine with the real engine, provider and an API server."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import engine
from testbed.engine import Engine, EngineError
from testbed.lab import paths, processes
from testbed.lab.apiserver import running

PROGRAM = Path(__file__).parent / "program"


def files(folder: Path) -> dict[str, bytes]:
    """Everything in the program's folder but what Python compiled."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def left_in_the_temporary_folder() -> set[str]:
    return {file.name for file in Path(tempfile.gettempdir()).glob("kubeconfig*")}


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running("wrapped", paths.cache() / "bin", tmp_path_factory.mktemp("server")) as server:
        variables = {"WRAPPED_KUBECONFIG": str(server.kubeconfig)}
        yield Engine(PROGRAM, "test", tmp_path_factory.mktemp("engine"), variables=variables, timeout=300)


def test_a_stacks_life_leaves_no_trace_in_the_work_tree_and_in_the_temporary_folder(wrapped: Engine) -> None:
    before, temporary = files(PROGRAM), left_in_the_temporary_folder()
    assert wrapped.run("preview").changes == {"create": 3}
    assert wrapped.run("up").changes == {"create": 3}
    assert wrapped.outputs() == {"secret": "committed"}
    again = wrapped.run("up", expect_no_changes=True)
    assert again.changed == 0
    assert again.changes == {"same": 3}
    assert files(PROGRAM) == before
    assert left_in_the_temporary_folder() == temporary
    assert list((wrapped.folder / "tmp").iterdir()) == []
    assert (wrapped.folder / "tmp").stat().st_mode & 0o777 == 0o700
    assert (wrapped.folder / "passphrase").stat().st_mode & 0o777 == 0o600


def test_secrets_are_encrypted_in_the_state(wrapped: Engine) -> None:
    stack = next(each for each in wrapped.resources() if each["type"] == "pulumi:pulumi:Stack")
    assert "ciphertext" in stack["outputs"]["secret"]


def test_a_refused_change_names_the_resource_and_its_properties(wrapped: Engine) -> None:
    wrapped.configure({"wrapped:word": "changed"})
    with pytest.raises(EngineError) as refused:
        wrapped.run("preview", expect_no_changes=True)
    assert "replace kubernetes:core/v1:ConfigMap::word: data.word" in str(refused.value)


def test_the_message_of_a_failed_program_is_in_the_error(wrapped: Engine) -> None:
    with pytest.raises(EngineError, match="a mistake of the program"):
        wrapped.run("preview", variables={"WRAPPED_MISTAKE": "a mistake of the program"})
    with pytest.raises(EngineError, match="a mistake of the program"):
        wrapped.planned(variables={"WRAPPED_MISTAKE": "a mistake of the program"})


def test_lines_are_passed_on_as_they_come(wrapped: Engine) -> None:
    lines: list[str] = []
    outcome = wrapped.run("preview", lines.append)
    assert "\n".join(lines) == outcome.output != ""


def test_what_a_preview_plans_is_given(wrapped: Engine) -> None:
    planned, outcome = wrapped.planned()
    assert {each["urn"].rsplit("::", 1)[1] for each in planned} >= {"word"}
    assert outcome.changes["replace"] == 1


def test_a_killed_engine_leaves_no_process_and_its_lock_is_removed(wrapped: Engine) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            wrapped.run("up", variables={"WRAPPED_PAUSE": "60"})
        except EngineError as failed:
            failures.append(failed)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 60
    while not list((wrapped.folder / "state" / ".pulumi" / "locks").rglob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    engine.kill(wrapped.folder)
    thread.join(timeout=30)
    assert len(failures) == 1
    assert list(processes.with_variable(engine.FOLDER_MARKER, str(wrapped.folder))) == []
    assert list((wrapped.folder / "tmp").iterdir()) == []
    another = Engine(
        PROGRAM, "test", wrapped.folder, variables={name: wrapped.environment[name] for name in own(wrapped)}
    )
    assert another.run("destroy").changes == {"delete": 3}


def own(wrapped: Engine) -> list[str]:
    return [name for name in wrapped.environment if name.startswith("WRAPPED") and name not in os.environ]


def test_an_engine_that_takes_too_long_is_killed(wrapped: Engine) -> None:
    impatient = Engine(
        PROGRAM,
        "test",
        wrapped.folder,
        variables={**{name: wrapped.environment[name] for name in own(wrapped)}, "WRAPPED_PAUSE": "60"},
        timeout=5,
    )
    with pytest.raises(TimeoutError):
        impatient.run("preview")
    assert list(processes.with_variable(engine.FOLDER_MARKER, str(wrapped.folder))) == []
