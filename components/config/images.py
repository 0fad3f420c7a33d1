"""Where container images come from, and by which digests."""

from functools import cache
from pathlib import Path
from typing import Annotated, cast

import yaml

from components.config.fields import Flag, Matching, Model, setting

# `make image-digests` writes it
FILE = Path(__file__).with_name("images.yaml")
Registry = Annotated[
    str,
    Matching("a registry such as registry.example/mirror", r"^([a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._/-]+)?)?$"),
]


class ImageSettings(Model):
    """Where container images come from."""

    registry: Registry = setting("", example="registry.example/mirror")
    """A registry, and a folder in it, that holds all images under the paths that they have in the public
    registries. Without it, images come from the public registries."""
    digests: Flag | None = setting(
        None,
        example=False,
        default_text="`true`, or `false` with `registry`",
        replaces="nothing; pods restart",
        since="0.2",
    )
    """Whether images that components/config/images.yaml has a digest for are pulled by it, so that nobody can replace
    them in their registry. A mirror must then hold them with all their platforms, as only that keeps the digest."""

    def of(self, image: str) -> str:
        """How a pod names an image of a public registry: in the stack's registry, and by its digest.

        The registry takes the place of the host: `docker.io/istio/x:1` in `r.example/m` is `r.example/m/istio/x:1`.
        """
        named = f"{self.registry}/{image.partition('/')[2]}" if self.registry else image
        digest = self.digest(image)
        return f"{named}@{digest}" if digest else named

    def digest(self, image: str) -> str:
        """The digest by which an image of a public registry is pulled, "" for by its tag."""
        by_digest = not self.registry if self.digests is None else self.digests
        return (known_digests().get(image) or "") if by_digest else ""


@cache
def known_digests() -> dict[str, str | None]:
    """The digest of each image that the program uses, None where it is not known."""
    images = cast(dict[str, dict[str, str]], yaml.safe_load(FILE.read_text(encoding="utf-8")))
    return {image: each.get("digest") for image, each in images.items()}
