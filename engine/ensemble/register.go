package ensemble

import (
	"fmt"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// Registration is how this box makes itself known: nodes that live as long as its session, and that is as long as this
// process. (With several boxes a lease will hold it; alone, nothing can expire it but the next process of this box.)
type Registration struct {
	// Ops are applied all or none under the box's own authority, together with the end of the box's old incarnation and
	// all its ephemerals. Ephemerals that they create belong to the box's session.
	Ops []jute.Op
}

// Registered is what came of it.
type Registered struct {
	// Session of the box: the owner of its ephemerals.
	Session int64
	// Epoch is the czxid of what the ops created: Kafka's broker epoch.
	Epoch int64
	// Results, one per op.
	Results []znode.Result
}

// registering is a registration on its way.
type registering struct {
	ops  []jute.Op
	done func(Registered, error)
}

// Register makes this box known, once the ensemble serves: before, it waits. A second registration of the same process
// adds its ops to the same session. done is called as Propose's is; an op that fails is an error that wraps its code.
func (e *Ensemble) Register(r Registration, done func(Registered, error)) {
	if err := e.send(message{kind: msgRegister, occasion: &occasion{register: &registering{ops: r.Ops, done: done}}}); err != nil {
		done(Registered{}, err)
	}
}

const registrationsMax = 64

func (o *owner) register(r *registering) {
	if !o.e.serving.Load() {
		if len(o.waiting) >= registrationsMax {
			r.done(Registered{}, fmt.Errorf("%d registrations wait: %w", len(o.waiting), ErrFull))
			return
		}
		o.waiting = append(o.waiting, r)
		return
	}
	if o.boxLife == 0 {
		// It must grow with each start of this box, also after the tree has forgotten the last one: the zxid does, since
		// every registration takes one.
		o.boxLife = uint64(o.e.tree.Zxid()) + 1
		if old, ok := o.e.tree.BoxSession(o.e.cfg.Box); ok {
			o.boxLife = max(o.boxLife, old.Incarnation+1)
		}
	}
	entry := znode.Entry{
		Kind: znode.KindRegister, Incarnation: o.boxLife, Ops: r.ops,
		TimeoutMs: int32(o.e.cfg.SessionTimeoutMin.Milliseconds()),
	}
	o.internal(entry, func(out znode.Outcome, err error) {
		if err == nil && out.Err != jute.OK {
			err = out.Err
		}
		if err != nil {
			r.done(Registered{}, fmt.Errorf("register box %d: %w", o.e.cfg.Box, err))
			return
		}
		r.done(Registered{Session: out.Session, Epoch: out.Zxid, Results: out.Results}, nil)
	})
}

// registerWaiting registers what had to wait for the ensemble.
func (o *owner) registerWaiting() {
	waiting := o.waiting
	o.waiting = nil
	for _, r := range waiting {
		o.register(r)
	}
}
