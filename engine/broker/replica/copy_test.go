package replica

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
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

var trioSeeds = flag.Uint64("replica.seeds", 60, "runs of three replicas")

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

	sent []*sent
	next int32
	cuts int // truncations
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

func newTrio(t *testing.T, seed uint64) *trio {
	c := &trio{
		t: t, rng: rand.New(rand.NewPCG(seed, 5)), sched: mailbox.NewScheduler(seed, clock.NewVirtual(time.Unix(1_700_000_000, 0))),
		boxes: map[int32]*holder{}, fs: map[int32]*vfs.Mem{}, registered: map[int32]int64{}, vouched: map[int32]int64{}, isr: []int32{1, 2, 3},
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
	req := &CopyRequest{Asked: asked, Answer: answer}
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
	b := batch.NewBuilder(batch.NewOptions())
	n := 1 + c.rng.IntN(5)
	for range n {
		b.Append(1_700_000_000_000, nil, fmt.Appendf(nil, "1/%d", c.next))
		c.next++
	}
	raw, err := b.Build(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	s := &sent{pid: 1, seq: c.next - int32(n), n: n}
	s.AppendRequest = AppendRequest{Batch: raw, Acks: -1, ExpectedEpoch: Any, Timeout: time.Second, Done: func(*AppendRequest) { s.answered++ }}
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
		end := c.boxes[c.leader].r.View().End
		for _, h := range c.boxes {
			if v := h.r.View(); v.End != end || v.HighWatermark != end {
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

// Whatever was acknowledged to a producer with acks=all is on all three replicas in the end, in its order, and the replicas are
// equal byte for byte, whatever loses its power or its registration meanwhile.
func TestReplicasAgree(t *testing.T) {
	acked, cuts := 0, 0
	for seed := uint64(1); seed <= *trioSeeds; seed++ {
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
				where, ok := at[fmt.Sprintf("1/%d", int(s.seq)+i)]
				if !ok || where <= last {
					t.Fatalf("seed %d: acknowledged record %d: there %v, at %d behind %d", seed, int(s.seq)+i, ok, where, last)
				}
				last = where
				acked++
			}
		}
		cuts += c.cuts
		for _, h := range c.boxes {
			h.r.Close(false, func(error) {})
			c.sched.RunFor(time.Second)
			h.shards.Close()
			if err := h.dir.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d records acknowledged, %d logs cut", acked, cuts)
	if acked < 1000 || cuts < 10 {
		t.Errorf("%d records acknowledged, %d logs cut: the runs show little", acked, cuts)
	}
}

// copied builds an answer with batches of one record each, of the given epochs.
func copied(t *testing.T, asked Position, highWatermark int64, epochs ...int32) *CopyRequest {
	t.Helper()
	c := &CopyRequest{Asked: asked, Answer: Answer{HighWatermark: highWatermark}}
	for i, epoch := range epochs {
		b := batch.NewBuilder(batch.NewOptions())
		b.Append(1_700_000_000_000, nil, fmt.Appendf(nil, "1/%d", asked.Offset+int64(i)))
		raw, err := b.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		batch.Stamp(raw, asked.Offset+int64(i), epoch)
		c.Batches = append(c.Batches, raw...)
	}
	return c
}

// take hands a follower an answer, and waits until it is taken.
func (g *rig) take(c *CopyRequest) error {
	g.t.Helper()
	done := 0
	c.Done = func(*CopyRequest) { done++ }
	g.r.Copy(c)
	if !g.sched.RunUntil(time.Second, func() bool { return done > 0 }) || done != 1 {
		g.t.Fatalf("done %d times", done)
	}
	return c.Err
}

// following is a partition that follows in epoch 5, and has two records of epoch 1 and one of epoch 3.
func following(t *testing.T) *rig {
	t.Helper()
	g := start(t, vfs.NewMem(), 1, testConfig())
	g.r.Resign(5)
	g.sched.RunFor(time.Second)
	if err := g.take(copied(t, g.r.View().Position(), 2, 1, 1, 3)); err != nil {
		t.Fatal(err)
	}
	g.sched.RunFor(time.Second)
	return g
}

func TestAFollowerTakesWhatItAskedFor(t *testing.T) {
	g := following(t)
	asked := g.r.View().Position()
	if asked != (Position{Epoch: 5, Offset: 3, LastEpoch: 3}) {
		t.Fatalf("%+v", asked)
	}
	if v := g.r.View(); v.HighWatermark != 2 || v.Vouches != 3 || v.Leader {
		t.Fatalf("high watermark %d, vouches for %d, leads %v", v.HighWatermark, v.Vouches, v.Leader)
	}
	half := copied(t, asked, 2, 3, 5)
	half.Batches = half.Batches[:len(half.Batches)-1]
	if err := g.take(half); err != nil || g.r.View().End != 4 {
		t.Fatalf("%v, end %d", err, g.r.View().End)
	}
	if err := g.take(copied(t, asked, 9, 4)); err != nil || g.r.View().End != 4 || g.r.View().HighWatermark != 2 {
		t.Fatalf("an answer to an older question: %v, end %d, high watermark %d", err, g.r.View().End, g.r.View().HighWatermark)
	}
	g.close()
}

// What a leader cannot have is refused, and nothing of it is in the log.
func TestAFollowerTakesNothingDamaged(t *testing.T) {
	g := following(t)
	asked := g.r.View().Position()
	flipped := copied(t, asked, 3, 3, 3)
	flipped.Batches[len(flipped.Batches)-1] ^= 1
	old := asked
	old.Epoch = 4
	for name, c := range map[string]struct {
		req  *CopyRequest
		want error
	}{
		"a bit that fell over":         {flipped, batch.ErrCorrupt},
		"an epoch that goes back":      {copied(t, asked, 3, 3, 1), batch.ErrCorrupt},
		"an epoch above the leader's":  {copied(t, asked, 3, 6), batch.ErrCorrupt},
		"an answer of an older leader": {copied(t, old, 3, 3), partition.ErrFenced},
		"no common epoch":              {&CopyRequest{Asked: asked, Answer: Answer{Diverging: &partition.EpochEnd{Epoch: -1, End: -1}}}, partition.ErrNoCommonEpoch},
	} {
		if err := g.take(c.req); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if v := g.r.View(); v.End != 3 || v.HighWatermark != 2 || v.Err != nil {
			t.Fatalf("%s: end %d, high watermark %d, %v", name, v.End, v.HighWatermark, v.Err)
		}
	}
	if err := g.take(copied(t, asked, 3, 3)); err != nil || g.r.View().End != 4 {
		t.Fatalf("%v, end %d", err, g.r.View().End)
	}
	g.close()
}

// A flush that began before the log was cut says nothing about what was copied since.
func TestAFlushOfBeforeATruncation(t *testing.T) {
	g := following(t)
	if err := g.take(&CopyRequest{Asked: g.r.View().Position(), Answer: Answer{Diverging: &partition.EpochEnd{Epoch: 1, End: 2}}}); err != nil {
		t.Fatal(err)
	}
	if v := g.r.View(); v.End != 2 || v.Vouches != -1 {
		t.Fatalf("end %d, vouches for %d", v.End, v.Vouches)
	}
	if err := g.take(copied(t, g.r.View().Position(), 2, 4, 4)); err != nil {
		t.Fatal(err)
	}
	g.r.shard.onFlushed(g.r, 3, nil)
	if v := g.r.View(); v.Vouches != 2 {
		t.Fatalf("vouches for %d after a flush of what was cut", v.Vouches)
	}
	g.sched.RunFor(time.Second)
	if v := g.r.View(); v.Vouches != 4 {
		t.Fatalf("vouches for %d in the end", v.Vouches)
	}
	g.close()
}

// A box that led without a record, and follows now, may copy records of an older epoch than it led in.
func TestAnEpochWithoutRecordsIsForgotten(t *testing.T) {
	g := following(t)
	g.lead(6)
	g.r.Resign(7)
	g.sched.RunFor(time.Second)
	if err := g.take(copied(t, g.r.View().Position(), 2, 4, 4)); err != nil {
		t.Fatal(err)
	}
	if p := g.r.View().Position(); p != (Position{Epoch: 7, Offset: 5, LastEpoch: 4}) {
		t.Fatalf("%+v", p)
	}
	g.close()
}

// A leader whose log begins beyond the follower's end: the follower starts anew there, and follows its start later.
func TestAFollowerThatIsTooFarBehindStartsAnew(t *testing.T) {
	g := following(t)
	if err := g.take(&CopyRequest{Asked: g.r.View().Position(), Answer: Answer{Beyond: true, LogStart: 100}}); err != nil {
		t.Fatal(err)
	}
	p := g.r.View().Position()
	if p != (Position{Epoch: 5, Offset: 100, LastEpoch: -1}) {
		t.Fatalf("%+v", p)
	}
	more := copied(t, p, 102, 4, 4)
	more.LogStart = 101
	if err := g.take(more); err != nil {
		t.Fatal(err)
	}
	g.sched.RunFor(time.Second)
	if err := g.take(&CopyRequest{Asked: g.r.View().Position(), Answer: Answer{HighWatermark: 102, LogStart: 101}}); err != nil {
		t.Fatal(err)
	}
	if v := g.r.View(); v.Start != 101 || v.End != 102 || v.HighWatermark != 102 {
		t.Fatalf("start %d, end %d, high watermark %d", v.Start, v.End, v.HighWatermark)
	}
	g.close()
}

func TestALeaderAnswersFollowers(t *testing.T) {
	g := following(t)
	g.lead(6)
	v := g.r.View()
	at := func(epoch int32, offset int64, last int32) Position {
		return Position{Epoch: epoch, Offset: offset, LastEpoch: last}
	}
	for name, c := range map[string]struct {
		p       Position
		want    error
		diverge *partition.EpochEnd
		beyond  bool
		bytes   bool
	}{
		"older epoch":                      {p: at(5, 0, -1), want: partition.ErrFenced},
		"newer epoch":                      {p: at(7, 0, -1), want: partition.ErrUnknownEpoch},
		"from the beginning":               {p: at(6, 0, -1), bytes: true},
		"the end":                          {p: at(6, 3, 3)},
		"longer in an older epoch":         {p: at(6, 3, 1), diverge: &partition.EpochEnd{Epoch: 1, End: 2}},
		"an epoch that is not here":        {p: at(6, 3, 2), diverge: &partition.EpochEnd{Epoch: 1, End: 2}},
		"beyond the end":                   {p: at(6, 9, 3), diverge: &partition.EpochEnd{Epoch: 3, End: 3}},
		"beyond the end without a record":  {p: at(6, 9, -1), beyond: true},
		"behind, with all epochs the same": {p: at(6, 1, 1), bytes: true},
	} {
		a, err := v.Answer(c.p, 1<<20, true)
		if !errors.Is(err, c.want) || (a.Diverging == nil) != (c.diverge == nil) || a.Diverging != nil && *a.Diverging != *c.diverge ||
			a.Beyond != c.beyond || (a.Span.Length > 0) != c.bytes {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
		a.Span.Release()
	}
	g.close()
}

// acks=1 is answered when this box has flushed; acks=all when every replica in sync has said so, as many as must be.
func TestAcksWithFollowers(t *testing.T) {
	cfg := testConfig()
	cfg.InSyncMin = 2
	g := start(t, vfs.NewMem(), 3, cfg)
	second, third := partition.Member{Broker: 2, Epoch: 20}, partition.Member{Broker: 3, Epoch: 30}
	m := partition.Membership{Epoch: 1, Replicas: []partition.Member{second, third}, InSync: []int32{1, 2}, InSyncMin: 2}
	lead := func() {
		g.r.Lead(1, m, func(_ int32, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		g.sched.RunFor(time.Second)
	}
	lead()
	one, all := g.send(-1, 0, 1, 1), g.send(-1, 1, 1, -1)
	g.wait(one)
	g.sched.RunFor(time.Second)
	if one.Err != nil || all.answered > 0 || g.r.View().HighWatermark != 0 {
		t.Fatalf("acks=1: %v; acks=all answered %d times; high watermark %d", one.Err, all.answered, g.r.View().HighWatermark)
	}
	for _, wrong := range []struct {
		m      partition.Member
		epoch  int32
		offset int64
	}{{partition.Member{Broker: 2, Epoch: 19}, 1, 2}, {second, 0, 2}, {second, 2, 2}, {second, 1, 3}, {third, 1, 2}, {second, 1, 1}} {
		g.r.Vouch(wrong.m, wrong.epoch, wrong.offset)
	}
	g.sched.RunFor(time.Second)
	if all.answered > 0 || g.r.View().HighWatermark != 1 {
		t.Fatalf("acks=all answered %d times, high watermark %d", all.answered, g.r.View().HighWatermark)
	}
	g.r.Vouch(second, 1, 2)
	g.wait(all)
	if all.Err != nil || g.r.View().HighWatermark != 2 {
		t.Fatalf("%v, high watermark %d", all.Err, g.r.View().HighWatermark)
	}
	// One is left in sync, of two that must be: nothing more is acknowledged to all, and acks=1 goes on.
	m.Epoch, m.InSync = 2, []int32{1}
	lead()
	one, all = g.send(-1, 2, 1, 1), g.send(-1, 3, 1, -1)
	g.wait(one, all)
	g.sched.RunFor(time.Second)
	if one.Err != nil || !errors.Is(all.Err, partition.ErrNotEnoughReplicas) || g.r.View().HighWatermark != 2 {
		t.Fatalf("acks=1: %v; acks=all: %v; high watermark %d", one.Err, all.Err, g.r.View().HighWatermark)
	}
	g.close()
}
