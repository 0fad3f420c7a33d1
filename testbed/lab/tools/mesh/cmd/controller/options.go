package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/cert-manager/cert-manager/pkg/controller"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
	utilfeature "github.com/cert-manager/cert-manager/pkg/util/feature"
)

// options hold the flags of the official controller that its chart sets, with their official defaults.
type options struct {
	controller.ContextOptions
	controllers                               []string
	leaderElect                               bool
	electionNamespace                         string
	leaseDuration, renewDeadline, retryPeriod time.Duration
	metricsAddress, healthzAddress            string
}

func parseFlags(args []string) (*options, error) {
	o := &options{ContextOptions: controller.ContextOptions{
		CertificateOptions: controller.CertificateOptions{
			CopiedAnnotationPrefixes:                 []string{"*", "-kubectl.kubernetes.io/", "-fluxcd.io/", "-argocd.argoproj.io/"},
			CertificateRequestMinimumBackoffDuration: time.Hour,
			CertificateRequestMaximumBackoffDuration: 32 * time.Hour,
		},
	}}
	flags := pflag.NewFlagSet("controller", pflag.ContinueOnError)
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "path to a kubeconfig; in-cluster configuration when empty")
	flags.Float32Var(&o.KubernetesAPIQPS, "kube-api-qps", 20, "queries per second to the API server")
	flags.IntVar(&o.KubernetesAPIBurst, "kube-api-burst", 50, "burst of queries to the API server")
	flags.StringVar(&o.Namespace, "namespace", "", "the only namespace to look at; all when empty")
	flags.StringVar(&o.ClusterResourceNamespace, "cluster-resource-namespace", "kube-system", "namespace of the secrets of ClusterIssuers")
	flags.StringVar(&o.HTTP01SolverImage, "acme-http01-solver-image", "", "accepted for the chart; this build has no ACME issuer")
	flags.IntVar(&o.MaxConcurrentChallenges, "max-concurrent-challenges", 60, "accepted for the chart; this build has no ACME issuer")
	flags.StringSliceVar(&o.controllers, "controllers", []string{"*"}, "controllers to run; '*' is all, '-name' leaves one out")
	flags.BoolVar(&o.EnableOwnerRef, "enable-certificate-owner-ref", false, "make Certificates the owners of their secrets")
	flags.BoolVar(&o.leaderElect, "leader-elect", true, "run only while holding the lease")
	flags.StringVar(&o.electionNamespace, "leader-election-namespace", "kube-system", "namespace of the lease")
	flags.DurationVar(&o.leaseDuration, "leader-election-lease-duration", 60*time.Second, "how long a lease lasts")
	flags.DurationVar(&o.renewDeadline, "leader-election-renew-deadline", 40*time.Second, "how long to try to renew the lease")
	flags.DurationVar(&o.retryPeriod, "leader-election-retry-period", 15*time.Second, "time between two tries")
	flags.StringVar(&o.metricsAddress, "metrics-listen-address", "0.0.0.0:9402", "address of the metrics; '0' for none")
	flags.StringVar(&o.healthzAddress, "healthz-listen-address", "0.0.0.0:9403", "address of the health checks")
	utilfeature.DefaultMutableFeatureGate.AddFlag(flags)
	logging := logsapi.NewLoggingConfiguration()
	logf.AddFlags(logging, flags)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	return o, logf.ValidateAndApply(logging)
}

func (o *options) enabled(name string) bool {
	if slices.Contains(o.controllers, "-"+name) {
		return false
	}
	all := !slices.ContainsFunc(o.controllers, func(c string) bool { return !strings.HasPrefix(c, "-") && c != "*" })
	return all || slices.Contains(o.controllers, "*") || slices.Contains(o.controllers, name)
}
