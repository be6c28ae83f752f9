package replica

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

var (
	trioSeeds = flag.Uint64("replica.seeds", 60, "runs of three replicas")
	trioFrom  = flag.Uint64("replica.from", 1, "seed of the first of them")
)

// trio is one partition on three boxes, each with a memory file system, under one seeded scheduler, and what a controller
// decides about it. Answers, vouchers and proposals are carried by the test.
type trio struct {
	t     *testing.T
	rng   *rand.Rand
	sched *mailbox.Scheduler
	boxes map[int32]*holder
	fs    map[int32]*vfs.Mem

	leader, leaderEpoch, partitionEpoch int32
	leaderBroker                        int64 // broker epoch of the leader that was elected
	isr, elr                            []int32
	registered                          map[int32]int64
	brokerEpochs                        int64
	vouched                             map[int32]int64 // by box: the most that it ever said

	adjust func(*Config) // the settings; nil leaves them
	sent   []*sent
	next   int32
	cuts   int // truncations
}

// holder is one box's side.
type holder struct {
	id          int32
	brokerEpoch int64
	shards      *Shards
	dir         *seglog.Dir
	r           *Replica
	failed      bool
	copying     bool
}

func newTrio(t *testing.T, seed uint64) *trio { return newTrioWith(t, seed, nil) }

func newTrioWith(t *testing.T, seed uint64, adjust func(*Config)) *trio {
	c := &trio{
		t: t, rng: rand.New(rand.NewPCG(seed, 5)), sched: mailbox.NewScheduler(seed, clock.NewVirtual(time.Unix(1_700_000_000, 0))),
		boxes: map[int32]*holder{}, fs: map[int32]*vfs.Mem{}, registered: map[int32]int64{}, vouched: map[int32]int64{}, isr: []int32{1, 2, 3}, adjust: adjust,
	}
	for id := int32(1); id <= 3; id++ {
		c.fs[id] = vfs.NewMem()
		c.open(id)
	}
	c.elect()
	return c
}

