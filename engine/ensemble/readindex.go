package ensemble

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3"
)

// reads are the read indexes that wait. All that arrive before one is asked of raft share it; one is under way at a time.
type reads struct {
	// fresh: a read index taken since this box started, or last lost its leader, has been applied. The box serves.
	fresh bool

	next    []func(uint64, error) // not asked for yet
	asked   []func(uint64, error) // share the request under way
	context uint64                // of the request under way; 0 when there is none
	count   uint64
	waited  int    // ticks since it was asked
	index   uint64 // answered by raft: wait until this is applied
	known   bool
}

// waiting is how many are not answered yet.
func (r *reads) waiting() int { return len(r.next) + len(r.asked) }

// add parks one read index.
func (r *reads) add(o *owner, done func(uint64, error)) {
	if r.waiting() >= o.e.cfg.Limits.ReadIndexesMax {
		done(0, fmt.Errorf("%d read indexes wait: %w", r.waiting(), ErrFull))
		return
	}
	r.next = append(r.next, done)
}

// ask starts a request when there is something to ask for and somebody to ask. A leader asks only once it has applied
// the first entry of its term: raft answers a lone voter at once, from a commit index that a restart may have set back.
func (r *reads) ask(o *owner) {
	if r.context != 0 || len(r.next) == 0 && r.fresh {
		return
	}
	leads := o.role == raft.StateLeader
	if leads && !o.ready || !leads && o.lead == raft.None {
		return
	}
	r.count++
	r.context, r.waited, r.known = r.count, 0, false
	r.asked, r.next = r.next, nil
	o.node.ReadIndex(binary.BigEndian.AppendUint64(nil, r.context))
}

// tick asks again when no answer comes: raft drops a request silently when the leader changes.
func (r *reads) tick(o *owner) {
	if r.context == 0 || r.known {
		return
	}
	if r.waited++; r.waited >= readRetryTicks {
		r.again()
	}
}

// again lets the request under way be asked anew: no answer came, or the leader has changed, and whom it was asked of may
// have no answer any more.
func (r *reads) again() {
	if r.context != 0 && !r.known {
		r.next = append(r.asked, r.next...)
		r.asked, r.context = nil, 0
	}
}

// confirmed takes raft's answer.
func (r *reads) confirmed(context []byte, index uint64) {
	if len(context) == 8 && binary.BigEndian.Uint64(context) == r.context {
		r.index, r.known = index, true
	}
}

// answer completes the request under way once its index is applied, and the doors are open: whoever waited may be waiting
// for that, and a new tree has no secret yet.
func (r *reads) answer(o *owner) {
	if r.context == 0 || !r.known || o.applied < r.index || !o.e.tree.HasSecret() {
		return
	}
	asked := r.asked
	r.asked, r.context = nil, 0
	r.fresh, o.again = true, true
	o.serve()
	for _, done := range asked {
		done(r.index, nil)
	}
}

// fail answers all.
func (r *reads) fail(err error) {
	waiting := append(r.asked, r.next...)
	r.asked, r.next, r.context = nil, nil, 0
	for _, done := range waiting {
		done(0, err)
	}
}
