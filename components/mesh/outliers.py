"""Istio's OutlierDetection as the stack sets it."""

from typing import Any

from components.config.mesh import OutlierDetection


def outlier_figures(outliers: OutlierDetection) -> dict[str, Any]:
    """The figures of Istio's OutlierDetection."""
    return {
        "consecutive5xxErrors": outliers.consecutive_5xx,
        "consecutiveGatewayErrors": outliers.consecutive_gateway,
        "consecutiveLocalOriginFailures": outliers.consecutive_local_failures,
        "interval": outliers.interval,
        "baseEjectionTime": outliers.base_ejection,
    }
