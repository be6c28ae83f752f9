package ensemble

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// resignMax is how long a leader waits for another to take over; raft gives the transfer up after an election's time.
const resignMax = time.Second

// resignation is a leader's wish to lead no more. Writes wait meanwhile: the next leader takes them.
type resignation struct {
	done  []func()
	until time.Duration
}

// Resign hands the leadership to the voter that is furthest, so that the others need not wait for this box's silence when
// it stops. done is called once this box does not lead, or when nobody took over within a second; it runs on the
// ensemble's goroutine, or the caller's when the ensemble is over, and must not block.
func (e *Ensemble) Resign(done func()) {
	if err := e.send(message{kind: msgResign, occasion: &occasion{resigned: done}}); err != nil {
		done()
	}
}

func (o *owner) resign(done func()) {
	to := o.successor()
	if o.role != raft.StateLeader || to == raft.None {
		done()
		return
	}
	o.handOver(to, done)
}

// handOver makes a voter lead. Writes wait meanwhile.
func (o *owner) handOver(to uint64, done func()) {
	if len(o.leaving.done) == 0 {
		o.handNow() // raft would drop it from now on
		o.leaving.until = o.now.Mono + resignMax
		o.node.TransferLeader(to)
	}
	o.leaving.done = append(o.leaving.done, done)
}

// successor is the voter that was heard lately and has most of the log; not one that is to vote no more.
func (o *owner) successor() (best uint64) {
	if o.role != raft.StateLeader {
		return raft.None
	}
	var match uint64
	o.node.WithProgress(func(id uint64, kind raft.ProgressType, pr tracker.Progress) {
		if kind != raft.ProgressTypePeer || id == o.id || !pr.RecentActive || pr.IsLearner || o.goes(id) {
			return
		}
		if best == raft.None || pr.Match > match || pr.Match == match && id < best {
			best, match = id, pr.Match
		}
	})
	return best
}

// resigned tells those who wait that this box leads no more, or that nobody took over.
func (o *owner) resigned() {
	waiting := o.leaving.done
	o.leaving = resignation{}
	for _, done := range waiting {
		done()
	}
	o.again = o.again || len(waiting) > 0 // what was parked goes on
}

// awaitSuccessor gives a resignation up after its time: this box leads on.
func (o *owner) awaitSuccessor() {
	if len(o.leaving.done) > 0 && o.now.Mono >= o.leaving.until {
		o.resigned()
	}
}
