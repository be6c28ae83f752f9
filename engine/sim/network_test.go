package sim

import (
	"slices"
	"time"

	boxlink "cairn/engine/link"
)

// lane is the messages of one kind from one box to another, in order.
type lane struct {
	from, to uint64
	protocol boxlink.Protocol
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
	loss   int
	cables []*cable
	// delay is the longest time that a message is on its way.
	delay time.Duration
}

func (n *network) state(from, to uint64) cut { return n.cuts[[2]uint64{from, to}] }

func (n *network) latency() time.Duration {
	return 50*time.Microsecond + time.Duration(n.w.rand().Int64N(int64(n.delay)))
}

// send puts a message on its way, or loses it.
func (n *network) send(from *process, l lane, message []byte) {
	lost := n.state(l.from, l.to) == lossy || n.w.rand().IntN(1000) < n.loss
	n.w.trace("link %d to %d protocol %d %d bytes urgent %v lost %v", l.from, l.to, l.protocol, len(message), l.urgent, lost)
	if lost {
		if n.w.rand().IntN(2) == 0 {
			n.w.sched.After(n.latency(), "lost", func() { from.link.lost(l) })
		}
		return
	}
	n.lanes[l] = append(n.lanes[l], message)
	n.w.sched.After(n.latency(), "link", func() { n.arrive(l) })
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
	if p := n.w.boxes[l.to].proc; p != nil && n.state(l.from, l.to) != lossy {
		p.link.message(l, message)
	}
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
	if n.state(from, to) != open || n.w.boxes[to].paused {
		return nil
	}
	return n.w.boxes[to].proc
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
			if n.state(box, id) == open {
				p.link.gone(box)
			}
		})
	}
}

// ended is the end of a process. told: its kernel says so to the others.
func (n *network) ended(p *process, told bool) {
	for _, c := range n.cables {
		c.ended(p, told)
	}
	if told {
		n.gone(p.box.id)
	}
}

// collect sends on what the processes have written on cables. It is called when all goroutines are still.
func (n *network) collect() {
	for _, c := range n.cables {
		c.collect()
	}
	n.cables = slices.DeleteFunc(n.cables, (*cable).over)
}
