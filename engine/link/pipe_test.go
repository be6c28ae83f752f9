package link

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// open opens a pipe and reads what the other side says first.
func open(t *testing.T, l *Link, to uint64, greeting string) net.Conn {
	t.Helper()
	c, err := l.Open(Raft, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, len(greeting))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != greeting {
		t.Fatalf("%q, %v", b, err)
	}
	return c
}

// A pipe carries bytes both ways, as they are, beside the lanes, and ends with either side, the link, or the membership.
func TestPipes(t *testing.T) {
	a, b, _, roomB := pair(t)
	c := open(t, a, 2, "hello 1;")
	big := make([]byte, 4<<20)
	for i := range big {
		big[i] = byte(i * i >> 8)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(big)
		wrote <- err
	}()
	back := make([]byte, len(big))
	if _, err := io.ReadFull(c, back); err != nil || string(back) != string(big) {
		t.Fatalf("%v, the same: %v", err, string(back) == string(big))
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if err := open(t, a, 2, "hello 1;").Close(); err != nil {
		t.Fatal(err)
	}
	open(t, a, 2, "hello 1;")
	a.Send(Raft, 2, []byte("beside"), false)
	eventually(t, "a message passes beside the pipe", func() bool { return roomB.see(func(r *room) bool { return len(r.got) == 1 }) })
	if roomB.see(func(r *room) bool { return r.gone > 0 }) {
		t.Fatal("a pipe's end was taken for its box's")
	}

	if _, err := a.Open(Raft, 9); !errors.Is(err, ErrClosed) {
		t.Fatalf("a box that is not known: %v", err)
	}
	cfg := testConfig(3)
	cfg.Peers = map[uint64]string{2: b.Address().String()}
	stranger := begin(t, cfg, &room{})
	stranger.Start()
	if _, err := stranger.Open(Raft, 2); !errors.Is(err, verdictUnknown) {
		t.Fatalf("a stranger's pipe: %v", err)
	}

	end := func(c net.Conn, what string) {
		t.Helper()
		if n, err := c.Read(back); err == nil {
			t.Fatalf("%s: %d bytes more", what, n)
		} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			t.Fatalf("%s: the pipe lasts", what)
		}
	}
	b.SetPeers(map[uint64]string{})
	end(c, "the box is no peer any more")
	b.SetPeers(map[uint64]string{1: a.Address().String()})
	up(t, b, 1)
	c = open(t, b, 1, "hello 2;")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	end(c, "the link is closed")
}
