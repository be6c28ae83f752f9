package sim

import (
	"net"
	"net/netip"
)

// The ports of a box's doors.
const (
	zookeeperPort = 2181
	kafkaPort     = 9092
)

// backlogMax is how many connections wait to be accepted.
const backlogMax = 128

// door is a listener in the world.
type door struct {
	address netip.AddrPort
	backlog chan *pipe
	closed  chan struct{}
}

// listen is the process's Deps.Listen.
func (p *process) listen(_, address string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	d := &door{address: at, backlog: make(chan *pipe, backlogMax), closed: make(chan struct{})}
	p.doors[int(at.Port())] = d
	return d, nil
}

// connect puts a connection before the door.
func (d *door) connect(p *pipe) error {
	select {
	case <-d.closed:
		return errRefused
	default:
	}
	p.local = d.address
	select {
	case d.backlog <- p:
		return nil
	default:
		return errRefused
	}
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	select {
	case <-d.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case p := <-d.backlog:
		return p, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (d *door) Close() error {
	select {
	case <-d.closed:
	default:
		close(d.closed)
	}
	return nil
}

// Addr implements net.Listener.
func (d *door) Addr() net.Addr { return net.TCPAddrFromAddrPort(d.address) }
