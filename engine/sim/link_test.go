package sim

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"cairn/engine/ensemble"
	boxlink "cairn/engine/link"
)

// link is one process's end of the network: node.Link, with the promises of link.Link. What blocks there blocks here, in a
// goroutine of whoever asks, until the world has done its part.
type link struct {
	n   *network
	p   *process
	cfg boxlink.Config

	handlers map[boxlink.Protocol]boxlink.Handler
	running  sync.WaitGroup // handlers that may block
	started  bool
	closed   bool
}

func newLink(n *network, p *process, cfg boxlink.Config) *link {
	return &link{n: n, p: p, cfg: cfg, handlers: map[boxlink.Protocol]boxlink.Handler{}}
}

// alive tells whether anything still reaches the process, or comes from it.
func (l *link) alive() bool { return l.started && !l.closed && !l.p.dead }

// Handle implements node.Link.
func (l *link) Handle(p boxlink.Protocol, h boxlink.Handler) { l.handlers[p] = h }

// Listen implements node.Link.
func (l *link) Listen() error { return nil }

// Start implements node.Link.
func (l *link) Start() { l.started = true }

// SetPeers implements node.Link: nobody's address changes here.
func (l *link) SetPeers(map[uint64]string) {}

// Send implements node.Link.
func (l *link) Send(p boxlink.Protocol, to uint64, message []byte, urgent bool) {
	l.n.w.sched.Pass()
	defer l.n.w.sched.Pass()
	if l.alive() {
		l.n.send(l.p, lane{l.p.box.id, to, p, urgent}, message)
	}
}

func (l *link) message(at lane, b []byte) {
	if l.alive() {
		l.handlers[at.protocol].Message(at.from, b)
	}
}

func (l *link) lost(at lane) {
	if l.alive() {
		l.handlers[at.protocol].Lost(at.to, at.urgent)
	}
}

func (l *link) gone(box uint64) {
	if !l.alive() {
		return
	}
	for _, p := range []boxlink.Protocol{boxlink.Raft, boxlink.Broker} {
		if h := l.handlers[p]; h != nil {
			h.Gone(box)
		}
	}
}

// handler is the room at the other end, with the link that it is on, if it is reached now.
func (l *link) handler(p boxlink.Protocol, to uint64) (*link, boxlink.Handler) {
	if !l.alive() {
		return nil, nil
	}
	other := l.n.reached(l.p.box.id, to)
	if other == nil || !other.link.alive() || l.n.state(to, l.p.box.id) != open {
		return nil, nil
	}
	return other.link, other.link.handlers[p]
}

// wait is the world's part of a call that blocks: after a while do is run, and reply is what the caller waits for.
func wait[T any](l *link, name string, most time.Duration, do func(reply func(T))) T {
	answered := make(chan T, 1)
	w := l.n.w
	w.sched.Pass() // it may be a goroutine of the process
	w.sched.After(w.net.latency()+time.Duration(w.rand().Int64N(int64(most))), name, func() { do(func(v T) { answered <- v }) })
	return <-answered
}

// Stream implements node.Link.
func (l *link) Stream(p boxlink.Protocol, to uint64, head []byte, size int64, r io.Reader) error {
	return wait(l, "stream", 50*time.Millisecond, func(reply func(error)) {
		other, h := l.handler(p, to)
		if h == nil {
			reply(errRefused)
			return
		}
		err := h.Stream(l.p.box.id, head, size, r)
		l.n.w.trace("stream of %d bytes from %d to %d: %v", size, l.p.box.id, to, err)
		if l.n.w.snapshots++; err != nil && !harmless(err) && !other.p.faulty() {
			l.n.w.failf("box %d does not take a stream of box %d: %v", to, l.p.box.id, err)
		}
		reply(err)
	})
}

// silence is how long a caller waits for who does not answer.
const silence = time.Second

// Ask implements node.Link.
func (l *link) Ask(p boxlink.Protocol, to uint64, question []byte) ([]byte, error) {
	type answer struct {
		b   []byte
		err error
	}
	w := l.n.w
	a := wait(l, "question", time.Millisecond, func(reply func(answer)) {
		refuse := func(after time.Duration) {
			w.sched.After(after, "no answer", func() { reply(answer{nil, errRefused}) })
		}
		other, h := l.handler(p, to)
		switch {
		case h != nil:
			other.running.Go(func() {
				b := h.Ask(l.p.box.id, question)
				w.sched.Pass()
				defer w.sched.Pass()
				if b == nil || l.n.state(to, l.p.box.id) != open || !other.alive() {
					refuse(silence)
					return
				}
				w.sched.After(l.n.latency(), "answer", func() { reply(answer{b, nil}) })
			})
		case w.boxes[to].proc == nil && l.n.state(l.p.box.id, to) == open:
			refuse(0)
		default:
			refuse(silence)
		}
	})
	if a.err != nil {
		return nil, fmt.Errorf("ask box %d: %w", to, a.err)
	}
	return a.b, nil
}

// Open implements node.Link.
func (l *link) Open(p boxlink.Protocol, to uint64) (net.Conn, error) {
	type opened struct {
		conn net.Conn
		err  error
	}
	o := wait(l, "dial", time.Millisecond, func(reply func(opened)) {
		other, h := l.handler(p, to)
		if h == nil {
			after := time.Duration(0)
			if l.n.w.boxes[to].proc != nil {
				after = silence
			}
			l.n.w.sched.After(after, "no connection", func() { reply(opened{nil, errRefused}) })
			return
		}
		c := newCable(l.n, l.p, other.p)
		l.n.cables = append(l.n.cables, c)
		other.running.Go(func() {
			h.Pipe(l.p.box.id, c.ends[1].pipe)
			_ = c.ends[1].pipe.Close()
		})
		reply(opened{c.ends[0].pipe, nil})
	})
	return o.conn, o.err
}

// Close implements node.Link.
func (l *link) Close() error {
	l.n.w.sched.Pass()
	l.closed = true
	l.n.unplug(l.p)
	l.n.w.sched.Pass()
	l.running.Wait()
	return nil
}

// harmless are errors of a box that is busy or at its end.
func harmless(err error) bool {
	return errors.Is(err, errRefused) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, ensemble.ErrFull) || errors.Is(err, ensemble.ErrClosed) || errors.Is(err, ensemble.ErrFailed)
}

// boxAddress is where a box speaks to others.
func boxAddress(id uint64) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(id)}), 2888)
}
