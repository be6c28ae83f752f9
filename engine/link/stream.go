package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// stalling ends a connection on which nothing moves.
type stalling struct{ net.Conn }

func (s stalling) Read(b []byte) (int, error) {
	_ = s.SetReadDeadline(time.Now().Add(streamStallMax))
	return s.Conn.Read(b)
}

func (s stalling) Write(b []byte) (int, error) {
	_ = s.SetWriteDeadline(time.Now().Add(streamStallMax))
	return s.Conn.Write(b)
}

// takenMax is how long the other box may take to make use of a stream after its last byte.
const takenMax = 2 * time.Minute

func (l *Link) stream(p Protocol, to uint64, address string, head []byte, size int64, r io.Reader) error {
	c, err := l.dialPatiently(laneID{to, p, kindStream}, address)
	if err != nil {
		return err
	}
	defer c.Close()
	b := binary.BigEndian.AppendUint32(nil, uint32(len(head)))
	b = binary.BigEndian.AppendUint64(append(b, head...), uint64(size))
	if _, err := (stalling{c}).Write(b); err != nil {
		return err
	}
	n, err := io.CopyBuffer(stalling{c}, io.LimitReader(r, size), make([]byte, 256<<10))
	if err != nil {
		return err
	}
	if n < size {
		return fmt.Errorf("it ends after %d bytes: %w", n, io.ErrUnexpectedEOF)
	}
	_ = c.SetReadDeadline(time.Now().Add(takenMax))
	var answer [1]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	if answer[0] != 0 {
		return errors.New("the other box did not take it; its log says why")
	}
	return nil
}

// serveStream hands a stream to its handler.
func (l *Link) serveStream(c net.Conn, h hello) {
	answer := byte(0)
	if err := l.takeStream(stalling{c}, h); err != nil {
		l.deps.Observer.Log.Warn("stream of another box not taken", "box", h.from, "error", err)
		answer = answerRefused
	}
	_, _ = stalling{c}.Write([]byte{answer})
}

func (l *Link) takeStream(c net.Conn, h hello) error {
	head, err := readMessage(c, l.cfg.MessageBytesMax)
	if err != nil {
		return err
	}
	var b [8]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint64(b[:])
	if size > uint64(l.cfg.StreamBytesMax) {
		return fmt.Errorf("a stream of %d bytes, at most %d", size, l.cfg.StreamBytesMax)
	}
	return l.handlers[h.protocol].Stream(h.from, head, int64(size), io.LimitReader(c, int64(size)))
}
