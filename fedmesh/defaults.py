"""Defaults of options, apart from the commands: the command line shows them without importing those."""

# Seconds within which every check of `fedmesh verify` must have answered: for two clusters, and more for each other.
DEADLINE = 18.0
DEADLINE_PER_CLUSTER = 6.0
# The same of `fedmesh verify --pre`, which waits for a load balancer.
PRE_DEADLINE = 90.0
# An image with vegeta and a shell, for load pods.
LOAD_IMAGE = "docker.io/peterevans/vegeta:6.9.1"
# An image with curl and a shell, for connections that last.
CURL_IMAGE = "docker.io/curlimages/curl:8.16.0"
