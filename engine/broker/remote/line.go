package remote

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"cairn/engine/broker/fetcher"
)

// line is one connection with its fetch session. The caller's goroutine writes questions, another reads the answers, which
// come in the same order.
type line struct {
	cfg     Config
	conn    net.Conn
	stop    func() bool
	session session
	asked   chan call    // in order; closed by close
	onWay   atomic.Int32 // questions that are not answered
	failed  atomic.Bool
	over    chan struct{} // closed when the reader has ended
}

// broken reports whether the connection has ended. A nil line has not begun.
func (l *line) broken() bool { return l != nil && l.failed.Load() }

// waits reports whether something is on its way.
func (l *line) waits() bool { return l != nil && l.onWay.Load() > 0 }

// close ends the connection, and returns when all that was asked has been answered. A nil line has nothing to end.
func (l *line) close() {
	if l == nil {
		return
	}
	l.stop()
	_ = l.conn.Close()
	close(l.asked)
	<-l.over
}

// ask writes a question.
func (l *line) ask(c call) {
	frame := l.session.request(c.q)
	l.onWay.Add(1)
	l.asked <- c
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.cfg.Timeout))
	if _, err := l.conn.Write(frame); err != nil {
		_ = l.conn.Close() // the reader says so
	}
}

// read answers what was asked, until close. After an error everything is answered with it.
func (l *line) read() {
	defer close(l.over)
	var failed error
	for c := range l.asked {
		var answers []fetcher.Answer
		if failed == nil {
			answers, failed = l.await(c.q)
		}
		if failed != nil {
			l.failed.Store(true)
			_ = l.conn.Close()
		}
		l.onWay.Add(-1)
		c.done(answers, failed)
	}
}

// await reads the answer to a question.
func (l *line) await(q fetcher.Question) ([]fetcher.Answer, error) {
	_ = l.conn.SetReadDeadline(time.Now().Add(q.Wait + l.cfg.Timeout))
	var length [4]byte
	if _, err := io.ReadFull(l.conn, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if uint64(n) > uint64(l.cfg.FrameBytesMax) {
		return nil, fmt.Errorf("an answer of %d bytes, at most %d", n, l.cfg.FrameBytesMax)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(l.conn, frame); err != nil {
		return nil, err
	}
	return l.session.answer(q, frame)
}
