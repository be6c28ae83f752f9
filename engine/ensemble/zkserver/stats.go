package zkserver

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/zkserver/zkadmin"
	"cairn/engine/ensemble/znode"
	"cairn/platform/observe"
)

// stats are the server's counters: those of ZooKeeper, which the words show and srst resets, and those of Prometheus.
type stats struct {
	started        time.Duration
	received, sent atomic.Int64
	authFailed     atomic.Int64

	connectRequests, revalidated, rejected, dropped *observe.Counter
	bytesReceived, bytesSent, watchBytes            *observe.Counter
	largeRejected, throttledOps                     *observe.Counter
	staleDropped, throttleWaits                     *observe.Counter
	requests                                        map[jute.OpCode]*observe.Counter
	readSeconds, writeSeconds                       *observe.Histogram
	reads, writes, tokenDeficit                     *observe.Summary
	meters                                          meters

	mu        sync.Mutex // protects the fields below; nothing is called while it is held
	all       zkadmin.Latency
	responses zkadmin.Sizes
}

// lastOps are the names that cons shows (FinalRequestProcessor), and with them the ops that a client may send.
var lastOps = map[jute.OpCode]string{
	jute.OpCreate: "CREA", jute.OpCreate2: "CREA", jute.OpCreateContainer: "CREA", jute.OpCreateTTL: "CREA",
	jute.OpDelete: "DELE", jute.OpExists: "EXIS", jute.OpGetData: "GETD", jute.OpSetData: "SETD", jute.OpGetACL: "GETA",
	jute.OpSetACL: "SETA", jute.OpGetChildren: "GETC", jute.OpGetChildren2: "GETC", jute.OpSync: "SYNC", jute.OpPing: "PING",
	jute.OpCheck: "CHEC", jute.OpMulti: "MULT", jute.OpMultiRead: "MLTR", jute.OpReconfig: "RECO", jute.OpCheckWatches: "CHKW",
	jute.OpRemoveWatches: "REMW", jute.OpSetWatches: "SETW", jute.OpSetWatches2: "STW2", jute.OpAddWatch: "ADDW",
	jute.OpGetEphemerals: "GETE", jute.OpGetAllChildrenNumber: "GETACN", jute.OpWhoAmI: "HOMI", jute.OpCloseSession: "CLOS",
	jute.OpAuth: "AUTH", jute.OpSASL: "SASL",
}

func (s *stats) init(now time.Duration, m *observe.Metrics) {
	s.started = now
	s.responses = zkadmin.NoSizes()
	s.connectRequests = m.Counter("cairn_zookeeper_connect_requests_total")
	s.revalidated = m.Counter("cairn_zookeeper_session_reattach_requests_total")
	s.rejected = m.Counter("cairn_zookeeper_connections_rejected_total")
	s.dropped = m.Counter("cairn_zookeeper_connections_dropped_total")
	s.bytesReceived = m.Counter("cairn_zookeeper_received_bytes_total")
	s.bytesSent = m.Counter("cairn_zookeeper_sent_bytes_total")
	s.watchBytes = m.Counter("cairn_zookeeper_watch_bytes_total")
	s.largeRejected = m.Counter("large_requests_rejected")
	s.throttledOps = m.Counter("throttled_ops")
	s.staleDropped = m.Counter("stale_requests_dropped")
	s.throttleWaits = m.Counter("request_throttle_wait_count")
	s.readSeconds = m.Histogram("cairn_zookeeper_request_seconds", "kind", "read")
	s.writeSeconds = m.Histogram("cairn_zookeeper_request_seconds", "kind", "write")
	s.reads, s.writes = m.Summary("readlatency"), m.Summary("updatelatency")
	s.tokenDeficit = m.Summary("connection_token_deficit")
	s.meters = metersOf(m)
	s.requests = make(map[jute.OpCode]*observe.Counter, len(lastOps))
	for op := range lastOps {
		s.requests[op] = m.Counter("cairn_zookeeper_requests_total", "op", op.String())
	}
}

