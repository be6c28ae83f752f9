package link

import (
	"errors"
	"strings"
	"testing"
)

// Whoever reaches the door may ask; only peers may do more.
func TestAStrangerMayAsk(t *testing.T) {
	_, b, _, roomB := pair(t)
	cfg := testConfig(3)
	cfg.Peers = map[uint64]string{2: b.Address().String()}
	stranger := begin(t, cfg, &room{})
	stranger.Start()
	answer, err := stranger.Ask(Raft, 2, []byte("who I am"))
	if err != nil || string(answer) != "box 3 asked who I am" {
		t.Fatalf("%q, %v", answer, err)
	}
	if _, err := stranger.Ask(Raft, 2, []byte("silence")); !errors.Is(err, errNoAnswer) {
		t.Fatalf("a box that does not answer: %v", err)
	}
	if _, err := stranger.Ask(Raft, 9, nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("a box that is not known: %v", err)
	}
	if err := stranger.Stream(Raft, 2, nil, 1, strings.NewReader("x")); !errors.Is(err, verdictUnknown) {
		t.Fatalf("a stranger's stream: %v", err)
	}
	if roomB.see(func(r *room) bool { return len(r.streams)+len(r.got) > 0 }) {
		t.Fatal("a stranger's message came through")
	}
}

// Peers come, change their address, and go.
func TestPeersChange(t *testing.T) {
	a, b, roomA, roomB := pair(t)
	third := &room{}
	cfg := testConfig(3)
	cfg.Peers = map[uint64]string{1: a.Address().String()}
	c := begin(t, cfg, third)
	c.Start()
	a.SetPeers(map[uint64]string{2: b.Address().String(), 3: c.Address().String()})
	up(t, a, 3)
	up(t, c, 1)
	a.Send(Raft, 3, []byte("welcome"), false)
	eventually(t, "the third is reached", func() bool { return third.see(func(r *room) bool { return len(r.got) == 1 }) })

	gone := roomA.see(func(r *room) bool { return r.gone > 0 })
	if gone {
		t.Fatal("nobody has gone")
	}
	a.SetPeers(map[uint64]string{3: c.Address().String()})
	eventually(t, "the second's connections end", func() bool {
		return roomA.see(func(r *room) bool { return r.gone > 0 }) && roomB.see(func(r *room) bool { return r.gone > 0 })
	})
	if err := a.Stream(Raft, 2, nil, 1, strings.NewReader("x")); !errors.Is(err, ErrClosed) {
		t.Fatalf("a stream to one that is no peer any more: %v", err)
	}

	moved := testConfig(3)
	moved.Peers = cfg.Peers
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	again := &room{}
	d := begin(t, moved, again)
	d.Start()
	a.SetPeers(map[uint64]string{3: d.Address().String()})
	up(t, a, 3)
	a.Send(Raft, 3, []byte("at the new place"), true)
	eventually(t, "it is reached at its new address", func() bool { return again.see(func(r *room) bool { return len(r.got) == 1 }) })
}
