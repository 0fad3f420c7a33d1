// Command csi-registrar announces a CSI driver to the kubelet over the plugin registration socket.
// It takes the flags of sig-storage's node-driver-registrar, whose module the lab's registries do not serve.
package main

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"log"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

type server struct {
	registration.UnimplementedRegistrationServer
	driver, endpoint string
}

func (s server) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              s.driver,
		Endpoint:          s.endpoint,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (s server) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !status.PluginRegistered {
		log.Fatalf("the kubelet refused %s: %s", s.driver, status.Error)
	}
	log.Printf("%s is registered", s.driver)
	return &registration.RegistrationStatusResponse{}, nil
}

func main() {
	flag.String("csi-address", "", "accepted for compatibility; the kubelet dials the driver itself")
	flag.Int("v", 0, "accepted for compatibility")
	endpoint := flag.String("kubelet-registration-path", "", "path of the driver's socket as the kubelet sees it")
	folder := flag.String("plugin-registration-path", "/registration", "folder of the kubelet's registration sockets")
	flag.Parse()
	if *endpoint == "" {
		log.Fatal("csi-registrar: -kubelet-registration-path is missing")
	}
	driver := filepath.Base(filepath.Dir(*endpoint))
	socket := filepath.Join(*folder, driver+"-reg.sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	g := grpc.NewServer()
	registration.RegisterRegistrationServer(g, server{driver: driver, endpoint: *endpoint})
	log.Fatal(g.Serve(listener))
}
