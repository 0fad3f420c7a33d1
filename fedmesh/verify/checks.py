"""Every check, in the order of the report: what fails first explains what fails below it."""

from fedmesh.verify import certificates, cluster, configuration, identity, istio, security, spire, traffic

ALL = (
    *cluster.CHECKS,
    *configuration.CHECKS,
    *certificates.CHECKS,
    *spire.CHECKS,
    *istio.CHECKS,
    *identity.CHECKS,
    *traffic.CHECKS,
    *security.CHECKS,
)
