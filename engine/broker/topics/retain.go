package topics

import (
	"errors"

	"cairn/engine/broker/seglog"
)

// sweepFilesMax bounds one round of unlinking, so that a deleted topic of thousands of segments does not hold a thread.
const sweepFilesMax = 256

// retain asks every open partition to apply its retention, and then the devices' budgets.
func (o *owner) retain() {
	good := o.deps.GoodClock != nil && o.deps.GoodClock(o.now)
	for _, p := range o.sorted() {
		if p.phase == phaseOpen {
			p.replica.Retain(good, o.onRemoval(p))
		}
	}
	o.budget()
}

// budget trims the oldest segments of directories that are over their budget. Every trim is counted and said.
func (o *owner) budget() {
	for _, dir := range o.deps.Dirs {
		if dir.Failed() != nil {
			continue
		}
		trims, err := dir.PlanBudget()
		if err != nil {
			o.deps.Observer.Log.Error("device budget cannot be read", "directory", dir.Path(), "error", err)
			continue
		}
		for _, trim := range trims {
			p := o.parts[trim.Log.TopicPartition()]
			if p == nil || p.phase != phaseOpen {
				continue
			}
			o.deps.Observer.Log.Warn("device over its budget: oldest records removed before their time",
				"topic", p.tp.Topic, "partition", p.tp.Partition, "before_offset", trim.Before, "bytes", trim.Bytes)
			o.deps.Observer.Metrics.Counter("cairn_log_budget_removed_bytes_total", "directory", dir.Path()).Add(int(trim.Bytes))
			p.replica.Trim(trim.Before, o.onRemoval(p))
		}
	}
}

func (o *owner) onRemoval(p *part) func(seglog.Removed, error) {
	return func(removed seglog.Removed, err error) {
		if err != nil && !errors.Is(err, seglog.ErrClosed) {
			o.deps.Observer.Log.Warn("retention failed", "topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
		}
		if removed.Segments > 0 {
			o.box.Post(message{kind: msgRemoved, part: p, removed: removed})
		}
	}
}

// checkpoint writes the directories' checkpoints, and looks at the budgets: both are due only where something was
// written.
func (o *owner) checkpoint() {
	for _, dir := range o.deps.Dirs {
		if dir.Failed() != nil {
			continue
		}
		dir.Checkpoint(func(err error) {
			if err != nil {
				o.deps.Observer.Log.Error("checkpoint not written", "directory", dir.Path(), "error", err)
			}
		})
	}
	o.budget()
}

// onSwept goes on while files are left. What was refused for want of space may have it now.
func (o *owner) onSwept(more bool) {
	o.sweeping = false
	switch {
	case o.stopping != nil:
		o.finishStop()
	case more:
		o.sweep()
	default:
		o.openRefused()
	}
}

// sweep unlinks what deleted partitions and segments left behind, off the owner.
func (o *owner) sweep() {
	if o.sweeping || o.stopping != nil {
		return
	}
	o.sweeping = true
	more := false
	o.deps.Runtime.Spawn("sweep", func() {
		for _, dir := range o.deps.Dirs {
			left, err := dir.Sweep(sweepFilesMax)
			if err != nil {
				o.deps.Observer.Log.Warn("deleted files not removed", "directory", dir.Path(), "error", err)
			}
			more = more || left && err == nil
		}
	}, func() { o.box.Post(message{kind: msgSwept, more: more}) })
}
