package ensemble

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// Errors that callers tell apart with errors.Is. What the tree says about a write is not an error but Outcome.Err.
var (
	// ErrNotLeader: this box does not lead, and the write was not proposed.
	ErrNotLeader = errors.New("not the leader")
	// ErrNoQuorum: this box does not know yet, or no longer, that its tree is recent: it has not applied a read index
	// since it started, or has heard of no leader. Nothing was proposed.
	ErrNoQuorum = errors.New("no quorum")
	// ErrUncertain: the write was under way when leadership was lost or the box stopped. It may come to pass or not;
	// a client is told by its connection's loss.
	ErrUncertain = errors.New("outcome of the write is not known")
	// ErrFull: a maximum of what may be in flight is reached. Nothing was proposed; the caller stops reading or retries.
	ErrFull = errors.New("ensemble busy")
	// ErrTreeFull: the write would grow the tree beyond its budget. Nothing was proposed.
	ErrTreeFull = errors.New("tree budget exhausted")
	// ErrTooLarge: the encoded write is longer than limits allow. Nothing was proposed.
	ErrTooLarge = errors.New("write too large")
	// ErrSessionExpired: there is no such session, or the password is not its own.
	ErrSessionExpired = errors.New("session expired")
	// ErrSessionMoved: the session is held by another connection by now. The one that asked is to be closed.
	ErrSessionMoved = errors.New("session moved")
	// ErrClosed: the ensemble was closed.
	ErrClosed = errors.New("ensemble closed")
	// ErrFailed: the raft log failed and this box's ensemble is over until the process starts again. See Failed.
	ErrFailed = errors.New("ensemble failed")
)

// Config says who this box is in the ensemble and how it behaves.
type Config struct {
	// Dir is the ensemble's directory on a real disk; wal and snap lie in it.
	Dir string
	// Box is this box's number among the servers; 0 is taken for 1. Its raft id is made of it (package quorum).
	Box uint64
	// Voters are the servers that vote in a fresh ensemble; empty is this box alone. A log that exists knows better.
	Voters []uint64
	// Learners are boxes that hold the tree and do not vote, ZooKeeper's observers, in a fresh log.
	Learners []uint64
	// Servers is the configuration that a fresh ensemble begins with, as /zookeeper/config will show it; the one in the
	// tree knows better. Empty: there is none, and the membership stays as it is.
	Servers quorum.Config
	// Admit takes servers in that ask and name their own line, as observers, and lets observers vote so that 1 voter becomes 3
	// and 3 become 5. All of an ensemble say the same. Otherwise only reconfig changes who belongs to it.
	Admit bool
	// Limits are this room's maxima. The zero value derives them for the least memory.
	Limits limits.ZooKeeper
	// TickTime is ZooKeeper's tickTime: the grain of session expiry. Default 2 s.
	TickTime time.Duration
	// SessionTimeoutMin and SessionTimeoutMax bound what a client is granted. Default 2 and 20 ticks, as ZooKeeper's.
	SessionTimeoutMin, SessionTimeoutMax time.Duration
	// HeartbeatInterval is raft's tick between boxes; an election takes ten of them. Default 50 ms. A box that is alone
	// does not tick.
	HeartbeatInterval time.Duration
	// FlushDelay is how long a write waits at most for writes of other sessions that have just written, to share an append and
	// a flush with them (ZooKeeper's flushDelay). Negative: not at all. Default 1 ms.
	FlushDelay time.Duration
	// LeaderlessMax is how long this box goes on serving reads, and parks writes, while no leader is known. Beyond it the
	// clients are sent away, to look for a box that knows more. Default 20 heartbeats: the voters have then stood for
	// election a few times, and the sessions of a box that was cut off still have most of their time to move.
	LeaderlessMax time.Duration
	// ReapInterval is how often containers and TTL nodes are looked at; default 60 s (znode.container.checkIntervalMs).
	ReapInterval time.Duration
	// ReapPerMinuteMax bounds what one look deletes; default 10000 (znode.container.maxPerMinute).
	ReapPerMinuteMax int
	// ContainerNeverUsedMax is the age at which a container that never had a child goes; 0, the default, is never.
	ContainerNeverUsedMax time.Duration
	// LocalSessions makes every session begin as one of the box that it is opened at (localSessionsEnabled): it is not
	// replicated until it is upgraded, cannot be taken to another box before, and is lost with the box's process.
	LocalSessions bool
	// ReadOnlyMode lets a box that has been without a leader for LeaderlessMax serve clients that asked for no more than
	// reads (readonlymode.enabled).
	ReadOnlyMode bool
	// Flags are the switches that the leader stamps on what clients ask: extended types, quota enforcement, skipACL.
	// FlagInternal is not one of them.
	Flags znode.Flags
	// Build names this binary, for people who look why the rules are not raised. At most 64 bytes of it are told.
	Build string
	// Rules is the newest rules version that this box can run. 0, which everything but a test wants, is this build's.
	Rules uint32

	// apply changes the tree by an entry, (*znode.Tree).Apply; tests put other rules in its place.
	apply func(*znode.Tree, *znode.Entry) znode.Outcome
}

