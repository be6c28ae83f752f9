package kafkaserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/wire"
	"cairn/engine/limits"
	"cairn/platform/observe"
	"cairn/platform/sockio"
)

// Config says where to listen and as whom.
type Config struct {
	// BrokerID is this box's broker id.
	BrokerID int32
	// Listeners, each with a name of its own.
	Listeners []ListenerConfig
	// Limits bounds everything.
	Limits limits.Kafka
}

// ListenerConfig is one listener.
type ListenerConfig struct {
	// Name of the listener in upper case, such as PLAINTEXT: clients are shown the addresses that brokers have under the
	// same name.
	Name string
	// Address to listen on, host:port; port 0 takes any.
	Address string
	// AdvertisedHost and AdvertisedPort are what clients are told. Empty and 0 mean the address that the client came
	// in on, which is right wherever no address translation stands between.
	AdvertisedHost string
	AdvertisedPort int32
}

// Server is the Kafka protocol on a box's listeners.
type Server struct {
	cfg    Config
	limits limits.Kafka
	deps   Deps
	log    *slog.Logger
	table  apiTable

	frames        wire.FramePool
	buffers       bufferPool
	budget        budget
	bulky         chan struct{} // holds as many as bulky requests are in hand
	sent          sockio.Counters
	sessions      *fetchSessions     // clients'
	follows       *fetchSessions     // other boxes'
	produces      sync.Pool          // *produce
	fetches       sync.Pool          // *fetch
	throttle      replica.Throttle   // of what followers that are not in sync are given
	openers       chan *batch.Opener // as many as compressed batches may be opened at a time
	unknownErrors errorLog

	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup // accepting, reading and responding goroutines

	mu        sync.Mutex // protects the fields below; nothing is called while it is held
	listeners []*listener
	conns     map[*conn]struct{}
	perAddr   map[netip.Addr]int
	stopping  bool

	accepted, refusedFull, refusedAddr, endedBadly *observe.Counter
	open                                           atomic.Int64
}

type listener struct {
	config ListenerConfig
	net    net.Listener
}

// apiMetrics are counted for every request.
type apiMetrics struct {
	count   *observe.Counter
	seconds *observe.Histogram
}

// New makes a server that does not listen yet. It reports contradictions in the table of APIs and in the configuration.
func New(cfg Config, deps Deps) (*Server, error) {
	s := &Server{
		cfg: cfg, limits: cfg.Limits, deps: deps, log: deps.Observer.Log, table: newTable(),
		conns: map[*conn]struct{}{}, perAddr: map[netip.Addr]int{},
		openers: make(chan *batch.Opener, openersMax),
		bulky:   make(chan struct{}, max(cfg.Limits.BulkyMax, 1)),
	}
	if err := s.table.check(); err != nil {
		return nil, err
	}
	if len(cfg.Listeners) == 0 {
		return nil, errors.New("kafka server: no listener")
	}
	for range openersMax {
		s.openers <- new(batch.Opener)
	}
	s.budget.max = cfg.Limits.RequestBytesMax
	s.sessions = newFetchSessions(cfg.Limits, deps.SessionID)
	s.follows = newFollowSessions(cfg.Limits, deps.SessionID)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.measure()
	return s, nil
}

// openersMax is how many compressed batches are opened for checking at a time.
const openersMax = 2

// measure registers the server's metrics.
func (s *Server) measure() {
	m := s.deps.Observer.Metrics
	for i := range s.table {
		a := &s.table[i]
		a.metrics = apiMetrics{
			count:   m.Counter("cairn_kafka_requests_total", "api", a.name),
			seconds: m.Histogram("cairn_kafka_request_seconds", "api", a.name),
		}
	}
	s.accepted = m.Counter("cairn_kafka_connections_accepted_total")
	s.refusedFull = m.Counter("cairn_kafka_connections_refused_total", "reason", "total")
	s.refusedAddr = m.Counter("cairn_kafka_connections_refused_total", "reason", "address")
	s.endedBadly = m.Counter("cairn_kafka_connections_ended_total", "reason", "protocol")
	m.Gauge("cairn_kafka_connections", func() float64 { return float64(s.open.Load()) })
	m.Gauge("cairn_kafka_request_bytes", func() float64 { used, _ := s.budget.load(); return float64(used) })
	m.Gauge("cairn_kafka_request_bytes_waits", func() float64 { _, waits := s.budget.load(); return float64(waits) })
	m.Gauge("cairn_kafka_sent_bytes", func() float64 { return float64(s.sent.MemoryBytes()) }, "from", "memory")
	m.Gauge("cairn_kafka_sent_bytes", func() float64 { return float64(s.sent.SendfileBytes()) }, "from", "sendfile")
	m.Gauge("cairn_kafka_sent_bytes", func() float64 { return float64(s.sent.CopiedBytes()) }, "from", "file")
	m.Gauge("cairn_kafka_fetch_sessions", func() float64 { return float64(s.sessions.count()) }, "of", "clients")
	m.Gauge("cairn_kafka_fetch_sessions", func() float64 { return float64(s.follows.count()) }, "of", "boxes")
}

