module github.com/cert-manager/cert-manager/fedmesh

go 1.26.0

tool (
	istio.io/istio/pilot/cmd/pilot-agent
	istio.io/istio/pilot/cmd/pilot-discovery
)

require (
	github.com/cert-manager/cert-manager v1.21.2
	istio.io/istio v0.0.0-20260827124520-eed52ebb66ad
)
