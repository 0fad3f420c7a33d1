// Command drill-target is the app that the lab's drills call: HTTP, gRPC and WebSocket on port 8080, plain TCP on 8082.
//
// It prints the id of each request that it executes, X-Vegeta-Attack/X-Vegeta-Seq, so that a request that was executed
// twice can be told from one that was asked twice. Streams and connections get something every 100 ms.
package main

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	httpAddress = ":8080"
	tcpAddress  = ":8082"
	tick        = 100 * time.Millisecond
	work        = 20 * time.Millisecond
	drain       = 5 * time.Second
	// RFC 6455
	handshake = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

var (
	// A gRPC message without content: not compressed, length 0.
	emptyMessage = []byte{0, 0, 0, 0, 0}
	// A WebSocket frame: the last of a text, one byte.
	frame = []byte{0x81, 1, '.'}
)

func main() {
	go serveTCP()
	mux := http.NewServeMux()
	mux.HandleFunc("/", answer)
	mux.HandleFunc("/stream", stream)
	mux.HandleFunc("/websocket", websocket)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Addr: httpAddress, Handler: mux, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second}

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		patience, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		_ = server.Shutdown(patience)
		os.Exit(0)
	}()
	log.Print(server.ListenAndServe())
	select {}
}

// answer executes a request. Those that change something take a while, so that some are under way at any time.
func answer(w http.ResponseWriter, r *http.Request) {
	if name := r.Header.Get("X-Vegeta-Attack"); name != "" {
		if r.Method == http.MethodPost {
			time.Sleep(work)
		}
		fmt.Printf("%s/%s\n", name, r.Header.Get("X-Vegeta-Seq"))
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		w.Header().Set("Content-Length", "3")
		_, _ = io.WriteString(w, "ok\n")
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	_, _ = w.Write(emptyMessage)
	if strings.HasSuffix(r.URL.Path, "/Stream") {
		ticks(r.Context(), func() error { return flush(w, emptyMessage) })
	}
	w.Header().Set("Grpc-Status", "0")
}

func stream(w http.ResponseWriter, r *http.Request) {
	ticks(r.Context(), func() error { return flush(w, []byte(".\n")) })
}

func websocket(w http.ResponseWriter, r *http.Request) {
	key := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + handshake))
	hijacker, ok := w.(http.Hijacker)
	if !ok || r.Header.Get("Sec-WebSocket-Key") == "" {
		http.Error(w, "a WebSocket is wanted here", http.StatusBadRequest)
		return
	}
	connection, buffered, err := hijacker.Hijack()
	if err != nil {
		return
	}
	defer connection.Close()
	accept := base64.StdEncoding.EncodeToString(key[:])
	fmt.Fprintf(buffered, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", accept)
	hold(connection, buffered, frame)
}

func serveTCP() {
	listener, err := net.Listen("tcp", tcpAddress)
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer connection.Close()
			hold(connection, bufio.NewReadWriter(bufio.NewReader(connection), bufio.NewWriter(connection)), []byte(".\n"))
		}()
	}
}

// hold sends something regularly until the other side ends the connection.
func hold(connection net.Conn, buffered *bufio.ReadWriter, message []byte) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, buffered)
		cancel()
	}()
	ticks(ctx, func() error {
		if _, err := buffered.Write(message); err != nil {
			return err
		}
		return buffered.Flush()
	})
}

func flush(w http.ResponseWriter, message []byte) error {
	if _, err := w.Write(message); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// ticks calls send at once and then regularly, until it fails or the context ends.
func ticks(ctx context.Context, send func() error) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for send() == nil {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