// Deps are what the ensemble is given.
type Deps struct {
	Runtime mailbox.Runtime
	// FS must name the operating system's files: the log library opens them by name.
	FS vfs.FS
	// Syncer is that of the device which holds Dir.
	Syncer   *syncer.Syncer
	Observer *observe.Observer
	// Random gives the cluster's session secret and the incarnation's nonce; crypto/rand.Reader in production.
	Random io.Reader
	// Transport carries messages to other boxes; nil when there are none.
	Transport Transport
	// Ask puts a question to another server's Ensemble.Answer. It never blocks, and calls done once, with an error when the
	// server does not answer. Nil: nobody is asked, and a box with an empty directory begins as its configuration says.
	Ask func(server uint64, question []byte, done func(answer []byte, err error))
	// Peers is told where the servers are, whenever that may have changed, and whether somebody has changed it since the
	// founding: until then each server's own file may know better. It must not block; nil is not called.
	Peers func(c quorum.Config, changed bool)
}

// Transport carries messages to other boxes. They may be lost, doubled and reordered, and are not waited for; but those of
// a process that has ended must not arrive after those of its successor on the same box.
type Transport interface {
	// Send hands a message over; it never blocks and takes the bytes over. Urgent messages (heartbeats, votes) must not
	// queue behind others. The loss of others is reported by Ensemble.Unreachable.
	Send(to uint64, message []byte, urgent bool)
	// SendSnapshot asks for the snapshot taken at index (Ensemble.OpenSnapshot) to be brought to a box whose log has fallen
	// behind, to its ReceiveSnapshot; the message goes with it. It never blocks. The outcome is reported by
	// Ensemble.SnapshotSent, always.
	SendSnapshot(to uint64, index uint64, message []byte)
}

// raft's limits in ticks, and what a log entry may wait.
const (
	electionTicks     = 10
	heartbeatTicks    = 1
	readRetryTicks    = 20
	sessionTimeoutCap = 1<<31 - 1 // milliseconds, the protocol's int
)

func (c Config) withDefaults() Config {
	if c.Box == 0 {
		c.Box = 1
	}
	if len(c.Voters) == 0 {
		c.Voters = []uint64{c.Box}
	}
	if c.Limits == (limits.ZooKeeper{}) {
		c.Limits = limits.Derive(0).ZooKeeper
	}
	if c.TickTime <= 0 {
		c.TickTime = 2 * time.Second
	}
	if c.SessionTimeoutMin <= 0 {
		c.SessionTimeoutMin = 2 * c.TickTime
	}
	if c.SessionTimeoutMax <= 0 {
		c.SessionTimeoutMax = 20 * c.TickTime
	}
	if c.HeartbeatInterval <= 0 {
		c.HeartbeatInterval = 50 * time.Millisecond
	}
	if c.LeaderlessMax <= 0 {
		c.LeaderlessMax = 2 * electionTicks * c.HeartbeatInterval
	}
	if c.FlushDelay == 0 {
		c.FlushDelay = time.Millisecond
	}
	if c.ReapInterval <= 0 {
		c.ReapInterval = time.Minute
	}
	if c.ReapPerMinuteMax <= 0 {
		c.ReapPerMinuteMax = 10000
	}
	if c.Rules == 0 {
		c.Rules = znode.RulesVersion
	}
	if c.Build = c.Build[:min(len(c.Build), buildBytesMax)]; c.Build == "" {
		c.Build = "unnamed"
	}
	if c.apply == nil {
		c.apply = (*znode.Tree).Apply
	}
	return c
}

// validate reports a Config or Deps that cannot work, after defaults.
func (c Config) validate(d Deps) error {
	switch {
	case c.Dir == "":
		return errors.New("ensemble: no directory given")
	case c.SessionTimeoutMin > c.SessionTimeoutMax:
		return fmt.Errorf("ensemble: session timeouts of at least %v and at most %v", c.SessionTimeoutMin, c.SessionTimeoutMax)
	case c.SessionTimeoutMax.Milliseconds() > sessionTimeoutCap:
		return fmt.Errorf("ensemble: session timeouts up to %v do not fit the protocol", c.SessionTimeoutMax)
	case c.Flags&znode.FlagInternal != 0:
		return errors.New("ensemble: clients cannot be internal")
	case d.Runtime == nil || d.FS == nil || d.Syncer == nil || d.Random == nil:
		return errors.New("ensemble: a runtime, a file system, a syncer and randomness are needed")
	case len(c.Voters)+len(c.Learners) > 1 && d.Transport == nil:
		return fmt.Errorf("ensemble: %d voters, %d learners and no transport", len(c.Voters), len(c.Learners))
	case d.Ask == nil && !slices.Contains(c.Voters, c.Box) && !slices.Contains(c.Learners, c.Box):
		return fmt.Errorf("ensemble: box %d is neither among the voters %v nor the learners %v", c.Box, c.Voters, c.Learners)
	}
	return nil
}
