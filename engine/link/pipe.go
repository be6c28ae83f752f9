package link

import (
	"fmt"
	"net"
)

// Open opens a connection of its own to a room of another box, on which the two rooms speak what they like. It blocks for
// a second or two at most: the caller gives it a goroutine. The connection is the caller's, who closes it; the link watches
// over neither its silence nor its end.
func (l *Link) Open(p Protocol, to uint64) (net.Conn, error) {
	l.mu.Lock()
	address, closed := l.peers[to], l.closed
	l.mu.Unlock()
	if address == "" || closed {
		return nil, fmt.Errorf("open a connection to box %d: %w", to, ErrClosed)
	}
	c, err := l.dialPatiently(laneID{to, p, kindPipe}, address)
	if err != nil {
		return nil, fmt.Errorf("open a connection to box %d at %s: %w", to, address, err)
	}
	return c, nil
}

// servePipe hands a connection to its room until that is done with it. It is closed with the link, or when the box is no peer
// any more.
func (l *Link) servePipe(in *incoming, h hello) {
	l.mu.Lock()
	peer := l.peers[h.from] != ""
	in.id = laneID{h.from, h.protocol, h.kind}
	l.mu.Unlock()
	if peer {
		l.handlers[h.protocol].Pipe(h.from, in.conn)
	}
}
