"""Building blocks on Kubernetes: manifests, objects, Helm charts, access to existing clusters, storage."""