// answered counts one answer: how long it took and how long it is.
func (s *stats) answered(op jute.OpCode, took time.Duration, size int) {
	s.sent.Add(1)
	if n := s.requests[op]; n != nil {
		n.Inc()
	}
	ms := took.Milliseconds()
	s.mu.Lock()
	s.all.Add(ms)
	s.responses.Add(size)
	s.mu.Unlock()
	if op.IsWrite() {
		s.writes.Add(ms)
		s.writeSeconds.Observe(took.Seconds())
	} else {
		s.reads.Add(ms)
		s.readSeconds.Observe(took.Seconds())
	}
}

// Stats is zkadmin.Source's.
func (s *Server) Stats() zkadmin.Stats {
	e := s.deps.Ensemble
	status := e.Status()
	status.Serving, status.ReadOnly = e.Serving(), e.ReadOnly() // what was published may be a step older
	st := &s.stats
	out := zkadmin.Stats{
		Serving: status.Serving || status.ReadOnly, ReadOnly: status.ReadOnly, Mode: mode(&status),
		Received: st.received.Load(), Sent: st.sent.Load(), Outstanding: max(s.outstanding.Load(), 0),
		Zxid: status.Zxid, Nodes: status.Nodes, Ephemerals: status.Ephemerals, DataBytes: status.DataSize,
		Sessions: status.Sessions, ProposalSizes: zkadmin.Sizes{Last: status.ProposalLast, Min: status.ProposalMin, Max: status.ProposalMax},
		Uptime: s.deps.Clock.Now().Mono - st.started, DirSizes: s.deps.DirSizes, OpenFiles: s.deps.OpenFiles, AuthFailed: st.authFailed.Load(),
		LastSnapshotZxid: status.Snapshot.Zxid, LastSnapshotTime: status.Snapshot.At,
		Counters: []zkadmin.Counter{
			{Name: "connection_request_count", Value: int64(st.connectRequests.Get())},
			{Name: "connection_revalidate_count", Value: int64(st.revalidated.Get())},
			{Name: "connection_rejected", Value: int64(st.rejected.Get())},
			{Name: "connection_drop_count", Value: int64(st.dropped.Get())},
			{Name: "bytes_received_count", Value: int64(st.bytesReceived.Get())},
			{Name: "response_bytes", Value: int64(st.bytesSent.Get())},
			{Name: "watch_bytes", Value: int64(st.watchBytes.Get())},
		},
	}
	// What the status was published with may be older than an answer that the asker has seen; the tree is not. Both are
	// left as they are while the box does not serve.
	_ = s.view(func(t *znode.Tree, _ *ensemble.Watches) {
		out.Zxid, out.Nodes, out.Ephemerals = t.Zxid(), t.NodeCount(), t.EphemeralsCount()
		out.DataBytes, out.Sessions = t.DataSize(), t.SessionCount()
	})
	out.DropProbability = s.dropProbability()
	out.Watches, out.LocalSessions = s.countWatches, e.LocalSessions()
	out.Metered, out.Summaries = st.meters.counters(), st.meters.summaries()
	if status.Several {
		out.Quorum = s.quorum(&status)
	}
	for _, d := range e.Digests() {
		out.Digests = append(out.Digests, zkadmin.Digest{Zxid: d.Zxid, Digest: d.Digest})
	}
	s.mu.Lock()
	out.Connections = len(s.conns)
	s.mu.Unlock()
	st.mu.Lock()
	defer st.mu.Unlock()
	out.Latency, out.ResponseSizes = st.all, st.responses
	return out
}

func (s *Server) countWatches() (n int) {
	_ = s.view(func(_ *znode.Tree, w *ensemble.Watches) { n = w.Counts().Watches }) // not serving: none to show
	return n
}

// mode is ZooKeeper's name for the role of this box.
func mode(s *ensemble.Status) string {
	switch {
	case s.ReadOnly:
		return "read-only"
	case !s.Several:
		return "standalone"
	case s.Role == "leader":
		return "leader"
	}
	for _, id := range s.Learners {
		if id == s.Box {
			return "observer"
		}
	}
	return "follower"
}

