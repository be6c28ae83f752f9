package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// QuestionBytesMax bounds a question and its answer: anybody who reaches the door may ask.
const QuestionBytesMax = 64 << 10

// askTimeout is how long a question and its answer may take.
const askTimeout = 5 * time.Second

var errNoAnswer = errors.New("no answer")

// Ask puts a question to another box and returns its answer. It blocks for seconds at most: the caller gives it a goroutine.
func (l *Link) Ask(p Protocol, to uint64, question []byte) ([]byte, error) {
	l.mu.Lock()
	address, closed := l.peers[to], l.closed
	l.mu.Unlock()
	if address == "" || closed {
		return nil, fmt.Errorf("ask box %d: %w", to, ErrClosed)
	}
	c, err := l.dialPatiently(laneID{to, p, kindAsk}, address)
	if err != nil {
		return nil, fmt.Errorf("ask box %d at %s: %w", to, address, err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(askTimeout))
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(question))), question...)); err != nil {
		return nil, fmt.Errorf("ask box %d at %s: %w", to, address, err)
	}
	b, err := readMessage(c, QuestionBytesMax)
	if err == nil && b == nil {
		err = errNoAnswer
	}
	if err != nil {
		return nil, fmt.Errorf("ask box %d at %s: %w", to, address, err)
	}
	return b, nil
}

// serveQuestion answers one question.
func (l *Link) serveQuestion(c net.Conn, h hello) {
	_ = c.SetDeadline(time.Now().Add(askTimeout))
	question, err := readMessage(c, QuestionBytesMax)
	if err != nil {
		return
	}
	answer := l.handlers[h.protocol].Ask(h.from, question)
	if len(answer) > QuestionBytesMax {
		answer = nil
	}
	_, _ = c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...))
}
