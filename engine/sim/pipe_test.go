package sim

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// pipeBytesMax is how much a server may write before its client's side takes it, as a socket's buffer.
const pipeBytesMax = 256 << 10

// pipe is a process's end of a connection. The world moves bytes in and out of it; the server's goroutines
// wait at it, durably in the eyes of synctest.
type pipe struct {
	remote netip.AddrPort
	local  netip.AddrPort

	mu          sync.Mutex // protects what follows; nothing is called while it is held
	changed     sync.Cond
	in, out     []byte
	eof, closed bool
	read, write deadline
}

// deadline is one direction's.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newPipe(remote netip.AddrPort) *pipe {
	p := &pipe{remote: remote}
	p.changed.L = &p.mu
	return p
}

// deliver gives the server bytes, or the end of them.
func (p *pipe) deliver(b []byte, eof bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in = append(p.in, b...)
	p.eof = p.eof || eof
	p.changed.Broadcast()
}

// take takes what the server has written, and tells whether it has closed its end.
func (p *pipe) take() (b []byte, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, p.out = p.out, nil
	if b != nil {
		p.changed.Broadcast()
	}
	return b, p.closed
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// Read implements net.Conn.
func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return 0, net.ErrClosed
		case p.read.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p.in) > 0:
			n := copy(b, p.in)
			p.in = p.in[n:]
			return n, nil
		case p.eof:
			return 0, errReset
		}
		p.changed.Wait()
	}
}

// Write implements net.Conn.
func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return 0, net.ErrClosed
		case p.write.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p.out) < pipeBytesMax:
			p.out = append(p.out, b...)
			return len(b), nil
		}
		p.changed.Wait()
	}
}

// Close implements net.Conn.
func (p *pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, d := range []*deadline{&p.read, &p.write} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
	p.changed.Broadcast()
	return nil
}

// CloseWrite is what zkserver lingers with.
func (p *pipe) CloseWrite() error { return nil }

func (p *pipe) set(d *deadline, at time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	if wait := time.Until(at); !at.IsZero() && wait > 0 && !p.closed {
		d.timer = time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.changed.Broadcast()
		})
	}
	p.changed.Broadcast()
}

// SetDeadline implements net.Conn.
func (p *pipe) SetDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(&p.read, t)
	p.set(&p.write, t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (p *pipe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(&p.read, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (p *pipe) SetWriteDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(&p.write, t)
	return nil
}

// LocalAddr implements net.Conn.
func (p *pipe) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(p.local) }

// RemoteAddr implements net.Conn.
func (p *pipe) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.remote) }
