package zkserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"cairn/engine/ensemble/zkserver/zkadmin"
)

// ErrClosed is what Serve returns after Close.
var ErrClosed = errors.New("zkserver closed")

// Server serves ZooKeeper's clients on any number of listeners.
type Server struct {
	cfg   Config
	deps  Deps
	admin *zkadmin.Admin
	gate  *gate // of writes and read indexes
	large *gate // of large frames that are being received
	stats stats
	// rounds are what linearizable reads wait for.
	rounds rounds

	largeRequests largeRequests

	// outstanding is how many requests of all connections are unanswered.
	outstanding atomic.Int64
	// parked is how many bytes of frames the reads hold that wait in pipelines.
	parked atomic.Int64
	// outboxes is how many bytes wait unsent on all connections.
	outboxes atomic.Int64

	mu        sync.Mutex // protects the fields below; nothing is called while it is held
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	perHost   map[netip.Addr]int
	blue      blueThrottle
	wait      sync.WaitGroup
}

// New makes a server that serves nobody yet.
func New(cfg Config, deps Deps) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(deps); err != nil {
		return nil, err
	}
	asked := cfg.Limits.ProposalsMax * 3 / 4
	if most := cfg.RequestThrottle.RequestsMax; most > 0 {
		asked = min(asked, most)
	}
	s := &Server{
		cfg: cfg, deps: deps,
		gate:      newGate(asked, cfg.Limits.ProposalsBytesMax*3/4),
		large:     newGate(cfg.Limits.ConnectionsMax, cfg.Limits.LargeFramesBytesMax),
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
		perHost:   make(map[netip.Addr]int),
		blue:      newBlueThrottle(cfg.ConnectionThrottle, deps.Clock.Now().Mono),
	}
	s.largeRequests.threshold, s.largeRequests.bytesMax = cfg.LargeRequestThreshold, cfg.LargeRequestBytesMax
	s.rounds.ensemble = deps.Ensemble
	s.stats.init(deps.Clock.Now().Mono, deps.Observer.Metrics)
	s.admin = zkadmin.New(cfg.Admin, s)
	return s, nil
}

// Admin is the http.Handler of the AdminServer's commands.
func (s *Server) Admin() http.Handler { return s.admin.Handler() }

// WriteMetrics writes what ZooKeeper shows as gauges, and what this server counts under its names, in Prometheus's text
// format. The rest is in the observer's metrics.
func (s *Server) WriteMetrics(w io.Writer) { s.admin.WriteMetrics(w) }

// Serve accepts connections until the listener fails or Close is called, which is ErrClosed. It closes the listener.
func (s *Server) Serve(l net.Listener) error {
	if !s.addListener(l) {
		_ = l.Close() // nothing was accepted
		return ErrClosed
	}
	defer s.dropListener(l)
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = 0
			s.admit(nc)
			continue
		}
		if s.isClosed() {
			return ErrClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("zookeeper listener %v: %w", l.Addr(), err)
		}
		// Out of descriptors, mostly: what is open goes on, and accepting is tried again soon.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.deps.Observer.Log.Warn("accept failed", "address", l.Addr().String(), "retry", pause, "error", err)
		time.Sleep(pause)
	}
}

// admit starts serving a connection unless there are too many of them.
func (s *Server) admit(nc net.Conn) {
	remote := remoteAddress(nc)
	if why := s.ServeConn(nc, remote); why != nil {
		s.stats.rejected.Inc()
		s.deps.Observer.Log.Warn("connection refused", "remote", remote.String(), "reason", why)
		_ = nc.Close() // it was never served
	}
}

// ServeConn serves one connection in the background and closes it at the end. The error says why it is not served;
// closing it is then the caller's.
func (s *Server) ServeConn(nc net.Conn, remote netip.AddrPort) error {
	c := newConn(s, nc, remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	host := remote.Addr()
	perHostMax := s.cfg.Limits.ConnectionsPerAddressMax
	switch {
	case s.closed:
		return ErrClosed
	case len(s.conns) >= s.cfg.Limits.ConnectionsMax:
		return fmt.Errorf("%d connections are the most", len(s.conns))
	case perHostMax > 0 && s.perHost[host] >= perHostMax:
		return fmt.Errorf("too many connections from %v - max is %d", host, perHostMax)
	}
	s.conns[c] = struct{}{}
	s.perHost[host]++
	s.wait.Add(1)
	go func() {
		defer s.wait.Done()
		defer s.drop(c)
		c.serve()
	}()
	return nil
}

func (s *Server) drop(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	host := c.remote.Addr()
	if s.perHost[host]--; s.perHost[host] <= 0 {
		delete(s.perHost, host)
	}
}

// Close stops accepting, closes every connection and waits until their goroutines have ended. Sessions stay: they expire
// if their clients do not come back.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close() // Accept returns its error
	}
	for c := range s.conns {
		c.die(ErrClosed)
	}
	s.mu.Unlock()
	s.gate.close()
	s.large.close()
	s.wait.Wait()
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) dropListener(l net.Listener) {
	_ = l.Close() // closed already by Close, mostly
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// remoteAddress is the peer's address. An IPv4 client of an IPv6 socket counts as what it is, since ip ACLs of one family
// never match the other; a zone is dropped, since no ACL can have one.
func remoteAddress(nc net.Conn) netip.AddrPort {
	t, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	a := t.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
