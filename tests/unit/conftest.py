"""The program on clusters that nobody asks, for every test of what it makes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from components.kube import clusters
from tests.unit.program import LOCAL, Program, members, run

# A property is true or false; how long a loaded machine takes to see it says nothing.
settings.register_profile("fedmesh", deadline=None)
settings.load_profile("fedmesh")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of kubeconfigs whose API servers nobody asks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clusters, "check_answers", lambda *_: None)
        yield tmp_path_factory.mktemp("kubeconfigs")


@pytest.fixture(scope="module")
def mesh(folder: Path) -> Program:
    """The program on three clusters: nothing may know that the lab has two."""
    return run({"clusters": members(3, folder), "storage": LOCAL})