// open starts a box on what its disk holds, and registers it.
func (c *trio) open(id int32) {
	c.t.Helper()
	h := &holder{id: id}
	sy := syncer.New(c.sched, syncer.Config{Name: "d"})
	c.brokerEpochs++
	h.brokerEpoch = c.brokerEpochs
	dir, err := seglog.OpenDir(
		seglog.DirConfig{Path: "/data", ClusterID: "c", NodeID: id, Limits: limits.Derive(0).Storage},
		seglog.Deps{FS: c.fs[id], Syncer: sy, Random: rand.NewChaCha8([32]byte{byte(id), byte(c.brokerEpochs), byte(c.brokerEpochs >> 8)})})
	if err != nil {
		c.t.Fatal(err)
	}
	h.dir = dir
	cfg := testConfig()
	cfg.InSyncMin = 2
	if c.adjust != nil {
		c.adjust(cfg)
	}
	log, err := dir.Open(tp, cfg.Log)
	if errors.Is(err, seglog.ErrCorrupt) && c.vouched[id] == 0 {
		err = errors.Join(dir.SetAside(tp), seglog.ErrNotExist) // as the topics room does: its creation was cut
	}
	if errors.Is(err, seglog.ErrNotExist) && c.vouched[id] == 0 {
		log, err = dir.Create(tp, seglog.ID{1}, cfg.Log)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	h.shards = NewShards(ShardsConfig{Count: 1, QueueMax: 1000, StageBytesMax: 2048, WaitersMax: 100}, Deps{
		Runtime: c.sched, LagMax: 200 * time.Millisecond,
		Propose: func(_ *Replica, epoch, partitionEpoch int32, isr []partition.Member, done func(bool)) {
			if !h.failed {
				done(c.alter(h, epoch, partitionEpoch, isr))
			}
		},
	})
	hw, _ := dir.HighWatermark(tp)
	if h.r, err = h.shards.Open(log, hw, cfg); err != nil {
		c.t.Fatal(err)
	}
	c.boxes[id] = h
	c.registered[id] = h.brokerEpoch
}

// alter is the controller's AlterPartition.
func (c *trio) alter(h *holder, epoch, partitionEpoch int32, isr []partition.Member) bool {
	if c.leader != h.id || c.leaderEpoch != epoch || c.partitionEpoch != partitionEpoch || c.registered[h.id] != h.brokerEpoch {
		return false
	}
	next := []int32{h.id}
	for _, m := range isr {
		if c.registered[m.Broker] != m.Epoch {
			return false
		}
		next = append(next, m.Broker)
	}
	for _, id := range c.isr {
		if !slices.Contains(next, id) && len(next) < 2 && !slices.Contains(c.elr, id) {
			c.elr = append(c.elr, id)
		}
	}
	c.isr = next
	c.elr = slices.DeleteFunc(c.elr, func(id int32) bool { return len(next) >= 2 || slices.Contains(next, id) })
	c.partitionEpoch++
	c.tell(c.boxes[h.id])
	return true
}

// tell lets a box see the catalog.
func (c *trio) tell(h *holder) {
	if c.registered[h.id] != h.brokerEpoch || h.failed {
		return
	}
	if c.leader != h.id || c.leaderBroker != h.brokerEpoch {
		h.r.Resign(c.leaderEpoch)
		return
	}
	m := partition.Membership{Epoch: c.partitionEpoch, InSync: slices.Clone(c.isr), InSyncMin: 2}
	for id := int32(1); id <= 3; id++ {
		if id != h.id {
			m.Replicas = append(m.Replicas, partition.Member{Broker: id, Epoch: c.registered[id]})
		}
	}
	h.r.Lead(c.leaderEpoch, m, func(_ int32, err error) {
		if err != nil && !errors.Is(err, partition.ErrFenced) && !errors.Is(err, ErrClosed) && !h.failed {
			c.t.Errorf("box %d does not lead in epoch %d: %v", h.id, c.leaderEpoch, err)
		}
	})
}

// crash cuts a box's power.
func (c *trio) crash(id int32) {
	h := c.boxes[id]
	h.failed = true
	c.fs[id].PowerOff()
	c.fs[id] = c.fs[id].Crash(c.rng)
	delete(c.boxes, id)
}

// fence ends a registration.
func (c *trio) fence(id int32) {
	delete(c.registered, id)
	if slices.Contains(c.isr, id) && len(c.isr) > 1 {
		c.isr = slices.DeleteFunc(slices.Clone(c.isr), func(x int32) bool { return x == id })
		if len(c.isr) < 2 && !slices.Contains(c.elr, id) {
			c.elr = append(c.elr, id)
		}
		c.partitionEpoch++
	}
}

// elect gives the partition a leader above every epoch in its log, where it has none that may act.
func (c *trio) elect() {
	if e := c.registered[c.leader]; e != 0 && e == c.leaderBroker {
		return
	}
	for _, list := range [][]int32{c.isr, c.elr} {
		for _, id := range list {
			h := c.boxes[id]
			if h == nil || c.registered[id] != h.brokerEpoch {
				continue
			}
			c.leader, c.leaderBroker = id, h.brokerEpoch
			c.leaderEpoch = max(c.leaderEpoch, h.r.View().Log.LatestEpoch()) + 1
			if !slices.Contains(c.isr, id) {
				c.isr = []int32{id}
				c.elr = slices.DeleteFunc(c.elr, func(x int32) bool { return x == id })
			}
			c.partitionEpoch++
			return
		}
	}
}

// fetch carries a follower's question to the leader and the answer back, whole or in part.
func (c *trio) fetch(h *holder) {
	leader := c.boxes[c.leader]
	if h == leader || leader == nil || h.copying || h.failed {
		return
	}
	asked := h.r.View().Position()
	answer, err := leader.r.View().Answer(asked, 1+c.rng.IntN(3000), true)
	if err != nil {
		if errors.Is(err, partition.ErrNoCommonEpoch) {
			c.t.Errorf("box %d asks box %d: %v", h.id, leader.id, err)
		}
		return
	}
	req := &CopyRequest{Asked: asked, Answer: answer, Behind: !slices.Contains(c.isr, h.id)}
	if answer.Diverging != nil {
		c.cuts++
	}
	if answer.Span.File != nil {
		req.Batches = make([]byte, answer.Span.Length)
		_, err = answer.Span.File.ReadAt(req.Batches, answer.Span.Position)
		answer.Span.Release()
		if err != nil {
			return // cut meanwhile, or its box has no power
		}
	}
	h.copying = true
	req.Done = func(r *CopyRequest) {
		h.copying = false
		if r.Err != nil && !errors.Is(r.Err, partition.ErrFenced) && !h.failed {
			c.t.Errorf("box %d copies: %v", h.id, r.Err)
		}
	}
	h.r.Copy(req)
}

// carryVoucher tells the leader how far a follower vouches.
func (c *trio) carryVoucher(h *holder) {
	v := h.r.View()
	if leader := c.boxes[c.leader]; v.Vouches >= 0 && leader != nil && leader != h {
		c.vouched[h.id] = max(c.vouched[h.id], v.Vouches)
		leader.r.Vouch(partition.Member{Broker: h.id, Epoch: h.brokerEpoch}, v.LeaderEpoch, v.Vouches)
	}
}

// produce sends one batch of a few records to whoever leads.
func (c *trio) produce() {
	leader := c.boxes[c.leader]
	if leader == nil {
		return
	}
	s := &sent{pid: -1, seq: c.next, n: 1 + c.rng.IntN(5)}
	c.next += int32(s.n)
	s.AppendRequest = AppendRequest{Batch: records(c.t, s.pid, s.seq, s.n), Acks: -1, ExpectedEpoch: Any, Timeout: time.Second, Done: func(*AppendRequest) { s.answered++ }}
	leader.r.Append(context.Background(), &s.AppendRequest)
	c.sent = append(c.sent, s)
}

// step does one thing at random.
func (c *trio) step() {
	id := 1 + c.rng.Int32N(3)
	h := c.boxes[id]
	switch n := c.rng.IntN(200); {
	case h == nil:
		switch {
		case n < 5:
			c.open(id)
		case n < 20 && c.registered[id] != 0:
			c.fence(id)
		}
	case n < 20:
		c.produce()
	case n < 90:
		c.sched.Step()
	case n < 120:
		c.fetch(h)
	case n < 140:
		c.carryVoucher(h)
	case n < 170:
		c.tell(h)
	case n == 170:
		c.crash(id)
	case n == 171 && c.rng.IntN(2) == 0:
		c.fence(id) // though it lives
	case n < 180:
		if c.registered[id] == 0 {
			c.brokerEpochs++
			h.brokerEpoch = c.brokerEpochs
			c.registered[id] = h.brokerEpoch
		}
	case n < 184:
		c.sched.RunFor(30 * time.Millisecond)
	default:
		c.elect()
	}
}

// bytes are a replica's whole log, as followers are given it.
func (c *trio) bytes(h *holder) []byte {
	c.t.Helper()
	v := h.r.View()
	var out []byte
	for next := v.Start; next < v.End; {
		span, err := v.Log.Read(next, 1<<20, v.End, true)
		if err != nil {
			c.t.Fatal(err)
		}
		raw := make([]byte, span.Length)
		if _, err := span.File.ReadAt(raw, span.Position); err != nil {
			c.t.Fatal(err)
		}
		span.Release()
		scan := batch.Scan(raw)
		for scan.Next() {
			next = scan.Header().NextOffset()
			out = append(out, scan.Bytes()...)
		}
	}
	return out
}

// settle lets everything come up, and expects three equal logs in sync.
func (c *trio) settle() {
	c.t.Helper()
	whole := func() bool {
		if len(c.isr) != 3 || len(c.boxes) != 3 {
			return false
		}
		leader := c.boxes[c.leader].r.View()
		for _, h := range c.boxes {
			if v := h.r.View(); v.End != leader.End || v.HighWatermark != leader.End || v.Start < leader.Start {
				return false
			}
		}
		return true
	}
	for round := 0; !whole(); round++ {
		for id := int32(1); id <= 3; id++ {
			h := c.boxes[id]
			if h == nil {
				c.open(id)
				h = c.boxes[id]
			}
			if c.registered[id] != h.brokerEpoch {
				c.brokerEpochs++
				h.brokerEpoch = c.brokerEpochs
				c.registered[id] = h.brokerEpoch
			}
			c.elect()
			c.tell(h)
			c.sched.RunFor(time.Millisecond)
			c.fetch(h)
			c.sched.RunFor(time.Millisecond)
			c.carryVoucher(h)
		}
		c.sched.RunFor(100 * time.Millisecond)
		if round > 2000 {
			for _, h := range c.boxes {
				c.t.Logf("box %d: %+v, position %+v", h.id, h.r.own.state, h.r.View().Position())
			}
			c.t.Fatalf("the replicas do not agree: leader %d in epoch %d, isr %v, elr %v", c.leader, c.leaderEpoch, c.isr, c.elr)
		}
	}
}

// end closes all boxes.
func (c *trio) end() {
	c.t.Helper()
	for _, h := range c.boxes {
		h.r.Close(false, func(error) {})
		c.sched.RunFor(time.Second)
		h.shards.Close()
		if err := h.dir.Close(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// Whatever was acknowledged to a producer with acks=all is on all three replicas in the end, in its order, and the replicas are
// equal byte for byte, whatever loses its power or its registration meanwhile.
func TestReplicasAgree(t *testing.T) {
	acked, cuts := 0, 0
	for seed := *trioFrom; seed < *trioFrom+*trioSeeds; seed++ {
		c := newTrio(t, seed)
		for range 3000 {
			c.step()
		}
		c.settle()
		first := c.bytes(c.boxes[1])
		for id := int32(2); id <= 3; id++ {
			if !bytes.Equal(first, c.bytes(c.boxes[id])) {
				t.Fatalf("seed %d: box %d has other bytes than box 1", seed, id)
			}
		}
		at := map[string]int{}
		n := 0
		for scan := batch.Scan(first); scan.Next(); {
			if err := batch.Walk(scan.Header(), scan.Bytes()[batch.HeaderSize:], func(r *batch.Record) error {
				at[string(r.Value)] = n
				n++
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		last := -1
		for _, s := range c.sent {
			if s.answered == 0 || s.Err != nil {
				continue
			}
			for i := range s.n {
				where, ok := at[string(value(s.pid, s.seq+int32(i)))]
				if !ok || where <= last {
					t.Fatalf("seed %d: acknowledged record %d: there %v, at %d behind %d", seed, int(s.seq)+i, ok, where, last)
				}
				last = where
				acked++
			}
		}
		cuts += c.cuts
		c.end()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d records acknowledged, %d logs cut", acked, cuts)
	if acked < 1000 || cuts < 10 {
		t.Errorf("%d records acknowledged, %d logs cut: the runs show little", acked, cuts)
	}
}
