package node

import (
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/topics"
	"cairn/engine/ensemble"
	"cairn/engine/ensemble/zkserver"
)

// Adjust is what a simulation changes of the configurations that a box makes for its rooms; a nil function changes nothing.
type Adjust struct {
	Ensemble  func(*ensemble.Config)
	ZooKeeper func(*zkserver.Config)
	Shards    func(*replica.ShardsConfig)
	Catalog   func(*catalog.Base)
	Topics    func(*topics.Config)
	// StaleCatalog is a bug on purpose: the box acts on its catalog before that is known to be recent.
	StaleCatalog bool
}

// helper is a test. Who has none can neither change a box's rooms nor look into them.
type helper interface{ Helper() }

// With returns the configuration with the simulation's changes.
func (c Config) With(t helper, a Adjust) Config {
	t.Helper()
	c.adjust = a
	return c
}

// Rooms are a box's rooms, for a simulation to look into.
type Rooms struct {
	Ensemble *ensemble.Ensemble
	// Catalog is what the box knows of the broker's facts, and Replicas calls its argument with each partition that is open; nil
	// without a broker.
	Catalog  func() *catalog.Snapshot
	Replicas func(func(*replica.Replica))
}

// Rooms shows them.
func (n *Node) Rooms(t helper) Rooms {
	t.Helper()
	r := Rooms{Ensemble: n.ensemble}
	if b := n.broker; b != nil {
		r.Catalog, r.Replicas = b.catalog.Current, b.topics.All
	}
	return r
}
