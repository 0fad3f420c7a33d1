// Command helloworld answers like Istio's helloworld sample: "Hello version: v1, instance: <host name>".
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const address = ":5000"

func main() {
	host, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	greeting := fmt.Sprintf("Hello version: %s, instance: %s\n", os.Getenv("SERVICE_VERSION"), host)

	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { answer(w, greeting) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { answer(w, greeting) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, "ok\n") })
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		os.Exit(0)
	}()
	log.Fatal(server.ListenAndServe())
}

// answer sends header and body in one write: a proxy that sees them apart may count the first as a whole answer.
func answer(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write([]byte(body))
}
