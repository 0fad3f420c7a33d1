"""Typed reads from one section of the stack configuration, with errors that name key and file."""

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from typing import cast

from components.config.errors import ConfigError


class Section:
    """A mapping at a known key of a known file; `finish` refuses the keys that nobody read."""

    def __init__(self, raw: object, key: str, source: str) -> None:
        if not isinstance(raw, Mapping):
            raise ConfigError(key, source, "must be a mapping")
        self._raw = cast(Mapping[str, object], raw)
        self._read: set[str] = set()
        self.key = key
        self.source = source

    def error(self, name: str, allowed: str) -> ConfigError:
        """An error about one key of this section."""
        return ConfigError(f"{self.key}.{name}", self.source, allowed)

    def has(self, name: str) -> bool:
        """Whether the key is set."""
        return self._raw.get(name) is not None

    def names(self) -> Sequence[str]:
        """The keys of this section."""
        return tuple(self._raw)

    def value(self, name: str) -> object:
        """The raw value of a key, None where it is not set."""
        self._read.add(name)
        return self._raw.get(name)

    def section(self, name: str) -> "Section":
        """A nested mapping, empty where it is not set."""
        value = self.value(name)
        return Section({} if value is None else value, f"{self.key}.{name}", self.source)

    def text(self, name: str, default: str | None = None, pattern: str = r".+", allowed: str = "text") -> str:
        """A string that matches the whole pattern; required where there is no default."""
        value = self.value(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or (value != default and not re.fullmatch(pattern, value)):
            raise self.error(
                name, f"must be {allowed}, not {value!r}" if value is not None else f"is missing: {allowed}"
            )
        return value

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """One of a few words."""
        value = self.value(name)
        if value is None:
            return default
        if value not in choices:
            raise self.error(name, f"must be one of {', '.join(choices)}, not {value!r}")
        return cast(str, value)

    def flag(self, name: str, default: bool) -> bool:
        """A boolean."""
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(name, f"must be true or false, not {value!r}")
        return value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds, both included."""
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(name, f"must be a whole number from {low} to {high}, not {value!r}")
        return value

    def texts(
        self, name: str, default: Sequence[str] = (), pattern: str = r".+", allowed: str = "text"
    ) -> tuple[str, ...]:
        """A list of strings, each matching the whole pattern."""
        value = self.value(name)
        if value is None:
            return tuple(default)
        if not isinstance(value, list):
            raise self.error(name, f"must be a list, not {value!r}")
        for item in cast(list[object], value):
            if not isinstance(item, str) or not re.fullmatch(pattern, item):
                raise self.error(name, f"must hold {allowed}, not {item!r}")
        return tuple(cast(list[str], value))

    def text_map(self, name: str) -> dict[str, str]:
        """A mapping of strings to strings."""
        nested = self.section(name)
        return {key: nested.text(key) for key in nested.names()}

    def cidr(self, name: str, default: str | None = None) -> str:
        """An IPv4 range without host bits."""
        value = self.text(name, default, allowed="an IPv4 range such as 10.2.0.0/16")
        try:
            return str(IPv4Network(value))
        except ValueError as error:
            raise self.error(name, f"must be an IPv4 range such as 10.2.0.0/16: {error}") from None

    def finish(self) -> None:
        """Refuses keys that nobody read: most of them are spelling errors."""
        unknown = sorted(set(self._raw) - self._read)
        if unknown:
            raise self.error(unknown[0], f"is unknown; allowed here: {', '.join(sorted(self._read))}")
