package ensemble

import (
	"errors"

	"go.etcd.io/raft/v3"
)

// fail ends this box's ensemble. Nothing is retried: after a failed flush nobody knows what the disk holds.
func (o *owner) fail(cause error) {
	if o.over {
		return
	}
	err := errors.Join(ErrFailed, cause)
	o.e.failure.Store(&err)
	o.e.metrics.failures.Inc()
	o.e.deps.Observer.Log.Error("ensemble failed and serves no more", "error", cause)
	o.end(err)
}

// end refuses everything from now on and answers everybody who waits.
func (o *owner) end(reason error) {
	o.over = true
	o.e.serving.Store(false)
	o.endReadOnly()
	o.ready, o.role, o.lead = false, raft.StateFollower, raft.None
	o.keep.Follow()
	o.answerSettled(true)
	o.failPending(errors.Join(ErrUncertain, reason))
	for _, m := range o.moves {
		m.grant(Grant{}, reason)
	}
	o.moves = nil
	o.resigned()
	o.dropParkedForwards()
	for _, p := range o.parked {
		o.abandon(p, reason)
	}
	o.parked = nil
	o.reads.fail(reason)
	if o.restore != nil {
		o.restoreEnd(o.restore, reason)
	}
	for _, r := range o.waiting {
		r.done(Registered{}, reason)
	}
	o.waiting = nil
	l := Leadership{Term: o.toldRole.Term}
	for _, f := range o.roles {
		f(l)
	}
	o.toldRole = l
	o.killAll(reason)
	o.publish()
}
