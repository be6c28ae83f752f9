package zkadmin

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"cairn/engine/ensemble/quorum"
	"cairn/platform/observe"
)

// Source is the server as zkadmin sees it. All methods may be called from any goroutine, and what they return belongs to
// the caller.
type Source interface {
	// Stats are the counters and sizes.
	Stats() Stats
	// Connections are the open connections, in no order.
	Connections() []Connection
	// Sessions are the live sessions with their ephemeral nodes, by id.
	Sessions() []Session
	// Watches are the watches of this server's connections.
	Watches() []Watch
	// ResetStats zeroes the server's counters, ResetConnectionStats those of every connection.
	ResetStats()
	ResetConnectionStats()
	// Authorize tells whether who sent this Authorization header from there has all permissions on the root. The status is
	// that of the answer where it has not; 0 is yes.
	Authorize(header string, remote netip.Addr) (status int, reason string)
}

// Latency sums up request latencies, in milliseconds.
type Latency struct {
	Min, Max   int64
	Sum, Count int64
}

// rounded is a mean as AvgMinMaxCounter rounds it.
func rounded(mean float64) float64 { return math.Floor(mean*10000+0.5) / 10000 }

// Add counts one request.
func (l *Latency) Add(ms int64) {
	if l.Count == 0 || ms < l.Min {
		l.Min = ms
	}
	l.Max = max(l.Max, ms)
	l.Sum += ms
	l.Count++
}

// Average is the mean, rounded as AvgMinMaxCounter rounds it; 0 when nothing was counted.
func (l *Latency) Average() float64 {
	if l.Count == 0 {
		return 0
	}
	return rounded(float64(l.Sum) / float64(l.Count))
}

// Sizes are the last, smallest and largest size of something in bytes; -1 before the first (BufferStats).
type Sizes struct {
	Last int `json:"last_buffer_size"`
	Min  int `json:"min_buffer_size"`
	Max  int `json:"max_buffer_size"`
}

// NoSizes is Sizes before anything was counted.
func NoSizes() Sizes { return Sizes{Last: -1, Min: -1, Max: -1} }

// Add counts one size.
func (s *Sizes) Add(n int) {
	if s.Min == -1 || n < s.Min {
		s.Min = n
	}
	s.Max = max(s.Max, n)
	s.Last = n
}

// Stats are a server's counters. Times are of this process.
type Stats struct {
	// Serving is false while the box has no quorum or is starting: most words then say so.
	Serving  bool
	ReadOnly bool
	// Mode is standalone, leader, follower, observer or read-only.
	Mode string
	// Latency of all requests.
	Latency Latency
	// Received and Sent count packets.
	Received, Sent int64
	Connections    int
	Outstanding    int64
	Zxid           int64
	Nodes          int
	// Watches counts the watches when they are shown, and not before: it takes a step for each watched path, and srvr
	// is answered to everybody. Nil is none.
	Watches    func() int
	Ephemerals int
	DataBytes  int64
	// Sessions are those of the ensemble, LocalSessions those that only this server knows.
	Sessions      int
	LocalSessions int
	ResponseSizes Sizes
	// ProposalSizes are shown by a leader of several servers alone.
	ProposalSizes Sizes
	Uptime        time.Duration
	AuthFailed    int64
	// DropProbability is the probability that a connection is dropped for the good of all.
	DropProbability float64
	// DirSizes are the bytes of the snapshots and of the log, OpenFiles how many files the process has open and may have.
	// Both look at files and are called when they are shown. Nil: zeros, and -1.
	DirSizes, OpenFiles func() (int64, int64)
	// Counters are further counters under their names in ServerMetrics. Metered are those that the box's metrics have under
	// these names themselves, and Summaries likewise.
	Counters, Metered []Counter
	Summaries         []Summary
	// LastSnapshot is the zxid and time of the newest snapshot; a zero time means none.
	LastSnapshotZxid int64
	LastSnapshotTime time.Time
	// Quorum is what a server that is one of several knows of them; nil when it stands alone.
	Quorum *Quorum
	// Digests are the newest (zxid, digest) pairs of the tree, oldest first.
	Digests []Digest
}

// Counter is one counter of ServerMetrics.
type Counter struct {
	Name  string
	Value int64
}

// Summary is one summary of ServerMetrics.
type Summary struct {
	Name string
	observe.Span
}

// Quorum is what a server knows of its ensemble.
type Quorum struct {
	// Leader is the number of the server that leads, 0 when none is known.
	Leader int64
	// Voters is how many vote.
	Voters int
	// Learners are the other servers as the leader sees them, in the order of their numbers; nil elsewhere.
	Learners []Learner
	// PendingSyncs are those that wait on this server.
	PendingSyncs int
	// LeaderUptime is how long this server leads; 0 when it does not.
	LeaderUptime time.Duration
	// Servers are the lines of the configuration. It is called by what shows them, and by nothing else: it reads the text.
	Servers func() quorum.Config
}

