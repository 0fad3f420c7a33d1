"""Entry of `python -m testbed.lab`."""

import sys

from testbed.lab.cli import main

sys.exit(main())
