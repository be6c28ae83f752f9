package controller

import (
	"time"

	"cairn/engine/broker/catalog"
)

// Bounds of one multi. The tree takes larger entries; smaller ones keep raft's pipeline and the lock of Apply short.
const (
	multiOpsMax   = 600
	multiBytesMax = 384 << 10
)

// work is one multi in the making: the operations so far, and the snapshot that they will make. Each operation is
// projected at once by the same code that projects it when it comes back applied, so that what is planned next sees it.
type work struct {
	now       *catalog.Snapshot
	ops       []catalog.Op
	bytes     int
	unbounded bool // for a trial that is thrown away
}

// full reports whether no more should be planned into this multi.
func (w *work) full() bool {
	return !w.unbounded && (len(w.ops) >= multiOpsMax || w.bytes >= multiBytesMax)
}

// do plans operations, all of which must succeed on the present snapshot.
func (w *work) do(ops ...catalog.Op) {
	b := catalog.Batch{Zxid: w.now.Zxid}
	for _, op := range ops {
		c := catalog.Change{Path: op.Path, Data: op.Data, Version: op.Version + 1}
		switch op.Kind {
		case catalog.OpSet:
			c.Kind = catalog.Changed
		case catalog.OpDelete:
			c.Kind = catalog.Deleted
		}
		b.Changes = append(b.Changes, c)
		w.bytes += op.Size()
	}
	w.ops = append(w.ops, ops...)
	w.now = catalog.Project(w.now, b)
}

// trial is a copy to plan into without limits and without consequences, for validateOnly.
func (w *work) trial() *work { return &work{now: w.now, unbounded: true} }

func create(path string, data []byte) catalog.Op {
	return catalog.Op{Kind: catalog.OpCreate, Path: path, Data: data, Version: catalog.AnyVersion}
}

func set(path string, data []byte) catalog.Op {
	return catalog.Op{Kind: catalog.OpSet, Path: path, Data: data, Version: catalog.AnyVersion}
}

// setState sets the state of a partition of t as it is now. The version is named: what is planned behind it in the same multi
// is judged by the one that it makes.
func setState(t *catalog.Topic, index int32, state catalog.PartitionState) catalog.Op {
	return catalog.Op{Kind: catalog.OpSet, Path: catalog.StatePath(t.Name, index), Data: catalog.EncodeState(state), Version: t.Partition(index).PartitionEpoch}
}

func remove(path string) catalog.Op {
	return catalog.Op{Kind: catalog.OpDelete, Path: path, Version: catalog.AnyVersion}
}

// put sets a znode or creates it.
func put(exists bool, path string, data []byte) catalog.Op {
	if exists {
		return set(path, data)
	}
	return create(path, data)
}

// facts are what a plan needs beside the snapshot.
type facts struct {
	epochs  epochs
	leaving leaving
	// load counts replicas for the placement of others.
	load load
	// now is monotonic, and absent who is missed since when, on that clock.
	now    time.Duration
	absent absences
	// newID draws topic ids.
	newID func() (catalog.UUID, error)
	// partitionsMax bounds the partitions of the cluster.
	partitionsMax int
	// thisBroker is the box of this controller.
	thisBroker int32
}

// outcome says where a request stands after a step of its plan.
type outcome uint8

const (
	// again: the multi is full, or something must happen first; the request is stepped again with the next snapshot.
	again outcome = iota
	// ready: the answer holds once the operations that were planned so far are applied.
	ready
)

// plan is one request in the controller's hands. step is pure but for the plan's own memory: it may be called again and
// again, on newer snapshots, also for operations that were lost or whose outcome is unknown. Exactly one of answer and
// fail is called in the end.
type plan interface {
	step(w *work, f *facts) outcome
	// answer gives the answers that the last step found.
	answer()
	// fail answers everything that was not answered with err.
	fail(err *Error)
}
