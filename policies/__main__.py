"""Entry point of the policy pack: the engine starts it with this folder as its program."""

import sys
from pathlib import Path

from pulumi_policy import PolicyPack

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from policies.pack import NAME, policies

if __name__ == "__main__":
    PolicyPack(name=NAME, policies=policies())