// Start opens all listeners, or none and returns why, naming the address.
func (s *Server) Start() error {
	for _, lc := range s.cfg.Listeners {
		nl, err := s.deps.Listen("tcp", lc.Address)
		if err != nil {
			for _, l := range s.listeners {
				_ = l.net.Close()
			}
			s.listeners = nil
			return fmt.Errorf("kafka listener %s on %s: %w", lc.Name, lc.Address, err)
		}
		s.listeners = append(s.listeners, &listener{config: lc, net: nl})
	}
	for _, l := range s.listeners {
		s.group.Go(func() { s.accept(l) })
	}
	return nil
}

// Address is where the listener of that name listens, nil if there is none.
func (s *Server) Address(name string) net.Addr {
	for _, l := range s.listeners {
		if l.config.Name == name {
			return l.net.Addr()
		}
	}
	return nil
}

// Stop closes the listeners, lets requests in hand be answered until ctx is done, and closes all connections.
func (s *Server) Stop(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	for c := range s.conns {
		c.stop()
	}
	s.mu.Unlock()
	for _, l := range s.listeners {
		_ = l.net.Close()
	}
	done := make(chan struct{})
	go func() {
		s.group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.mu.Lock()
		conns := make([]*conn, 0, len(s.conns))
		for c := range s.conns {
			conns = append(conns, c)
		}
		s.mu.Unlock()
		for _, c := range conns {
			c.shut(errStopping)
		}
		<-done
	}
	s.cancel()
}

// acceptRetry is the pause after a failed accept (no descriptors left), so that the loop does not spin.
const acceptRetry = 100 * time.Millisecond

func (s *Server) accept(l *listener) {
	for {
		nc, err := l.net.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || s.isStopping() {
				return
			}
			s.log.Warn("cannot accept a Kafka connection", "listener", l.config.Name, "err", err)
			select {
			case <-time.After(acceptRetry):
			case <-s.ctx.Done():
				return
			}
			continue
		}
		s.admit(l, nc)
	}
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// boxListener names what other boxes come in on. Nobody registers an address under it.
var boxListener = &listener{config: ListenerConfig{Name: "BOX"}}

// ServeBox serves a connection of another box, which whoever hands it over has authenticated: a broker whose Fetch is a
// follower's. It returns when the connection has ended, at the latest with the server.
func (s *Server) ServeBox(nc net.Conn, broker int32) {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		_ = nc.Close()
		return
	}
	c := newConn(s, boxListener, nc)
	c.broker = broker
	s.begin(c)
	s.group.Add(1) // while no stop waits for the group yet
	s.mu.Unlock()
	defer s.group.Done()
	s.group.Go(c.respond)
	c.read()
	if c.session != 0 {
		s.follows.end(c.session) // nobody asks in it any more, and it watches what the box has followed
	}
}

// begin counts a connection. mu is held.
func (s *Server) begin(c *conn) {
	s.conns[c] = struct{}{}
	s.perAddr[c.clientAddr]++
	s.open.Add(1)
}

// admit starts a connection or, beyond the maximum, closes it at once, as Kafka does.
func (s *Server) admit(l *listener, nc net.Conn) {
	addr := addrOf(nc.RemoteAddr())
	s.mu.Lock()
	var refused *observe.Counter
	switch {
	case s.stopping:
		refused = s.refusedFull
	case len(s.conns) >= s.limits.ConnectionsMax:
		refused = s.refusedFull
	case addr.IsValid() && s.perAddr[addr] >= s.limits.ConnectionsPerAddressMax:
		refused = s.refusedAddr
	}
	if refused != nil {
		s.mu.Unlock()
		refused.Inc()
		_ = nc.Close()
		return
	}
	c := newConn(s, l, nc)
	s.begin(c)
	s.mu.Unlock()
	s.accepted.Inc()
	s.group.Go(c.read)
	s.group.Go(c.respond)
}

// ended forgets a connection.
func (s *Server) ended(c *conn, reason error) {
	s.mu.Lock()
	delete(s.conns, c)
	if s.perAddr[c.clientAddr]--; s.perAddr[c.clientAddr] <= 0 {
		delete(s.perAddr, c.clientAddr)
	}
	s.open.Add(-1)
	s.mu.Unlock()
	if orderly(reason) && !errors.Is(reason, errStopping) {
		s.endedBadly.Inc()
	}
	s.log.Debug("Kafka connection closed", "client", c.net.RemoteAddr(), "reason", reason)
}

func (s *Server) settings() Settings { return s.deps.Settings() }

// advertised is where clients of a connection reach this box.
func (c *conn) advertised() (host string, port int32) {
	host, port = c.listener.config.AdvertisedHost, c.listener.config.AdvertisedPort
	if host == "" {
		host = c.localHost
	}
	if port == 0 {
		port = c.localPort
	}
	return host, port
}
