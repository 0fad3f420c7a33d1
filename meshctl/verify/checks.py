"""Every check, in the order of the report: what fails first explains what fails below it."""

from meshctl.verify import certificates, cluster, identity, istio, security, spire, traffic

ALL = (
    *cluster.CHECKS,
    *certificates.CHECKS,
    *spire.CHECKS,
    *istio.CHECKS,
    *identity.CHECKS,
    *traffic.CHECKS,
    *security.CHECKS,
)
