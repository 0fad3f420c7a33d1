"""Checks before calls of moto's backends."""

from collections.abc import Callable
from functools import wraps
from typing import Any


def check_before(owner: type, name: str, check: Callable[..., None]) -> None:
    """Has a method call `check` first, with the same arguments; what it raises is the answer."""
    original = getattr(owner, name)

    @wraps(original)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        check(self, *args, **kwargs)
        return original(self, *args, **kwargs)

    setattr(owner, name, checked)
