package zkserver

import (
	"errors"
	"fmt"
	"io"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/zkserver/zkadmin"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/observe"
)

// Config is how the server behaves. The zero value of a field is ZooKeeper's default unless it says otherwise.
type Config struct {
	// Limits are the maxima: frame length (jute.maxbuffer), connections, pipeline, outbox. The zero value derives them for
	// the least memory.
	Limits limits.ZooKeeper
	// HandshakeTimeout is how long a connection may take until it has asked for a session or sent its word. Default 10 s
	// (zookeeper.nio.sessionlessCnxnTimeout).
	HandshakeTimeout time.Duration
	// TickTime is added to a session's timeout before a silent connection is closed. Default 2 s.
	TickTime time.Duration
	// OutstandingMax is zookeeper.globalOutstandingLimit: with more requests unanswered in all, a connection that has one
	// unanswered is not read. Default 1000.
	OutstandingMax int
	// LargeRequestThreshold and LargeRequestBytesMax are zookeeper.largeRequestThreshold and zookeeper.largeRequestMaxBytes:
	// frames above so many bytes share so many while they are under way, and one more closes its connection. A threshold of
	// 0 is off. Default of the bytes 100 MiB.
	LargeRequestThreshold int
	LargeRequestBytesMax  int64
	// ConnectionThrottle bounds how fast sessions are opened; the zero value is off.
	ConnectionThrottle ConnectionThrottle
	// RequestThrottle is what becomes of writes that have to wait.
	RequestThrottle RequestThrottle
	// SuperDigest is user:base64(sha1(user:password)) of who may do everything; empty is nobody.
	SuperDigest string
	// EnsembleNames are what the scheme "ensemble" accepts; nil: the scheme is unknown, as it is unless it is configured.
	EnsembleNames []string
	// EnforceAuthSchemes are schemes one of which a client must have authenticated by before it is served; nil is none.
	EnforceAuthSchemes []string
	// SkipACL opens every node for reading. For writes the ensemble's flags say so.
	SkipACL bool
	// ReconfigEnabled decides which error a reconfig gets: this server has no members to change either way.
	ReconfigEnabled bool
	// UpgradeSessions lets a session that is this server's own (ensemble.Config.LocalSessions) become everybody's when it is
	// to own an ephemeral (localSessionsUpgradingEnabled). Without, that is EphemeralOnLocalSession.
	UpgradeSessions bool
	// LinearizableReads makes every read wait for a round among the servers before it looks at the tree, as a sync before
	// each would. Without it a server that has fallen behind answers with what it has, as ZooKeeper's do.
	LinearizableReads bool
	// Admin is what the words and commands show that does not change.
	Admin zkadmin.Config

	earlyReads bool // see WithEarlyReads
}

// RequestThrottle is what ZooKeeper's RequestThrottler is told. Here a request that has to wait for others keeps its
// socket from being read meanwhile. It concerns what the ensemble is asked: writes and syncs. Reads wait for nothing but
// what their own session has sent before them, and are never throttled.
type RequestThrottle struct {
	// RequestsMax is zookeeper.request_throttle_max_requests: how many such requests may be under way. The Limits' own
	// bound holds too; 0 leaves it at that.
	RequestsMax int
	// OpWaitMax is zookeeper.throttled_op_wait_time: a request that had to wait longer is not carried out and answered with
	// ThrottledOp, one that closes its session excepted. 0 is never.
	OpWaitMax time.Duration
	// StaleLatencyCheck is zookeeper.request_stale_latency_check: a request that had to wait for longer than its session's
	// timeout is not carried out, and its connection closed. What was sent by a connection that has ended by then is never
	// carried out. Both spare a request that closes its session.
	StaleLatencyCheck bool
}

// Deps are what the server is given.
type Deps struct {
	Ensemble *ensemble.Ensemble
	Clock    clock.Clock
	Observer *observe.Observer
	// Random decides whom ConnectionThrottle drops by chance; nil where it does not.
	Random io.Reader
	// DirSizes gives the bytes of the snapshots and of the log, for dirs and conf. Nil shows zeros.
	DirSizes func() (snapshots, log int64)
	// OpenFiles gives how many files the process has open and may have. Nil shows -1.
	OpenFiles func() (open, most int64)
}

const (
	handshakeTimeoutDefault = 10 * time.Second
	tickTimeDefault         = 2 * time.Second
	outstandingDefault      = 1000
	// largeRequestBytesDefault is what requests above the threshold share.
	largeRequestBytesDefault = 100 << 20
	// handshakeBytesMax bounds a ConnectRequest: the longest form with a password of 16 bytes has 45, and a client that
	// has no session yet is not lent more memory than this.
	handshakeBytesMax = 1024
	// outboxSoft is how many unsent bytes a connection may have before it is read no further.
	outboxSoft = 256 << 10
	// farewell is how long a connection that is being closed may take to receive what was queued for it.
	farewell = 2 * time.Second
	// sendTimeoutMin is the least time that a peer may take no bytes; otherwise it is the session's timeout.
	sendTimeoutMin = 10 * time.Second
)

func (c Config) withDefaults() Config {
	if c.Limits == (limits.ZooKeeper{}) {
		c.Limits = limits.Derive(0).ZooKeeper
	}
	if c.HandshakeTimeout <= 0 {
		c.HandshakeTimeout = handshakeTimeoutDefault
	}
	if c.TickTime <= 0 {
		c.TickTime = tickTimeDefault
	}
	if c.OutstandingMax <= 0 {
		c.OutstandingMax = outstandingDefault
	}
	if c.LargeRequestBytesMax <= 0 {
		c.LargeRequestBytesMax = largeRequestBytesDefault
	}
	return c
}

func (c Config) validate(d Deps) error {
	t := &c.ConnectionThrottle
	switch {
	case t.TokensMax < 0 || t.TokensMax > 0 && (t.FillTime < time.Millisecond || t.FillCount < 1 || t.CreateWeight < 1 || t.RenewWeight < 1):
		return fmt.Errorf("zkserver: a bucket of %d tokens with %d more every %v, of which sessions cost %d and %d",
			t.TokensMax, t.FillCount, t.FillTime, t.CreateWeight, t.RenewWeight)
	case t.TokensMax > 0 && t.FreezeTime >= 0 && d.Random == nil:
		return errors.New("zkserver: randomness is needed to drop connections by chance")
	case d.Ensemble == nil || d.Clock == nil || d.Observer == nil:
		return errors.New("zkserver: an ensemble, a clock and an observer are needed")
	case c.Limits.FrameBytesMax < handshakeBytesMax:
		return fmt.Errorf("zkserver: frames of at most %d bytes are too short to serve with", c.Limits.FrameBytesMax)
	case c.Limits.OutboxBytesMax < c.Limits.FrameBytesMax:
		return fmt.Errorf("zkserver: an outbox of %d bytes cannot hold a node of %d", c.Limits.OutboxBytesMax, c.Limits.FrameBytesMax)
	}
	return nil
}
