package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"cairn/engine/ensemble/jute"
)

// errLost is the outcome of a request whose connection ended before its answer: nobody knows.
var errLost = errors.New("the connection was lost")

// replyBytesMax bounds one answer.
const replyBytesMax = 8 << 20

// reply is what came of a request: an answer, or errLost.
type reply struct {
	head jute.ReplyHeader
	body []byte
	err  error
}

// asked is a request that waits for its answer.
type asked struct {
	answer chan reply
	took   func(reply) // nil, or called by the reader, in the order of what has arrived, before answer gets it
}

// conn is one connection of a session. Answers come in the order of the requests, but for those with an xid of their own.
type conn struct {
	nc      net.Conn
	box     int
	session int64
	turn    int // which of the session's connections it is

	mu      sync.Mutex // protects what follows, and the order of what is written
	nextXid int32
	waiting []asked
	over    bool
}

// send writes a request, and gives where its answer will come.
func (c *conn) send(op jute.OpCode, xid int32, body []byte) (<-chan reply, error) {
	return c.ask(op, xid, body, nil)
}

// ask is send with a function that takes the answer on its way; it is not called when there is none.
func (c *conn) ask(op jute.OpCode, xid int32, body []byte, took func(reply)) (<-chan reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil, errLost
	}
	answer := make(chan reply, 1)
	if xid == 0 {
		c.nextXid++
		xid = c.nextXid
		c.waiting = append(c.waiting, asked{answer, took})
	}
	b, start := jute.AppendFrame(nil)
	b = (&jute.RequestHeader{Xid: xid, Op: op}).Append(b)
	b = append(b, body...)
	jute.EndFrame(b, start)
	if _, err := c.nc.Write(b); err != nil {
		_ = c.nc.Close() // the reader sees it, and answers what waits
	}
	return answer, nil
}

// read takes answers until the connection ends or is silent for too long. heard is called with each of them before
// whoever waits for it is answered; fired with each notification.
func (c *conn) read(silence time.Duration, heard func(jute.ReplyHeader), fired func(jute.ReplyHeader, jute.WatcherEvent)) error {
	for {
		b, err := readFrame(c.nc, silence)
		if err != nil {
			return err
		}
		r := jute.NewReader(b)
		var a reply
		a.head.Read(r)
		if r.Err() != nil {
			return fmt.Errorf("an answer of box %d: %w", c.box, r.Err())
		}
		a.body = r.Rest()
		heard(a.head)
		switch a.head.Xid {
		case jute.XidPing, jute.XidAuth, jute.XidSetWatches:
			continue
		case jute.XidNotification:
			var e jute.WatcherEvent
			e.Read(r)
			fired(a.head, e)
			continue
		}
		c.mu.Lock()
		var next asked
		if len(c.waiting) > 0 {
			next, c.waiting = c.waiting[0], c.waiting[1:]
		}
		c.mu.Unlock()
		if next.answer == nil {
			return fmt.Errorf("box %d answers what was not asked, xid %d", c.box, a.head.Xid)
		}
		if next.took != nil {
			next.took(a)
		}
		next.answer <- a
	}
}

// end answers whatever waits.
func (c *conn) end() {
	_ = c.nc.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for _, w := range c.waiting {
		w.answer <- reply{err: errLost}
	}
	c.waiting = nil
}

// readFrame reads a packet, of which the first byte must come within the silence.
func readFrame(nc net.Conn, silence time.Duration) ([]byte, error) {
	if err := nc.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return nil, err
	}
	var length [4]byte
	if _, err := io.ReadFull(nc, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > replyBytesMax {
		return nil, fmt.Errorf("an answer of %d bytes", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(nc, b)
	return b, err
}
