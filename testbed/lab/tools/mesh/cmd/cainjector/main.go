// Command cainjector is cert-manager's CA injector; the official command is a module of its own that the
// registries do not serve, so this one registers the same injectors from the root module.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	_ "github.com/cert-manager/cert-manager/internal/cainjector/feature"
	cmscheme "github.com/cert-manager/cert-manager/pkg/client/clientset/versioned/scheme"
	"github.com/cert-manager/cert-manager/pkg/controller/cainjector"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/cert-manager/cert-manager/pkg/util"
	"github.com/cert-manager/cert-manager/pkg/util/feature"
)

// options hold the flags of the official injector that its chart sets, with their official defaults.
type options struct {
	namespace, electionNamespace, metricsAddress string
	leaderElect                                  bool
	leaseDuration, renewDeadline, retryPeriod    time.Duration
}

func main() {
	logs.InitLogs()
	defer logs.FlushLogs()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	options, err := parseFlags(os.Args[1:])
	if err == nil {
		err = run(ctx, options)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cert-manager cainjector:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string) (*options, error) {
	o := &options{}
	flags := pflag.NewFlagSet("cainjector", pflag.ContinueOnError)
	flags.StringVar(&o.namespace, "namespace", "", "the only namespace to look at; all when empty")
	flags.BoolVar(&o.leaderElect, "leader-elect", true, "run only while holding the lease")
	flags.StringVar(&o.electionNamespace, "leader-election-namespace", "kube-system", "namespace of the lease")
	flags.DurationVar(&o.leaseDuration, "leader-election-lease-duration", 60*time.Second, "how long a lease lasts")
	flags.DurationVar(&o.renewDeadline, "leader-election-renew-deadline", 40*time.Second, "how long to try to renew the lease")
	flags.DurationVar(&o.retryPeriod, "leader-election-retry-period", 15*time.Second, "time between two tries")
	flags.StringVar(&o.metricsAddress, "metrics-listen-address", "0.0.0.0:9402", "address of the metrics; '0' for none")
	feature.DefaultMutableFeatureGate.AddFlag(flags)
	logging := logsapi.NewLoggingConfiguration()
	logf.AddFlags(logging, flags)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	return o, logf.ValidateAndApply(logging)
}

func run(ctx context.Context, o *options) error {
	ctrl.SetLogger(logf.Log)
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	scheme, err := injectables()
	if err != nil {
		return err
	}
	manager, err := ctrl.NewManager(util.RestConfigWithUserAgent(config, "cainjector"), ctrl.Options{
		Scheme:                        scheme,
		Cache:                         cache.Options{ReaderFailOnMissingInformer: true, DefaultNamespaces: namespaces(o.namespace)},
		Client:                        client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
		LeaderElection:                o.leaderElect,
		LeaderElectionNamespace:       o.electionNamespace,
		LeaderElectionID:              "cert-manager-cainjector-leader-election",
		LeaderElectionReleaseOnCancel: true,
		LeaderElectionResourceLock:    resourcelock.LeasesResourceLock,
		LeaseDuration:                 &o.leaseDuration,
		RenewDeadline:                 &o.renewDeadline,
		RetryPeriod:                   &o.retryPeriod,
		Metrics:                       metricsserver.Options{BindAddress: o.metricsAddress},
	})
	if err != nil {
		return err
	}
	err = cainjector.RegisterAllInjectors(ctx, manager, cainjector.SetupOptions{
		Namespace:                    o.namespace,
		EnableCertificatesDataSource: true,
		EnabledReconcilersFor: map[string]bool{
			cainjector.MutatingWebhookConfigurationName:   true,
			cainjector.ValidatingWebhookConfigurationName: true,
			cainjector.APIServiceName:                     true,
			cainjector.CustomResourceDefinitionName:       true,
		},
	})
	if err != nil {
		return err
	}
	return manager.Start(ctx)
}

// injectables is the scheme of all that is read and written: CAs' sources and what they are injected into.
func injectables() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	add := runtime.NewSchemeBuilder(kscheme.AddToScheme, cmscheme.AddToScheme, apiextensions.AddToScheme, apiregistration.AddToScheme)
	return scheme, add.AddToScheme(scheme)
}

func namespaces(only string) map[string]cache.Config {
	if only == "" {
		return nil
	}
	return map[string]cache.Config{only: {}}
}
