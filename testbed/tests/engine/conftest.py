"""Tests of the test bed that need the Pulumi engine."""

from pathlib import Path

import pytest

from testbed.fixtures import cloud

__all__ = ["cloud"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)
            item.add_marker(pytest.mark.timeout(600))
