package catalog

import (
	"slices"
	"time"
)

// Endpoint is one listener of a broker as it is told to clients.
type Endpoint struct {
	Listener string // the listener's name, upper case
	Security string // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
	// Host is what clients are told. Empty means "the address that the client came in on".
	Host string
	Port int32
}

// LogDir is one log directory of a broker.
type LogDir struct {
	ID     UUID   // directory.id of its meta.properties
	Path   string // as the broker was told it
	Failed bool   // offline: its replicas cannot lead
}

// Broker is a registered broker. It is immutable.
type Broker struct {
	ID int32
	// Epoch is the broker epoch: the zxid that created the registration. A restarted broker has a new one.
	Epoch int64
	// Incarnation is drawn at every start of the box.
	Incarnation UUID
	Endpoints   []Endpoint
	Rack        string // empty means none
	// Features are the supported feature ranges, name to {min, max}.
	Features map[string][2]int16
	LogDirs  []LogDir
	// UsedTenths is how much of the space for logs is used, in tenths, 0 to 10.
	UsedTenths int
	// Offline are partitions, by topic, whose replica the broker cannot serve though it has its log directory: a damaged or missing
	// log, more partitions than it may hold. At most OfflineMax are named.
	Offline   map[UUID][]int32
	Memory    uint64    // bytes that the box may use
	Started   time.Time // wall time of the registration, for people
	CleanStop bool      // the incarnation before this one stopped cleanly
}

// OfflineMax bounds the partitions that a registration names as offline: it is one znode.
const OfflineMax = 2000

// Endpoint finds a listener by name.
func (b *Broker) Endpoint(listener string) (Endpoint, bool) {
	i := slices.IndexFunc(b.Endpoints, func(e Endpoint) bool { return e.Listener == listener })
	if i < 0 {
		return Endpoint{}, false
	}
	return b.Endpoints[i], true
}

// HasDirectory reports whether the broker has that log directory online.
func (b *Broker) HasDirectory(id UUID) bool {
	return slices.ContainsFunc(b.LogDirs, func(d LogDir) bool { return d.ID == id && !d.Failed })
}

// Registration is the znode that registers the broker.
func (b *Broker) Registration() Registration {
	return Registration{Path: BrokerPath(b.ID), Data: EncodeBroker(b)}
}
