"""Monitoring of the mesh: Prometheus, Grafana and Kiali."""
