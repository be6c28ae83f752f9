package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
)

func (s *shard) onDeleteRecords(r *Replica, offset int64, done func(int64, error)) {
	o := &r.own
	if o.err != nil {
		done(-1, o.err)
		return
	}
	if leader, _ := o.state.Leader(); !leader {
		done(-1, partition.ErrNotLeader)
		return
	}
	hw := o.state.HighWatermark()
	if offset == -1 {
		offset = hw
	}
	if offset < 0 || offset > hw {
		done(-1, fmt.Errorf("%w: delete records before %d, the high watermark is %d", seglog.ErrOutOfRange, offset, hw))
		return
	}
	offset = max(offset, o.state.Start())
	err := o.log.AdvanceStart(offset, func(err error) {
		s.box.Post(message{kind: msgStartDurable, replica: r, offset: offset, err: err, deleted: done})
	})
	if err != nil {
		done(-1, err)
		return
	}
	// Nobody is given the records from here on, and the log has forgotten their epochs: everybody is told so at once.
	o.state.StartMoved(offset)
	o.changed = true
	s.check(r)
}

func (s *shard) onStartDurable(r *Replica, offset int64, err error, done func(int64, error)) {
	o := &r.own
	if errors.Is(err, seglog.ErrFailed) {
		s.fail(r, err)
	}
	switch {
	case err != nil:
		o.startDue = o.err == nil // the log has let go nevertheless
		s.activate(r)
		done(-1, err) // a device without room for the checkpoint says so, and is asked again
	case o.state.Start() < offset: // cut meanwhile, by another leader's word
		done(-1, partition.ErrNotLeader) // who leads now, or this box anew, has not deleted them
	default:
		done(offset, nil)
	}
}

// startWaiter waits for a log's start to come to an offset.
type startWaiter struct {
	ctx    context.Context
	offset int64
	done   func(error)
}

// startWaitersMax bounds them, for each partition.
const startWaitersMax = 64

func (s *shard) onAwaitStart(r *Replica, w *startWaiter) {
	o := &r.own
	if o.err != nil {
		w.done(o.err)
		return
	}
	o.starts = append(o.starts, w)
	s.startMoved(r)
	if len(o.starts) > startWaitersMax {
		o.starts[0].done(ErrBusy)
		o.starts = slices.Delete(o.starts, 0, 1)
	}
}

func (s *shard) refuseStarts(r *Replica, err error) {
	for _, w := range r.own.starts {
		w.done(err)
	}
	r.own.starts = nil
}

// startMoved has those answered that wait for the start: when the checkpoint that it is in is durable. Those that nobody asks for any more go.
func (s *shard) startMoved(r *Replica) {
	o := &r.own
	o.starts = slices.DeleteFunc(o.starts, func(w *startWaiter) bool {
		if w.ctx.Err() != nil {
			return true
		}
		if o.state.Start() < w.offset {
			return false
		}
		if err := o.log.AdvanceStart(o.state.Start(), w.done); err != nil {
			w.done(err)
		}
		return true
	})
	if len(o.starts) == 0 {
		o.starts = nil
	}
}
