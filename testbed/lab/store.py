"""The content-addressed cache of what the lab has built.

An entry is a folder `store/<name>-<key>`. It is filled under a temporary name and renamed when it is
complete, so an entry is complete even if a build was killed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


def content_key(parts: Iterable[str | bytes]) -> str:
    """A hash of the parts and their order, as 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Store:
    """The cache folder: entries are in `store/`; `bin/`, `images/` and `charts` link to them."""

    root: Path

    def entry(self, name: str, key: str) -> Path:
        return self.root / "store" / f"{name}-{key}"

    def has(self, name: str, key: str) -> bool:
        return self.entry(name, key).is_dir()

    def ensure(self, name: str, key: str, fill: Callable[[Path], None]) -> Path:
        """Returns the entry's folder; if it does not exist yet, `fill` is called with an empty folder to fill."""
        entry = self.entry(name, key)
        if not entry.is_dir():
            entry.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=".making-", dir=entry.parent))
            try:
                fill(work)
                work.chmod(0o755)
                work.rename(entry)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        os.utime(entry)  # the time of last use
        return entry

    def prune(self, age: float) -> None:
        """Removes entries that were not used for `age` seconds and that no link points to."""
        linked = {
            link.resolve() for link in [*self.root.glob("*"), *self.root.glob("*/*")] if link.is_symlink()
        }
        for entry in (self.root / "store").iterdir():
            used = any(target.is_relative_to(entry.resolve()) for target in linked)
            if not used and entry.stat().st_mtime < time.time() - age:
                shutil.rmtree(entry, ignore_errors=True)

    def link(self, place: str, target: Path) -> Path:
        """Makes `<root>/<place>` a link to `target`, atomically."""
        link = self.root / place
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink() and link.readlink() == target:
            return link
        fresh = link.with_name(f".{link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.rename(link)
        return link

    @contextmanager
    def lock(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Lets one build at a time run, calls `waiting` if it must wait, and removes what a killed build left."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
            for left in (self.root / "store").glob(".making-*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
