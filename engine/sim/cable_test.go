package sim

import "time"

// cable is one connection between two boxes. What is on its way on a link that is cut waits until it is open again, as TCP's
// repetitions do.
type cable struct {
	n    *network
	ends [2]*plug // of who dialled, of who was dialled
}

// plug is one end of a cable.
type plug struct {
	p      *process
	pipe   *pipe
	coming [][]byte // chunks on their way here; nil is the end of the stream
	// hung: its process has closed it, and the other end is told, or its process is dead.
	hung bool
}

func newCable(n *network, from, to *process) *cable {
	c := &cable{n: n}
	for i, p := range []*process{from, to} {
		c.ends[i] = &plug{p: p, pipe: newPipe(boxAddress([]uint64{to.box.id, from.box.id}[i]))}
		c.ends[i].pipe.local = boxAddress(p.box.id)
	}
	return c
}

func (c *cable) collect() {
	for i, e := range c.ends {
		if e.hung {
			continue
		}
		b, closed := e.pipe.take()
		if len(b) > 0 {
			c.n.w.trace("cable box %d to %d %d bytes %x", e.p.box.id, c.ends[1-i].p.box.id, len(b), sum(b))
			c.put(1-i, b)
		}
		if closed {
			e.hung = true
			c.put(1-i, nil)
		}
	}
}

// put puts a chunk on its way to an end.
func (c *cable) put(to int, b []byte) {
	c.ends[to].coming = append(c.ends[to].coming, b)
	c.n.w.sched.After(c.n.latency(), "cable", func() { c.arrive(to) })
}

func (c *cable) arrive(to int) {
	e, from := c.ends[to], c.ends[1-to]
	if e.p.dead || len(e.coming) == 0 {
		return
	}
	if c.n.state(from.p.box.id, e.p.box.id) != open || e.p.box.paused {
		c.n.w.sched.After(5*time.Millisecond, "cable", func() { c.arrive(to) })
		return
	}
	b := e.coming[0]
	e.coming = e.coming[1:]
	c.n.w.trace("cable box %d reads %d bytes", e.p.box.id, len(b))
	e.pipe.deliver(b, b == nil)
}

// ended is the end of a process. A killed one leaves a kernel that says so; after a power cut nobody says anything.
func (c *cable) ended(p *process, told bool) {
	for i, e := range c.ends {
		if e.p != p || e.hung {
			continue
		}
		if told {
			c.collect()
		}
		if !e.hung && told {
			c.put(1-i, nil)
		}
		e.hung = true
		e.pipe.deliver(nil, true)
	}
}

// unplug closes all cables of a process that goes.
func (n *network) unplug(p *process) {
	for _, c := range n.cables {
		for _, e := range c.ends {
			if e.p == p {
				_ = e.pipe.Close()
			}
		}
	}
}

// over tells whether nothing can come of the cable any more.
func (c *cable) over() bool { return c.ends[0].hung && c.ends[1].hung }
