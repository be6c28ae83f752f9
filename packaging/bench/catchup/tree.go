package main

import (
	"context"
	"fmt"
	"time"

	"cairn/packaging/bench/fleet"
	"cairn/packaging/bench/frames"
	"cairn/packaging/bench/load"
)

// tree is what the servers hold.
type tree struct {
	name   string
	znodes uint32
	bytes  int // of data in each
}

// loadZnodes are written to beside a tree whose own znodes are too large for that.
const loadZnodes = 10_000

// written are the znodes that a load writes to.
func (t tree) written() (prefix string, count uint32) {
	if t.bytes == writeBytes {
		return "/tree/n", t.znodes
	}
	return "/load/n", loadZnodes
}

// fillers is how many connections create the znodes.
const fillers = 16

// startPatience is how long servers may take to serve where the time is not what is measured.
const startPatience = 2 * time.Minute

func (b *bench) smallTree() tree { return b.scaled(tree{"small", 1_000_000, 100}) }

// largeTree has the most data that fits ZooKeeper's default jute.maxbuffer with its path and ACL, and still is 1 MB.
func (b *bench) largeTree() tree { return b.scaled(tree{"large", 1000, 1_000_000}) }

func (b *bench) scaled(t tree) tree {
	if b.short {
		t.znodes /= 20
	}
	return t
}

func (t tree) String() string {
	return fmt.Sprintf("%d znodes of %d bytes", t.znodes, t.bytes)
}

// start starts servers and fills their tree, through the one that leads.
func (b *bench) start(dir string, servers int, t tree) (*fleet.Fleet, error) {
	f, err := fleet.New(fleet.Config{Dir: dir, Servers: servers, Program: fleet.Cairn(b.cairn)})
	if err != nil {
		return nil, err
	}
	if err = b.fill(f, t); err == nil {
		err = b.settle(f)
	}
	if err != nil {
		f.Kill()
		return nil, err
	}
	return f, nil
}

// settle waits until every server has all that the leader has.
func (b *bench) settle(f *fleet.Fleet) error {
	leader, err := f.Leader()
	if err != nil {
		return err
	}
	whole, err := leader.Zxid()
	if err != nil {
		return err
	}
	return b.poll("the followers have the whole tree", startPatience, func() (bool, error) {
		for _, s := range f.Servers {
			if got, err := s.Zxid(); err != nil || got < whole {
				return false, nil // a follower that is brought a snapshot does not serve meanwhile
			}
		}
		return true, nil
	})
}

func (b *bench) fill(f *fleet.Fleet, t tree) error {
	ctx, cancel := context.WithTimeout(b.ctx, startPatience)
	defer cancel()
	if err := f.Start(ctx); err != nil {
		return err
	}
	leader, err := f.Leader()
	if err != nil {
		return err
	}
	progress("%s: filling", t)
	for _, parent := range []string{"/tree", "/load"} {
		create := frames.Create(parent, nil)
		plan := load.Plan{Address: leader.Client, Connections: 1, Window: 1, Requests: 1,
			Talker: func(int) load.Talker { return &load.Mixer{Read: create} }}
		if _, err := load.Run(b.ctx, plan); err != nil {
			return fmt.Errorf("create %s: %w", parent, err)
		}
	}
	if err := b.create(leader, "/tree/n", t.znodes, t.bytes); err != nil {
		return err
	}
	if prefix, count := t.written(); prefix != "/tree/n" {
		return b.create(leader, prefix, count, writeBytes)
	}
	return nil
}

// create makes numbered znodes.
func (b *bench) create(s *fleet.Server, prefix string, count uint32, size int) error {
	request := frames.Create(frames.Numbered(prefix), make([]byte, size))
	window := max(1, min(64, (4<<20)/size/fillers)) // what is in flight stays below a few MB
	plan := load.Plan{Address: s.Client, Connections: fillers, Window: window, UntilDone: true, Talker: func(i int) load.Talker {
		return &load.Walker{Request: request, Number: func(id uint32) (uint32, bool) {
			number := (id-1)*fillers + uint32(i)
			return number, number < count
		}}
	}}
	if _, err := load.Run(b.ctx, plan); err != nil {
		return fmt.Errorf("create the znodes %s…: %w", prefix, err)
	}
	return nil
}

// poll waits until done, at most for patience.
func (b *bench) poll(what string, patience time.Duration, done func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v", what, patience)
		}
		select {
		case <-b.ctx.Done():
			return b.ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
