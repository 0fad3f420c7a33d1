"""What a chart is given: the values of the program over those of files, over a local chart's own."""

import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pulumi
import yaml
from pulumi_policy.proxy import UnknownValueError

from policies.inputs import Inputs, list_of

Files = Mapping[str, bytes]
# under this key Istio's charts keep their own values
ISTIO_DEFAULTS = "_internal_defaults_do_not_set"
UNREADABLE = (EOFError, OSError, TypeError, ValueError, tarfile.TarError, yaml.YAMLError)
LITERAL_IMAGE = re.compile(r"^\s*(?:-\s+)?image:\s*[\"']?([^\s\"'{}#]+)[\"']?\s*(?:#.*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Chart:
    """A chart's values as far as they are known, the images that its own templates name, and what can't be judged."""

    values: Inputs
    images: tuple[str, ...]
    unjudged: tuple[str, ...]


def source_of(inputs: Inputs) -> str:
    """The repository or registry of a chart, "" for a local one."""
    chart = str(inputs.get("chart") or "")
    repository = str((inputs.get("repositoryOpts") or {}).get("repo") or "").rstrip("/")
    return repository or (chart.rsplit("/", 1)[0] if "://" in chart else "")


def chart_of(inputs: Inputs) -> Chart:
    """The chart of a Release or a Chart."""
    values: Inputs = {}
    images: tuple[str, ...] = ()
    unjudged: list[str] = []
    chart = str(inputs.get("chart") or "")
    if chart and not source_of(inputs):
        try:
            values, images = _local(chart)
        except UNREADABLE:
            unjudged.append(f"the chart {chart} can't be read here, and so can't be judged")
    for asset in list_of(inputs.get("valueYamlFiles")):
        try:
            values = overlaid(values, _mapping(_content(asset)))
        except UNREADABLE:
            name = getattr(asset, "path", None) or getattr(asset, "uri", None) or "one of valueYamlFiles"
            unjudged.append(f"the values in {name} can't be read here, and so can't be judged")
    for field in ("postrender", "postRenderer"):
        if inputs.get(field):
            unjudged.append(f"{field} changes what the chart makes, which so can't be judged")
    return Chart(overlaid(values, inputs.get("values") or {}), images, tuple(unjudged))


def overlaid(below: Inputs, above: Inputs) -> Inputs:
    """Values as Helm merges them; those that are unknown yet hide what is below."""
    merged = dict(below)
    for key in above:
        try:
            value = above[key]
        except UnknownValueError:
            merged.pop(key, None)
            continue
        under = merged.get(key)
        if isinstance(value, Mapping):
            merged[key] = overlaid(
                cast(Inputs, under) if isinstance(under, Mapping) else {}, cast(Inputs, value)
            )
        elif value is not None:
            merged[key] = value
    return merged


def _content(asset: Any) -> str | bytes:
    if isinstance(asset, pulumi.FileAsset):
        return Path(asset.path).read_bytes()
    if isinstance(asset, pulumi.StringAsset):
        return asset.text
    raise TypeError("neither a file nor a text")


def _mapping(text: str | bytes) -> Inputs:
    parsed = yaml.safe_load(text) or {}
    if not isinstance(parsed, Mapping):
        raise TypeError("no values")
    return cast(Inputs, parsed)


@cache
def _local(chart: str) -> tuple[Inputs, tuple[str, ...]]:
    """Values and images of a folder or an archive."""
    path = Path(chart)
    if path.is_dir():
        files = {
            each.relative_to(path).as_posix(): each.read_bytes() for each in path.rglob("*") if each.is_file()
        }
    else:
        files = _unpacked(path.read_bytes())
    return _defaults(files), tuple(dict.fromkeys(_literal_images(files)))


def _unpacked(archive: bytes) -> Files:
    """The files of a chart's archive, by their paths in the chart."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {
            each.name.partition("/")[2]: content.read()
            for each in opened.getmembers()
            if each.isfile() and (content := opened.extractfile(each))
        }


def _defaults(files: Files) -> Inputs:
    if "Chart.yaml" not in files:
        raise ValueError("no chart")
    own = dict(_mapping(files.get("values.yaml", b"")))
    own = overlaid(own.pop(ISTIO_DEFAULTS, None) or {}, own)
    for needed in _needed(files):
        name = str(_mapping(needed["Chart.yaml"]).get("name"))
        own = overlaid({name: _defaults(needed)}, own)
    return own


def _needed(files: Files) -> Iterator[Files]:
    """The charts inside a chart, in folders or archives."""
    folders: dict[str, dict[str, bytes]] = {}
    for name, content in files.items():
        top, *rest = PurePosixPath(name).parts
        if top == "charts" and len(rest) > 1:
            folders.setdefault(rest[0], {})["/".join(rest[1:])] = content
        elif top == "charts" and rest and rest[0].endswith((".tgz", ".tar.gz")):
            folders[rest[0]] = dict(_unpacked(content))
    yield from (each for each in folders.values() if "Chart.yaml" in each)


def _literal_images(files: Files) -> Iterator[str]:
    for name, content in files.items():
        if name.startswith("templates/") and name.endswith((".yaml", ".yml", ".tpl", ".json")):
            yield from LITERAL_IMAGE.findall(content.decode("utf-8", "replace"))
    for needed in _needed(files):
        yield from _literal_images(needed)
