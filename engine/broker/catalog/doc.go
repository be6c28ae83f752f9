// Package catalog is what a broker knows of its cluster: topics, partitions, brokers and settings, read from the znodes
// under /cairn/kafka that carry Kafka's ZooKeeper names and Kafka's JSON.
//
// It is a pure projection: Project takes the previous Snapshot and one applied batch of changes and returns the next
// Snapshot, copying only what changed. Every handler reads one immutable Snapshot and never sees half a batch. The
// package declares the Tree that it is fed from (engine/node adapts the ensemble to it), and encodes the znodes' JSON
// for the controller, so that the format is written and read in one place.
//
// Nobody owns a goroutine here: a Catalog is fed on the goroutine that applies entries. The package must not write to
// the tree, read a clock, or decide anything; deciding is the controller's.
package catalog
