// Package console is the box's HTTP port: it takes sections, a path and a handler each, from whoever assembles the box,
// and serves them with bounds on connections, headers and time. It imports no owner and knows no section's meaning.
// Its goroutines are net/http's; Close ends them.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Section is one path of the console and everything below it if it ends in a slash.
type Section struct {
	Path    string
	Handler http.Handler
	// Title is a line for the index page; an empty one leaves the section out of it.
	Title string
	// StreamBytesMax is how long a body this section takes, where that is more than what a person or a monitor sends. Such a
	// section may also take longer, both ways, as long as something moves. 0: the bounds of all.
	StreamBytesMax int64
}

// Console is a running HTTP server.
type Console struct {
	server   *http.Server
	listener net.Listener
	served   chan error
}

// Bounds of the server. The console is for people and monitoring on the same network, not for the public.
const (
	headerBytesMax = 16 << 10
	bodyBytesMax   = 1 << 20
	connectionsMax = 128
	requestTime    = 30 * time.Second
	idleTime       = 2 * time.Minute
)

// Serve starts the console on a listener, which it takes over.
func Serve(listener net.Listener, sections []Section) *Console {
	mux := http.NewServeMux()
	for _, s := range sections {
		mux.Handle(s.Path, s.bounded())
	}
	mux.Handle("/{$}", index(sections))
	c := &Console{
		listener: listener,
		served:   make(chan error, 1),
		server: &http.Server{
			Handler:           mux,
			MaxHeaderBytes:    headerBytesMax,
			ReadHeaderTimeout: requestTime,
			ReadTimeout:       requestTime,
			WriteTimeout:      requestTime,
			IdleTimeout:       idleTime,
		},
	}
	go func() {
		c.served <- c.server.Serve(&limited{Listener: listener, free: make(chan struct{}, connectionsMax)})
	}()
	return c
}

// bounded is the section's handler within the bounds of its bodies, and of its time where it streams.
func (s *Section) bounded() http.Handler {
	if s.StreamBytesMax == 0 {
		return http.MaxBytesHandler(s.Handler, bodyBytesMax)
	}
	return http.MaxBytesHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := &flow{ResponseWriter: w, control: http.NewResponseController(w), body: r.Body}
		// What it does between its body and its answer may take its time: a deadline there would end the request.
		if err := errors.Join(f.control.SetReadDeadline(time.Time{}), f.control.SetWriteDeadline(time.Time{})); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		r.Body = f
		s.Handler.ServeHTTP(f, r)
	}), s.StreamBytesMax)
}

// flow is a request whose time is bounded for each move instead of for the whole.
type flow struct {
	http.ResponseWriter
	control *http.ResponseController
	body    io.ReadCloser
}

// Read implements io.Reader for the body.
func (f *flow) Read(p []byte) (int, error) {
	if err := f.control.SetReadDeadline(time.Now().Add(requestTime)); err != nil {
		return 0, err
	}
	n, err := f.body.Read(p)
	if err == io.EOF {
		if failed := f.control.SetReadDeadline(time.Time{}); failed != nil {
			return n, failed
		}
	}
	return n, err
}

// Close implements io.Closer for the body.
func (f *flow) Close() error { return f.body.Close() }

// Write implements http.ResponseWriter.
func (f *flow) Write(p []byte) (int, error) {
	if err := f.control.SetWriteDeadline(time.Now().Add(requestTime)); err != nil {
		return 0, err
	}
	return f.ResponseWriter.Write(p)
}

// Addr is where the console listens.
func (c *Console) Addr() net.Addr { return c.listener.Addr() }

// Close stops listening, gives requests under way a moment, and returns when all is over.
func (c *Console) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if c.server.Shutdown(ctx) != nil {
		_ = c.server.Close()
	}
	if err := <-c.served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("console: %w", err)
	}
	return nil
}

func index(sections []Section) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		for _, s := range sections {
			if s.Title != "" {
				_, _ = fmt.Fprintf(w, "%-24s %s\n", s.Path, s.Title)
			}
		}
	})
}

// limited accepts no more connections than there is room for; others wait in the kernel's backlog.
type limited struct {
	net.Listener
	free chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &counted{Conn: c, release: sync.OnceFunc(func() { <-l.free })}, nil
}

type counted struct {
	net.Conn
	release func()
}

func (c *counted) Close() error {
	defer c.release()
	return c.Conn.Close()
}
