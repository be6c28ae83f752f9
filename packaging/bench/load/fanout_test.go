package load

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"cairn/packaging/bench/frames"
)

// board is a server with one znode that answers every request and sends events, at most so many in a round.
type board struct {
	mu       sync.Mutex // protects what follows
	watching []net.Conn
	eventMax int
}

func (b *board) serve(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.client(c)
		}
	}()
	return l.Addr().String()
}

func (b *board) client(c net.Conn) {
	defer c.Close()
	if _, err := ReadFrame(c, nil); err != nil {
		return
	}
	connected := make([]byte, 4+37)
	connected[3], connected[19] = 37, 1
	_, _ = c.Write(connected)
	for {
		request, err := ReadFrame(c, nil)
		if err != nil {
			return
		}
		b.take(c, request)
	}
}

func (b *board) take(c net.Conn, request []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	reply := make([]byte, frames.GetDataReplyBytes(1))
	reply[3] = byte(len(reply) - 4)
	frames.SetCorrelation(reply, frames.XID(request))
	if binary.BigEndian.Uint32(request[8:]) == 4 {
		b.watching = append(b.watching, c)
	} else {
		event := make([]byte, 40)
		event[3] = 36
		frames.SetCorrelation(event, 0xffffffff)
		for _, w := range b.watching[:min(len(b.watching), b.eventMax)] {
			_, _ = w.Write(event)
		}
		b.watching = nil
	}
	_, _ = c.Write(reply)
}

func TestFanOutHearsEveryEvent(t *testing.T) {
	marks := 0
	b := &board{eventMax: 1000}
	plan := FanOut{Addresses: []string{b.serve(t)}, Path: "/w", Data: []byte("x"), Watchers: 60, Rounds: 5, Mark: func(bool) { marks++ }}
	result, err := RunFanOut(context.Background(), plan)
	if err != nil || result.Events != 300 || result.LastP50 == 0 || result.LastMax < result.EventP50/2 || marks != 2 {
		t.Fatalf("%+v, %d marks, error %v", result, marks, err)
	}
}

func TestFanOutFailsWhenItsContextEnds(t *testing.T) {
	b := &board{eventMax: 3}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	plan := FanOut{Addresses: []string{b.serve(t)}, Path: "/w", Data: []byte("x"), Watchers: 5, Rounds: 1}
	if _, err := RunFanOut(ctx, plan); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v, though two of five watchers were never told", err)
	}
}
