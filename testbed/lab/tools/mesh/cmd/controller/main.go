// Command controller is cert-manager's controller with the issuers that the mesh uses: selfSigned and CA.
// The official command is a module of its own that the registries do not serve, so this one wires up the same
// controllers from the root module and takes the flags that the official chart passes.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/component-base/logs"

	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/healthz"
	logf "github.com/cert-manager/cert-manager/pkg/logs"

	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
)

const (
	lockName             = "cert-manager-controller"
	leaderHealthTimeout  = 20 * time.Second // official default
	shutdownGracePeriod  = 5 * time.Second
	workersPerController = 5 // official default
)

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
		fmt.Fprintln(os.Stderr, "cert-manager controller:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) error {
	ctx = logf.NewContext(ctx, logf.Log, "controller")
	factory, err := controller.NewContextFactory(ctx, o.ContextOptions)
	if err != nil {
		return err
	}
	base, err := factory.Build()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if err := serveMetrics(ctx, group, base, o.metricsAddress); err != nil {
		return err
	}
	health := healthz.NewServer(leaderHealthTimeout)
	if err := serveHealth(ctx, group, health, o.healthzAddress); err != nil {
		return err
	}
	elected := make(chan struct{})
	if err := campaign(ctx, group, factory, o, health.LeaderHealthzAdaptor, elected); err != nil {
		return err
	}
	select {
	case <-elected:
	case <-ctx.Done():
		return group.Wait()
	}
	if err := startControllers(ctx, group, factory, base, o); err != nil {
		return err
	}
	return group.Wait()
}

func startControllers(ctx context.Context, group *errgroup.Group, factory *controller.ContextFactory, base *controller.Context, o *options) error {
	for name, construct := range controller.Known() {
		if !o.enabled(name) {
			continue
		}
		c, err := construct(factory)
		if err != nil {
			return fmt.Errorf("starting %s: %w", name, err)
		}
		logf.FromContext(ctx).Info("starting controller", "controller", name)
		group.Go(func() error { return c.Run(workersPerController, ctx) })
	}
	base.SharedInformerFactory.Start(ctx.Done())
	base.KubeSharedInformerFactory.Start(ctx.Done())
	base.HTTP01ResourceMetadataInformersFactory.Start(ctx.Done())
	return nil
}

func campaign(ctx context.Context, group *errgroup.Group, factory *controller.ContextFactory, o *options, watchdog *leaderelection.HealthzAdaptor, elected chan struct{}) error {
	if !o.leaderElect {
		close(elected)
		return nil
	}
	clients, err := factory.Build("leader-election")
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	lock, err := resourcelock.New(resourcelock.LeasesResourceLock, o.electionNamespace, lockName,
		clients.Client.CoreV1(), clients.Client.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: host + "-external-cert-manager-controller", EventRecorder: clients.Recorder})
	if err != nil {
		return err
	}
	lost := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: o.leaseDuration, RenewDeadline: o.renewDeadline, RetryPeriod: o.retryPeriod,
		ReleaseOnCancel: true, WatchDog: watchdog,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { close(elected) },
			OnStoppedLeading: func() { close(lost) },
		},
	})
	if err != nil {
		return err
	}
	group.Go(func() error {
		elector.Run(ctx)
		<-lost
		if ctx.Err() != nil {
			return nil
		}
		return errors.New("leader election lost")
	})
	return nil
}

func serveHealth(ctx context.Context, group *errgroup.Group, server *healthz.Server, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	group.Go(func() error { return server.Start(ctx, listener) })
	return nil
}

func serveMetrics(ctx context.Context, group *errgroup.Group, base *controller.Context, address string) error {
	if address == "0" {
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	known := base.SharedInformerFactory.Certmanager().V1()
	base.Metrics.SetupCertificateCollector(known.Certificates().Lister())
	base.Metrics.SetupIssuerCollector(known.Issuers().Lister())
	base.Metrics.SetupClusterIssuerCollector(known.ClusterIssuers().Lister())
	server := base.Metrics.NewServer(listener)
	group.Go(func() error {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), shutdownGracePeriod)
		defer cancel()
		return server.Shutdown(grace)
	})
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}
