"""Pytest fixtures that the product's engine tests and the test bed's share."""

from collections.abc import Iterator

import pytest

from testbed.sandbox.cloud import running


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A simulated AWS: the environment variables that direct AWS clients to it."""
    with running.running(tmp_path_factory.mktemp("aws") / "aws.log") as environment:
        yield environment
