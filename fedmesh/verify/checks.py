"""Every check, in the order of the report: a failure often explains the ones after it."""

from fedmesh.verify import (
    certificates,
    cluster,
    configuration,
    identity,
    istio,
    requirements,
    security,
    services,
    spire,
    strangers,
    traffic,
)

# Of a mesh that is installed.
ALL = (
    *cluster.CHECKS,
    *configuration.CHECKS,
    *certificates.CHECKS,
    *spire.CHECKS,
    *istio.CHECKS,
    *identity.CHECKS,
    *traffic.CHECKS,
    *services.CHECKS,
    *security.CHECKS,
    *strangers.CHECKS,
)
# Before the first `pulumi up`.
PRE = (*cluster.CHECKS, configuration.nodes_name_their_place, *requirements.CHECKS)
