package appliance

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the HTTP server.
const (
	webConnections = 128
	webPerAddress  = 32       // connections; a program asks for several things at once
	webHeader      = 16 << 10 // bytes
	webStop        = 2 * time.Second
)

// webTask serves the status page.
type webTask struct {
	listener net.Listener // nil once it was used
	addr     string
	handler  http.Handler
	log      *slog.Logger
	ready    chan struct{}
}

func newWebTask(l net.Listener, h http.Handler, log *slog.Logger) *webTask {
	t := &webTask{listener: l, addr: l.Addr().String(), handler: h, log: log, ready: make(chan struct{})}
	close(t.ready) // the socket is open
	return t
}

func (t *webTask) String() string         { return "status page" }
func (t *webTask) Ready() <-chan struct{} { return t.ready }

// otherWebTask serves the status page at another address as well, whenever no other program has it.
type otherWebTask struct{ *webTask }

func newOtherWebTask(addr string, h http.Handler, log *slog.Logger) otherWebTask {
	t := otherWebTask{&webTask{addr: addr, handler: h, log: log, ready: make(chan struct{})}}
	close(t.ready) // nobody waits for it
	return t
}

func (t otherWebTask) String() string { return "status page at " + t.addr }

// Run serves until ctx ends, from when the address is free.
func (t otherWebTask) Run(ctx context.Context) error {
	for said := false; ; said = true {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", t.addr)
		if err == nil {
			t.listener = l
			return t.webTask.Run(ctx)
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return err
		}
		if !said {
			t.log.Info("the status page is not at a second address, which another program has", "addr", t.addr)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(webPatience):
		}
	}
}

// Run serves until ctx ends, and then waits a little for requests under way.
func (t *webTask) Run(ctx context.Context) error {
	l := t.listener
	if t.listener = nil; l == nil { // a new start after a failure
		var err error
		if l, err = listenTCP(ctx, t.addr); err != nil {
			return err
		}
	}
	connections := NewGuests(webConnections, webPerAddress, address)
	server := &http.Server{
		Handler:           t.handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    webHeader,
		ErrorLog:          slog.NewLogLogger(t.log.Handler(), slog.LevelDebug), // what clients do wrong
	}
	connections.Track(server)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), webStop)
		defer cancel()
		if server.Shutdown(timeout) != nil {
			_ = server.Close() // who has not got an answer by now gets none
		}
	})
	err := server.Serve(connections.Listener(l))
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
