"""Serves the simulated AWS on a loopback port until it is stopped: `python -m testbed.sandbox.cloud PORT`."""

import os
import signal
import sys

# Attaching a policy that AWS does not have must fail here too: moto knows AWS's own policies only if asked.
os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple

from testbed.sandbox.cloud import (
    accelerator,
    accounts,
    authorization,
    databases,
    dependents,
    distributions,
    eks_api,
    names,
    running,
)


def main() -> None:
    """Runs in the foreground."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    eks_api.install()
    accelerator.install()
    databases.install()
    dependents.install()
    names.install()
    accounts.install()
    distributions.install()
    authorization.install()
    # what judges a call looks at the simulated AWS as its other clients do
    os.environ.update(running.environment(int(sys.argv[1]), key="observer"))
    application = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
