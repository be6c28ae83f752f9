package sim

import (
	"errors"
	"fmt"
	"time"

	"cairn/engine/ensemble"
)

// lane is the messages of one kind from one box to another, in order.
type lane struct {
	from, to uint64
	urgent   bool
}

// cut is what happens to messages from one box to another.
type cut uint8

const (
	open cut = iota
	// lossy: what is sent is lost.
	lossy
	// held: what is sent waits until the link is open again, as TCP does for a while.
	held
)

// network is the links between the boxes.
type network struct {
	w     *world
	lanes map[lane][][]byte
	cuts  map[[2]uint64]cut
	// loss is how many of a thousand messages are lost on an open link.
	loss int
	// delay is the longest time that a message is on its way.
	delay time.Duration
}

func (n *network) state(from, to uint64) cut { return n.cuts[[2]uint64{from, to}] }

// port is one process's Transport.
type port struct {
	n *network
	p *process
}

// Send implements ensemble.Transport.
func (t port) Send(to uint64, message []byte, urgent bool) {
	n, from := t.n, t.p.box.id
	if t.p.dead {
		return
	}
	lost := n.state(from, to) == lossy || n.w.rand().IntN(1000) < n.loss
	n.w.trace("link %d to %d %d bytes urgent %v lost %v", from, to, len(message), urgent, lost)
	if lost {
		if n.w.rand().IntN(2) == 0 {
			n.w.sched.After(n.latency(), "lost", func() {
				if !t.p.dead {
					t.p.ensemble.Unreachable(to)
				}
			})
		}
		return
	}
	l := lane{from, to, urgent}
	n.lanes[l] = append(n.lanes[l], message)
	n.w.sched.After(n.latency(), "link", func() { n.arrive(l) })
}

func (n *network) latency() time.Duration {
	return 50*time.Microsecond + time.Duration(n.w.rand().Int64N(int64(n.delay)))
}

// arrive brings the next message of a lane.
func (n *network) arrive(l lane) {
	if len(n.lanes[l]) == 0 {
		return
	}
	if n.state(l.from, l.to) == held || n.w.boxes[l.to].paused {
		n.w.sched.After(5*time.Millisecond, "link", func() { n.arrive(l) })
		return
	}
	message := n.lanes[l][0]
	n.lanes[l] = n.lanes[l][1:]
	p := n.w.boxes[l.to].proc
	if p == nil || n.state(l.from, l.to) == lossy {
		return
	}
	if err := p.ensemble.Receive(l.from, message); err != nil && !harmless(err) {
		n.w.failf("box %d does not take a message of box %d: %v", l.to, l.from, err)
	}
}

// harmless are errors of a box that is busy or at its end.
func harmless(err error) bool {
	return errors.Is(err, ensemble.ErrFull) || errors.Is(err, ensemble.ErrClosed) || errors.Is(err, ensemble.ErrFailed)
}

// forget loses what a dead process had sent, before its successor sends.
func (n *network) forget(from uint64) {
	for l := range n.lanes {
		if l.from == from {
			delete(n.lanes, l)
		}
	}
}

// reached is the process at the other end, if there is one and a message gets through now.
func (n *network) reached(from, to uint64) *process {
	if n.state(from, to) != open {
		return nil
	}
	return n.w.boxes[to].proc
}

// SendSnapshot implements ensemble.Transport.
func (t port) SendSnapshot(to, index uint64, message []byte) {
	n := t.n
	if t.p.dead {
		return
	}
	n.w.sched.After(time.Duration(n.w.rand().Int64N(int64(50*time.Millisecond))), "snapshot", func() {
		if t.p.dead {
			return
		}
		err := n.carry(t.p, to, index, message)
		n.w.trace("snapshot %d from %d to %d: %v", index, t.p.box.id, to, err)
		t.p.ensemble.SnapshotSent(to, err == nil)
	})
}

func (n *network) carry(from *process, to, index uint64, message []byte) error {
	p := n.reached(from.box.id, to)
	if p == nil || p.box.paused {
		return errRefused
	}
	src, err := from.ensemble.OpenSnapshot(index)
	if err != nil {
		return fmt.Errorf("open: %w", errRefused) // a newer one has taken its place
	}
	defer src.Close()
	n.w.snapshots++
	if err := p.ensemble.ReceiveSnapshot(from.box.id, message, src.Size, src); err != nil {
		if !harmless(err) && !p.faulty() {
			n.w.failf("box %d does not take the snapshot %d of box %d: %v", to, index, from.box.id, err)
		}
		return errRefused
	}
	return nil
}

// ask is a process's Deps.Ask.
func (n *network) ask(p *process, to uint64, question []byte, done func([]byte, error)) {
	from := p.box.id
	refuse := func() { n.w.sched.After(n.latency(), "no answer", func() { done(nil, errRefused) }) }
	n.w.sched.After(n.latency(), "question", func() {
		other := n.reached(from, to)
		if other == nil || p.dead {
			refuse()
			return
		}
		other.ensemble.Answer(from, question, func(answer []byte) {
			if answer == nil || n.state(to, from) != open {
				refuse()
				return
			}
			n.w.sched.After(n.latency(), "answer", func() { done(answer, nil) })
		})
	})
}

// gone tells the others that a box's connections ended.
func (n *network) gone(box uint64) {
	for _, id := range n.w.ids {
		b := n.w.boxes[id]
		if id == box || b.proc == nil {
			continue
		}
		p := b.proc
		n.w.sched.After(n.latency(), "gone", func() {
			if !p.dead && n.state(box, id) == open {
				p.ensemble.Gone(box)
			}
		})
	}
}