// ResetStats is zkadmin.Source's.
func (s *Server) ResetStats() {
	st := &s.stats
	st.received.Store(0)
	st.sent.Store(0)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.all, st.responses = zkadmin.Latency{}, zkadmin.NoSizes()
	st.meters.reset()
}

// open are the connections of this moment.
func (s *Server) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// ResetConnectionStats is zkadmin.Source's.
func (s *Server) ResetConnectionStats() {
	for _, c := range s.open() {
		c.mu.Lock()
		c.tally = tally{lastOp: c.tally.lastOp, lastHeard: c.tally.lastHeard, lastCxid: -1}
		c.mu.Unlock()
	}
}

// Connections is zkadmin.Source's.
func (s *Server) Connections() []zkadmin.Connection {
	conns := s.open()
	all := make([]zkadmin.Connection, 0, len(conns))
	now := s.deps.Clock.Now()
	for _, c := range conns {
		all = append(all, c.describe(now.Wall, now.Mono, s.cfg.TickTime))
	}
	return all
}

func (c *conn) describe(wall time.Time, mono, tick time.Duration) zkadmin.Connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	patience := time.Duration(c.timeout.Load())
	if patience == 0 {
		patience = c.s.cfg.HandshakeTimeout
	}
	lastOp := "NA"
	if c.tally.sent > 0 && lastOps[c.tally.lastOp] != "" {
		lastOp = lastOps[c.tally.lastOp]
	}
	return zkadmin.Connection{
		Remote: netip.AddrPortFrom(c.remote.Addr(), c.remote.Port()), Reading: !c.paused, Writing: c.sender || len(c.out) > 0,
		Outstanding: int64(c.queue.len()), Received: c.tally.received, Sent: c.tally.sent, SessionID: c.session.Load(),
		LastOperation: lastOp, Established: c.established, SessionTimeout: time.Duration(c.timeout.Load()),
		LastCxid: c.tally.lastCxid, LastZxid: c.lastZxid, LastResponse: c.tally.lastResponse.Milliseconds(),
		LastLatency: c.tally.lastLatency, Latency: c.tally.latency,
		Expires: wall.Add(c.tally.lastHeard + patience - mono).Truncate(tick).Add(tick),
	}
}

// Sessions is zkadmin.Source's, in the order of their ids. When they expire is known for those whose clients are connected here.
func (s *Server) Sessions() []zkadmin.Session {
	expires := map[int64]time.Time{}
	own := map[int64]zkadmin.Session{} // that nobody else knows
	for _, c := range s.Connections() {
		if c.SessionID != 0 {
			expires[c.SessionID] = c.Expires
		}
		if ensemble.IsLocal(c.SessionID) {
			own[c.SessionID] = zkadmin.Session{ID: c.SessionID, Expires: c.Expires, Timeout: c.SessionTimeout, Local: true}
		}
	}
	now := s.deps.Clock.Now().Wall
	var all []zkadmin.Session
	_ = s.view(func(t *znode.Tree, _ *ensemble.Watches) { // not serving: no sessions to show
		for _, info := range t.Sessions() {
			at, known := expires[info.ID]
			if !known {
				at = now.Add(time.Duration(info.TimeoutMs) * time.Millisecond).Truncate(s.cfg.TickTime).Add(s.cfg.TickTime)
			}
			delete(own, info.ID)
			all = append(all, zkadmin.Session{ID: info.ID, Expires: at, Ephemerals: t.Ephemerals(info.ID, ""),
				Timeout: time.Duration(info.TimeoutMs) * time.Millisecond})
		}
	})
	all = append(all, slices.Collect(maps.Values(own))...)
	slices.SortFunc(all, func(a, b zkadmin.Session) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Watches is zkadmin.Source's.
func (s *Server) Watches() []zkadmin.Watch {
	var all []zkadmin.Watch
	_ = s.view(func(_ *znode.Tree, w *ensemble.Watches) { // not serving: no watches to show
		w.Each(func(out ensemble.Outbox, path string) bool {
			if c, ok := out.(*conn); ok {
				all = append(all, zkadmin.Watch{SessionID: c.session.Load(), Path: path})
			}
			return true
		})
	})
	return all
}
