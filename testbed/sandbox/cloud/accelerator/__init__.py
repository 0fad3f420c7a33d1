"""Global Accelerator as a moto service, since moto has none."""

import sys

from moto import backend_index

from testbed.sandbox.cloud.accelerator.models import globalaccelerator_backends

__all__ = ["globalaccelerator_backends", "install"]


def install() -> None:
    """Registers the service with moto."""
    sys.modules["moto.globalaccelerator"] = sys.modules[__name__]
    backend_index.backend_url_patterns.append(("globalaccelerator", URL))


from testbed.sandbox.cloud.accelerator.urls import URL  # noqa: E402 - moto's order: models, responses, urls
