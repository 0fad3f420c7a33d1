"""The operator's command: verify, status, drill, attack, latency, dashboard."""
