package zoocfg

import (
	"time"

	"cairn/engine/ensemble/quorum"
)

// Config is what a zoo.cfg, its myid and its JVM flags say. Every field has ZooKeeper 3.9.5's default where the file is
// silent. It is plain data: nothing in it refers to a room of the engine but the form of a server line.
type Config struct {
	// File is the name that the configuration was read from, and Text its bytes, which initial_configuration shows.
	File string
	Text string

	// DataDir holds snapshots and myid; DataLogDir the transaction log, the same directory unless set. A box of cairn keeps
	// both under DataDir and uses DataLogDir for its log if they differ.
	DataDir    string
	DataLogDir string

	// ClientAddress is where clients connect, host:port with an empty host for all interfaces. Empty: no such port.
	ClientAddress string
	// SecureClientAddress is the same for TLS clients. Empty: no such port.
	SecureClientAddress string
	// ListenBacklog is clientPortListenBacklog; -1 leaves it to the operating system.
	ListenBacklog int

	// TickTime is the unit of session expiry.
	TickTime time.Duration
	// MinSessionTimeout and MaxSessionTimeout bound what a client may ask for: 2 and 20 ticks unless set.
	MinSessionTimeout time.Duration
	MaxSessionTimeout time.Duration
	// MaxClientConnections is maxClientCnxns: connections of one address, 60 unless set, 0 for no bound.
	MaxClientConnections int
	// MaxConnections is zookeeper.maxCnxns: connections of all addresses together, 0 for no bound.
	MaxConnections int

	// ServerID is the number in myid, or -1 when there is no such file.
	ServerID int64
	// Servers are the server.N lines in order of N, observers too.
	Servers []Server
	// InitLimit and SyncLimit are in ticks; they matter to ensembles alone.
	InitLimit int
	SyncLimit int
	// Observer is peerType=observer.
	Observer          bool
	StandaloneEnabled bool
	ReconfigEnabled   bool
	// LocalSessions and UpgradeSessions are localSessionsEnabled and localSessionsUpgradingEnabled.
	LocalSessions   bool
	UpgradeSessions bool
	// SnapshotsRetained is autopurge.snapRetainCount, at least 3; PurgeInterval is in hours, 0 for never.
	SnapshotsRetained int
	PurgeInterval     int

	// Metrics are the metricsProvider.* keys without their prefix; MetricsProvider is its class.
	MetricsProvider string
	Metrics         Properties

	// Admin is the AdminServer, Jetty's place in ZooKeeper.
	Admin Admin

	// FourLetterWords is 4lw.commands.whitelist, with srvr always among them; "*" stands for all.
	FourLetterWords []string

	// SuperDigest is user:base64(sha1(user:password)) of the super user, or empty.
	SuperDigest string
	// DigestAlgorithm is what digest ids are made with: SHA1 unless set.
	DigestAlgorithm string
	// EnsembleNames are zookeeper.ensembleAuthName, split at commas: what the auth scheme "ensemble" accepts.
	EnsembleNames []string
	// SkipACL is zookeeper.skipACL=yes: nothing is forbidden.
	SkipACL bool
	// EnforceAuthSchemes are the schemes of which a client must have one before it is served; empty for none.
	EnforceAuthSchemes []string
	// ExtendedTypes allows TTL nodes; Emulate353TTL reads and writes their owner as 3.5.3 did.
	ExtendedTypes bool
	Emulate353TTL bool
	// EnforceQuota makes hard limits refuse.
	EnforceQuota bool
	// ReadOnlyMode is readonlymode.enabled: without a majority, clients that asked for no more than reads are served.
	ReadOnlyMode bool
	// LinearizableReads is cairn.linearizableReads, a key of our own: every read waits for a round among the servers.
	LinearizableReads bool
	// FrameBytesMax is jute.maxbuffer.
	FrameBytesMax int
	// OutstandingMax is zookeeper.globalOutstandingLimit: beyond so many unanswered requests sockets are not read.
	OutstandingMax int
	// LargeRequestThreshold and LargeRequestBytesMax: requests above the first share the second, in bytes; -1 is off.
	LargeRequestThreshold int
	LargeRequestBytesMax  int
	// ConnectionThrottle bounds how fast sessions are opened, RequestThrottle says what becomes of requests that wait.
	ConnectionThrottle ConnectionThrottle
	RequestThrottle    RequestThrottle
	// HandshakeTimeout is zookeeper.nio.sessionlessCnxnTimeout.
	HandshakeTimeout time.Duration
	// FlushDelay is zookeeper.flushDelay: how long a write waits at most for others, to be flushed with them. Negative: not at
	// all. 0: nothing was said, and the ensemble's own default holds.
	FlushDelay time.Duration
	// SnapshotEvery is zookeeper.snapCount: entries between snapshots.
	SnapshotEvery int
	// ContainerCheckInterval, ContainerPerMinuteMax and ContainerNeverUsed are znode.container.*: how often containers and
	// TTL nodes are looked at, how many are deleted a minute, and how long an unused container lives (0: for ever).
	ContainerCheckInterval time.Duration
	ContainerPerMinuteMax  int
	ContainerNeverUsed     time.Duration
	// DataDirAutoCreate is zookeeper.datadir.autocreate: whether missing directories are made.
	DataDirAutoCreate bool

	// Properties are all system properties: the -D keys, then each key of the file that QuorumPeerConfig has no field for,
	// with "zookeeper." before it. Keys that nobody knows are kept here too.
	Properties Properties
	// Warnings are sentences for the log: keys without effect, unknown keys, values that were corrected.
	Warnings []string
}

// Admin is the AdminServer's part.
type Admin struct {
	// Enabled is admin.enableServer.
	Enabled bool
	// Address is host:port of the HTTP listener.
	Address string
	// CommandURL is the path in front of the commands' names, "/commands" unless set.
	CommandURL string
	// IdleTimeout closes idle HTTP connections.
	IdleTimeout time.Duration
}

// Server is one server.N line.
type Server = quorum.Server

// The defaults of 3.9.5 that are not zero.
const (
	tickTimeDefault             = 2000
	clientConnectionsDefault    = 60
	snapshotsRetainedMin        = 3
	frameBytesDefault           = 0xfffff
	outstandingDefault          = 1000
	largeRequestBytesDefault    = 100 << 20
	sessionlessTimeoutDefault   = 10_000
	snapCountDefault            = 100_000
	containerCheckDefault       = 60_000
	containerPerMinuteDefault   = 10_000
	adminPortDefault            = 8080
	adminIdleDefault            = 30_000
	metricsProviderDefault      = "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider"
	metricsProviderPrometheus   = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider"
	serverIDUnset               = -1
	sessionTimeoutTicksMin      = 2
	sessionTimeoutTicksMax      = 20
	frameBytesLeast             = 1024
	propertyPrefix              = "zookeeper."
	wordSrvr, wordIsro, wordAll = "srvr", "isro", "*"
)

// Standalone says whether ZooKeeper would run this configuration without peers.
func (c *Config) Standalone() bool {
	voters := 0
	for _, s := range c.Servers {
		if !s.Observer {
			voters++
		}
	}
	return c.StandaloneEnabled && voters <= 1
}
