"""Entry point of `python -m fedmesh`."""

import sys

from fedmesh.cli import main

sys.exit(main())
