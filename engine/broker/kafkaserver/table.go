package kafkaserver

import (
	"fmt"
	"slices"
	"sync"

	"cairn/engine/broker/wire"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// api is one line of the table of what is served.
type api struct {
	key  int16
	name string // Kafka's name of the API, the label of its metrics
	// minAdvertised to max is what ApiVersions says. It is min to max, except for Produce: librdkafka takes a broker
	// that does not list Produce 0 for one that knows no compression (KAFKA-18659).
	minAdvertised int16
	// min and max are the versions that are served. Other versions of a key close the connection, as in Kafka.
	min, max int16
	// new makes an empty request to decode into. Constructors stand here one by one because kmsg.RequestForKey would
	// link every message of the protocol (2.5 MB).
	new func() kmsg.Request
	// handle answers the request. It runs on the connection's reading goroutine and must not block for other clients.
	handle func(*Server, *request)
	// bulky marks APIs whose answer may be as large as the box's state (all topics, all groups, all settings) and that
	// answer promptly. Only a few of them are handled at a time, so that many connections that ask and never read
	// cannot hold many such answers. APIs that park requests (Fetch, JoinGroup, …) must not set it.
	bulky bool
	// pipelined marks APIs whose consecutive requests on one connection may be in hand at the same time.
	pipelined bool
	// records marks the API whose requests are mostly records and may be as long as limits.Kafka.FrameBytesMax; the
	// others' are shorter.
	records bool
	// borrows has strings decoded without copying: they point into the frame like byte slices, and what outlives the
	// answer must be cloned.
	borrows bool

	// reused has requests decoded into the memory of earlier ones. Only for handlers that hold nothing of a request once it
	// is answered, and for messages that kmsg decodes completely anew. See recycle.
	reused bool

	pool    *sync.Pool   // of *request, filled in by newTable
	schema  *wire.Schema // filled in by newTable
	metrics apiMetrics   // filled in by the server
}

// serves reports whether a request of that version is handled.
func (a *api) serves(version int16) bool { return a.min <= version && version <= a.max }

// apiTable is everything that is served, sorted by key.
type apiTable []api

// newTable concatenates the families' tables. Each family keeps its own: apisData (00, 01, 02, 03, 18, …), apisGroups
// and apisAdmin.
func newTable() apiTable {
	t := slices.Concat(apisData(), apisGroups(), apisAdmin())
	for i := range t {
		t[i].schema = wire.SchemaOf(t[i].key)
		t[i].pool = new(sync.Pool)
	}
	slices.SortFunc(t, func(a, b api) int { return int(a.key) - int(b.key) })
	return t
}

// find returns the line for a key, or nil.
func (t apiTable) find(key int16) *api {
	i, ok := slices.BinarySearchFunc(t, key, func(a api, key int16) int { return int(a.key) - int(key) })
	if !ok {
		return nil
	}
	return &t[i]
}

// check reports contradictions in the table: two lines for a key, a range that the prescan or kmsg does not know.
func (t apiTable) check() error {
	for i := range t {
		a := &t[i]
		if i > 0 && t[i-1].key == a.key {
			return fmt.Errorf("API table: key %d (%s) twice", a.key, a.name)
		}
		if a.minAdvertised > a.min || a.min > a.max || a.min < 0 {
			return fmt.Errorf("API table: %s serves %d to %d, advertised from %d", a.name, a.min, a.max, a.minAdvertised)
		}
		req := a.new()
		if req.Key() != a.key || req.MaxVersion() < a.max {
			return fmt.Errorf("API table: %s: constructor makes key %d up to version %d", a.name, req.Key(), req.MaxVersion())
		}
		if a.schema == nil || a.schema.MaxVersion < a.max {
			return fmt.Errorf("API table: %s: no schema to check version %d with", a.name, a.max)
		}
	}
	return nil
}