// Learner is another server as the leader sees it.
type Learner struct {
	Server int64
	// Votes, or Observer: is to observe. One that does neither is to vote and has not got the log yet.
	Votes, Observer bool
	// Heard lately; Synced: keeps up besides.
	Heard, Synced bool
}

// count is how many learners are so.
func (q *Quorum) count(so func(l *Learner) bool) (n int) {
	for i := range q.Learners {
		if so(&q.Learners[i]) {
			n++
		}
	}
	return n
}

// Digest is the tree's digest after a zxid.
type Digest struct {
	Zxid    int64
	Digest  uint64
	Version int
}

// Connection is one client connection.
type Connection struct {
	Remote netip.AddrPort
	// Reading is false while the server does not read from the connection; Writing is true while replies wait to be sent.
	Reading, Writing bool
	Outstanding      int64
	Received, Sent   int64
	// SessionID is 0 before the handshake is over.
	SessionID      int64
	LastOperation  string
	Established    time.Time
	SessionTimeout time.Duration
	// LastCxid is the last xid, -1 before the first request.
	LastCxid     int64
	LastZxid     int64
	LastResponse int64 // milliseconds, of the server's own clock
	LastLatency  int64
	Latency      Latency
	// Expires is when the connection would be closed for silence.
	Expires time.Time
}

// Session is one live session.
type Session struct {
	ID int64
	// Timeout is what was agreed with its client.
	Timeout time.Duration
	// Local: only this server knows it.
	Local bool
	// Expires is the tick at which it would end if nothing more were heard of it. Zero when another server decides.
	Expires time.Time
	// Ephemerals are the paths that it owns.
	Ephemerals []string
}

// Watch is one session's watch on one path. Connections without a session have none.
type Watch struct {
	SessionID int64
	Path      string
}

// Config is what does not change while the server runs.
type Config struct {
	// Version is printed first by srvr, stat, mntr and envi: x.y.z, then a revision without spaces. kazoo and others read
	// the first three numbers and behave accordingly.
	Version string
	// Built is when this program was built. It is shown as MM/DD/YYYY HH:MM GMT, the form of ZooKeeper before 3.7, since
	// clients parse it by a pattern.
	Built time.Time
	// Words are the four-letter words that are answered: srvr is always, "*" stands for all.
	Words []string
	// ClientPort, SecureClientPort, DataDir, DataLogDir, TickTime, MaxClientConnections, MinSessionTimeout,
	// MaxSessionTimeout, ListenBacklog and ServerID are what conf shows. A port of -1 is not open.
	ClientPort, SecureClientPort         int
	DataDir, DataLogDir                  string
	TickTime                             time.Duration
	MaxClientConnections                 int
	MinSessionTimeout, MaxSessionTimeout time.Duration
	ListenBacklog                        int
	ServerID                             int64
	// InitLimit and SyncLimit are ticks that conf of one of several servers shows. LocalSessions: sessions begin as this
	// server's own, which dump tells apart.
	InitLimit, SyncLimit int
	LocalSessions        bool
	// InitialConfiguration is the text of the configuration file, for icfg.
	InitialConfiguration string
	// Properties are the system properties, for sysp. Passwords must not be among them.
	Properties map[string]string
	// Environment are the lines of envi after zookeeper.version, in order.
	Environment []Pair
	// CommandURL is the path under which the handler is mounted, for its links.
	CommandURL string
	// Carrier serves the commands snapshot and restore; nil: they are not offered.
	Carrier Carrier
}

// Pair is a name with a value.
type Pair struct{ Name, Value string }

// fullVersion is Version.getFullVersion, with the old form of the date.
func (c *Config) fullVersion() string {
	return c.Version + ", built on " + c.Built.UTC().Format("01/02/2006 15:04") + " GMT"
}

// javaDate is java.util.Date.toString.
func javaDate(t time.Time) string { return t.UTC().Format("Mon Jan 02 15:04:05 UTC 2006") }

// remote is InetSocketAddress.toString for an address that was not looked up.
func (c *Connection) remote() string { return "/" + c.Remote.String() }

// interest is the selection key's interest set: 1 for reading, 4 for writing.
func (c *Connection) interest() int {
	n := 0
	if c.Reading {
		n |= 1
	}
	if c.Writing {
		n |= 4
	}
	return n
}

func (s *Stats) dirSizes() (data, log int64) {
	if s.DirSizes == nil {
		return 0, 0
	}
	return s.DirSizes()
}

func (s *Stats) openFiles() (open, most int64) {
	if s.OpenFiles == nil {
		return -1, -1
	}
	return s.OpenFiles()
}

func (s *Stats) countWatches() int {
	if s.Watches == nil {
		return 0
	}
	return s.Watches()
}

func hex(id int64) string { return fmt.Sprintf("0x%x", uint64(id)) }
