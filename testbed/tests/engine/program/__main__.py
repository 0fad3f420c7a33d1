"""A ConfigMap in the cluster of $WRAPPED_KUBECONFIG. $WRAPPED_MISTAKE breaks it, $WRAPPED_PAUSE delays it."""

import os
import time
from pathlib import Path

import pulumi
import pulumi_kubernetes as kubernetes

if os.environ.get("WRAPPED_MISTAKE"):
    raise ValueError(os.environ["WRAPPED_MISTAKE"])
time.sleep(float(os.environ.get("WRAPPED_PAUSE", "0")))
config = pulumi.Config()
provider = kubernetes.Provider("cluster", kubeconfig=Path(os.environ["WRAPPED_KUBECONFIG"]).read_text())
kubernetes.core.v1.ConfigMap(
    "word",
    metadata={"name": "word", "namespace": "default"},
    data={"word": config.require("word")},
    opts=pulumi.ResourceOptions(provider=provider),
)
pulumi.export("secret", pulumi.Output.secret(config.require("word")))
