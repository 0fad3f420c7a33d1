"""`python -m testbed.fedmesh`: the command `fedmesh` with the lab's drills, and the stack `lab` by default."""

import sys

from fedmesh.cli import main
from testbed.lab.drills import ENVIRONMENT

if __name__ == "__main__":
    sys.exit(main(environment=ENVIRONMENT))
