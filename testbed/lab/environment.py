"""The environment in which the Pulumi engine and fedmesh work on the lab."""

from __future__ import annotations

import os
from pathlib import Path

from testbed.lab import paths


def file_backend(folder: Path) -> str:
    """URL of a backend in a folder, without files of attributes: an engine killed while it writes one leaves a state
    that none can read.
    """
    return f"file://{folder}?metadata=skip"


def engine_environment(project: Path) -> dict[str, str]:
    """PATH with the lab's tools first, and a file backend, passphrase and plugin folder of the checkout's own."""
    state = project / ".lab"
    tools = paths.cache() / "bin"
    python = project / ".venv" / "bin"
    return {
        "PATH": f"{tools}:{python}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "PULUMI_BACKEND_URL": file_backend(state / "state"),
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(state / "passphrase"),
        "PULUMI_HOME": str(state / "pulumi"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # what Python compiled is kept, also where the environment says otherwise: programs start seconds faster
        "PYTHONDONTWRITEBYTECODE": "",
        # the providers are in the plugin folder; looking for newer ones would wait for a network that may not be there
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
