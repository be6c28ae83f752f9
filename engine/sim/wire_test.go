package sim

import (
	"errors"
	"io"
	"net/netip"
	"time"
)

// errReset is what a server reads when its client is gone.
var errReset = io.EOF

var errRefused = errors.New("connection refused")

// wire is one connection of a client to a box, with the bytes that are on their way.
type wire struct {
	w      *world
	id     int
	client user
	box    *box
	proc   *process // at the other end
	pipe   *pipe
	// up and down are chunks on their way to the server and to the client; nil is the end of the stream.
	up, down [][]byte
	// stalled: nothing arrives on either side until it ends, as on a link that lost its carrier.
	stalled bool
	// serverGone: the process at the other end is dead, or has closed its end and that is on its way.
	serverGone bool
	// clientGone: the client has closed its end, or was told of the server's.
	clientGone bool
}

// user is whose connection a wire is.
type user interface {
	// label names it in traces, and from is its address.
	label() string
	from() netip.AddrPort
	// receive takes what the server has sent, lost is told once that the connection has ended.
	receive(x *wire, b []byte)
	lost(x *wire, why string)
	// drop has it give the connection up.
	drop(why string)
}

// dial connects somebody to a box, if there is a process that listens on the port.
func (w *world) dial(c user, b *box, port int) (*wire, error) {
	if b.proc == nil || b.paused {
		return nil, errRefused
	}
	w.wireCount++
	x := &wire{w: w, id: w.wireCount, client: c, box: b, proc: b.proc, pipe: newPipe(c.from())}
	d := b.proc.doors[port]
	if d == nil {
		return nil, errRefused
	}
	if err := d.connect(x.pipe); err != nil {
		return nil, err
	}
	w.wires = append(w.wires, x)
	return x, nil
}

// latency is how long a chunk is on its way.
func (x *wire) latency() time.Duration {
	return time.Duration(x.w.rand().Int64N(int64(2 * time.Millisecond)))
}

// send is the client's: bytes for the server.
func (x *wire) send(b []byte) {
	if x.clientGone {
		return
	}
	x.w.trace("wire %d %s sends %d bytes %x", x.id, x.client.label(), len(b), sum(b))
	x.up = append(x.up, b)
	x.w.sched.After(x.latency(), "up", x.arriveUp)
}

// hangUp is the client's: it closes its end.
func (x *wire) hangUp() {
	if x.clientGone {
		return
	}
	x.clientGone = true
	x.down = nil
	x.up = append(x.up, nil)
	x.w.sched.After(x.latency(), "up", x.arriveUp)
}

// arriveUp brings the next chunk to the server.
func (x *wire) arriveUp() {
	if x.serverGone || len(x.up) == 0 {
		return
	}
	if x.stalled || x.box.paused {
		x.w.sched.After(5*time.Millisecond, "up", x.arriveUp)
		return
	}
	b := x.up[0]
	x.up = x.up[1:]
	x.w.trace("wire %d box %d reads %d bytes", x.id, x.box.id, len(b))
	x.pipe.deliver(b, b == nil)
}

// collect sends on what the server has written. It is called when all goroutines are still.
func (x *wire) collect() {
	if x.serverGone {
		return
	}
	b, closed := x.pipe.take()
	if len(b) > 0 && !x.clientGone {
		x.w.trace("wire %d box %d sends %d bytes %x", x.id, x.box.id, len(b), sum(b))
		x.down = append(x.down, b)
		x.w.sched.After(x.latency(), "down", x.arriveDown)
	}
	if closed {
		x.end()
	}
}

// end is the end of what the server sends.
func (x *wire) end() {
	x.serverGone = true
	x.down = append(x.down, nil)
	x.w.sched.After(x.latency(), "down", x.arriveDown)
}

// arriveDown brings the next chunk to the client.
func (x *wire) arriveDown() {
	if x.clientGone || len(x.down) == 0 {
		return
	}
	if x.stalled {
		x.w.sched.After(5*time.Millisecond, "down", x.arriveDown)
		return
	}
	b := x.down[0]
	x.down = x.down[1:]
	x.w.trace("wire %d %s reads %d bytes", x.id, x.client.label(), len(b))
	if b == nil {
		x.clientGone = true
		x.client.lost(x, "the server closed the connection")
		return
	}
	x.client.receive(x, b)
}

// crash is the end of the server's process. Of what it had sent, a part arrives. A killed process leaves a kernel that
// says so; after a power cut nobody says anything.
func (x *wire) crash(told bool) {
	if x.serverGone {
		return
	}
	x.collect()
	if len(x.down) > 0 {
		keep := x.w.rand().IntN(len(x.down) + 1)
		if x.down = x.down[:keep]; keep > 0 {
			last := x.down[keep-1]
			x.down[keep-1] = last[:x.w.rand().IntN(len(last)+1):len(last)]
			if len(x.down[keep-1]) == 0 {
				x.down = x.down[:keep-1]
			}
		}
	}
	x.serverGone = true
	x.pipe.deliver(nil, true)
	if told {
		x.end()
	}
}

// over tells whether nothing can come of the wire any more.
func (x *wire) over() bool { return x.clientGone && x.serverGone }
