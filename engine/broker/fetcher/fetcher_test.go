package fetcher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// cluster is some boxes with replicas and fetchers on one seeded scheduler. It is their Leaders: it answers from the replicas
// of the box that is asked, as its server would.
type cluster struct {
	t         *testing.T
	sched     *mailbox.Scheduler
	boxes     map[int32]*box
	questions int // put so far
	named     int // partitions in them
	vouchers  int // said so far
	deaf      bool
	down      bool                         // nobody is reached
	slow      func(Question) time.Duration // what an answer with something in it takes on its way; nil: nothing
	err       error
}

type box struct {
	c        *cluster
	id       int32
	epoch    int64
	shards   *replica.Shards
	dir      *seglog.Dir
	fetcher  *Fetcher
	replicas map[Key]*replica.Replica
	known    map[lane]map[Key]Part // by whom it asks, and about what: what its questions have come to
	asked    map[lane][]*question
}

type question struct {
	q     Question
	anew  bool // it names what it did not name before: the answer does not wait
	done  func([]Answer, error)
	until time.Duration
	over  bool
}

func newCluster(t *testing.T, seed uint64, boxes int32) *cluster {
	c := &cluster{t: t, sched: mailbox.NewScheduler(seed, clock.NewVirtual(time.Unix(1_700_000_000, 0))), boxes: map[int32]*box{}}
	for id := int32(1); id <= boxes; id++ {
		b := &box{c: c, id: id, epoch: int64(100 + id), replicas: map[Key]*replica.Replica{}, known: map[lane]map[Key]Part{}, asked: map[lane][]*question{}}
		dir, err := seglog.OpenDir(
			seglog.DirConfig{Path: "/data", ClusterID: "c", NodeID: id, Limits: limits.Derive(0).Storage},
			seglog.Deps{FS: vfs.NewMem(), Syncer: syncer.New(c.sched, syncer.Config{Name: "d"}), Random: rand.NewChaCha8([32]byte{byte(id)})})
		if err != nil {
			t.Fatal(err)
		}
		b.dir = dir
		b.shards = replica.NewShards(replica.ShardsConfig{Count: 2, QueueMax: 1000, StageBytesMax: 4096, WaitersMax: 100},
			replica.Deps{Runtime: c.sched, Vouched: func(r *replica.Replica) { b.fetcher.Vouched(r) }})
		b.fetcher = New(Config{BrokerID: id}, Deps{Runtime: c.sched, Leaders: b})
		b.fetcher.Registered(b.epoch)
		c.boxes[id] = b
	}
	return c
}

// open makes a partition on all boxes, led by one of them, with all in sync.
func (c *cluster) open(n, leader int32) {
	c.t.Helper()
	tp := seglog.TopicPartition{Topic: "t", Partition: n}
	cfg := &replica.Config{Log: seglog.DefaultConfig(), InSyncMin: 2, BatchBytesMax: 1 << 20, ProducersMax: 100, TimestampBefore: -1, TimestampAfter: -1}
	for id := int32(1); id <= int32(len(c.boxes)); id++ {
		b := c.boxes[id]
		log, err := b.dir.Create(tp, seglog.ID{7}, cfg.Log)
		if err != nil {
			c.t.Fatal(err)
		}
		r, err := b.shards.Open(log, 0, cfg)
		if err != nil {
			c.t.Fatal(err)
		}
		b.replicas[keyOf(r)] = r
	}
	c.lead(n, leader, 1, true)
}

// lead gives a partition a leader.
func (c *cluster) lead(n, leader, epoch int32, inSync bool) {
	for id := int32(1); id <= int32(len(c.boxes)); id++ {
		b := c.boxes[id]
		r := b.replicas[Key{seglog.ID{7}, n}]
		if id != leader {
			r.Resign(epoch)
			b.fetcher.Follow(r, leader, inSync)
		}
	}
	c.leads(n, leader, epoch)
}

// leads has a box lead a partition, with all in sync.
func (c *cluster) leads(n, leader, epoch int32) {
	b := c.boxes[leader]
	r := b.replicas[Key{seglog.ID{7}, n}]
	b.fetcher.Follow(r, NoLeader, true)
	m := partition.Membership{Epoch: epoch, InSyncMin: 2}
	for other := int32(1); other <= int32(len(c.boxes)); other++ {
		m.InSync = append(m.InSync, other)
		if other != leader {
			m.Replicas = append(m.Replicas, partition.Member{Broker: other, Epoch: c.boxes[other].epoch})
		}
	}
	r.Lead(epoch, m, func(_ int32, err error) {
		if err != nil {
			c.t.Error(err)
		}
	})
}

// record is a batch of one.
func record(t *testing.T, c *cluster) []byte {
	t.Helper()
	b := batch.NewBuilder(batch.NewOptions())
	b.Append(1_700_000_000_000, nil, fmt.Appendf(nil, "%d", c.sched.Rand().Uint64()))
	raw, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// produce appends with acks=all and returns when it is answered, and how long that took.
func (c *cluster) produce(n, leader int32) time.Duration {
	c.t.Helper()
	raw := record(c.t, c)
	began, answered := c.sched.Clock().Now().Mono, false
	a := &replica.AppendRequest{Batch: raw, Acks: -1, ExpectedEpoch: replica.Any, Done: func(a *replica.AppendRequest) {
		answered = true
		if a.Err != nil {
			c.t.Errorf("partition %d: %v", n, a.Err)
		}
	}}
	c.boxes[leader].replicas[Key{seglog.ID{7}, n}].Append(context.Background(), a)
	if !c.sched.RunUntil(time.Minute, func() bool { return answered }) {
		c.t.Fatalf("partition %d is never acknowledged", n)
	}
	return c.sched.Clock().Now().Mono - began
}

// Fetch implements Leaders: it looks every millisecond whether there is something.
func (b *box) Fetch(broker int32, q Question, done func([]Answer, error)) {
	c := b.c
	c.questions++
	from := lane{broker, q.Behind}
	list := slices.DeleteFunc(b.asked[from], func(q *question) bool { return q.over })
	if len(list) > 1 {
		c.t.Errorf("box %d has %d questions for %v", b.id, len(list), from)
	}
	for _, earlier := range list {
		earlier.until = 0
	}
	known := b.known[from]
	if q.Whole {
		known = map[Key]Part{}
		b.known[from] = known
	}
	if known == nil {
		c.t.Errorf("box %d: the first question for %d is not whole", b.id, broker)
		known = map[Key]Part{}
	}
	for _, k := range q.Gone {
		if _, asked := known[k]; !asked {
			c.t.Errorf("box %d: %v was not asked of %d", b.id, k, broker)
		}
		delete(known, k)
	}
	anew := false
	for _, p := range q.Parts {
		before, there := known[Key{p.Topic, p.Partition}]
		if there && before == p {
			c.t.Errorf("box %d: %v is known to %d", b.id, p, broker)
		}
		anew = anew || !there
		known[Key{p.Topic, p.Partition}] = p
	}
	c.named += len(q.Parts)
	q.Parts = slices.SortedFunc(maps.Values(known), func(a, b Part) int {
		return Key{a.Topic, a.Partition}.Compare(Key{b.Topic, b.Partition})
	})
	mine := &question{q: q, anew: anew, done: done, until: c.sched.Clock().Now().Mono + q.Wait}
	b.asked[from] = append(list, mine)
	c.sched.After(0, "question", func() { b.look(broker, mine) })
}

func (b *box) look(broker int32, mine *question) {
	c := b.c
	if c.down {
		mine.over = true
		mine.done(nil, errors.New("no connection"))
		return
	}
	var answers []Answer
	some := mine.anew
	for _, p := range mine.q.Parts {
		a := Answer{Part: p}
		a.Answer, a.Err = c.boxes[broker].replicas[Key{p.Topic, p.Partition}].View().Answer(p.Position, mine.q.BytesMax, true)
		if c.err != nil {
			a.Err = c.err
		}
		if a.Err == nil && a.Span.Length > 0 {
			a.Batches = make([]byte, a.Span.Length)
			if _, err := a.Span.File.ReadAt(a.Batches, a.Span.Position); err != nil {
				c.t.Error(err)
			}
		}
		a.Span.Release()
		a.Span = seglog.Span{}
		some = some || a.Err != nil || len(a.Batches) > 0 || a.Diverging != nil || a.Beyond
		answers = append(answers, a)
	}
	if some && c.slow != nil && c.slow(mine.q) > 0 {
		c.sched.After(c.slow(mine.q), "answer", func() { mine.over = true; mine.done(answers, nil) })
		return
	}
	if some || c.sched.Clock().Now().Mono >= mine.until {
		mine.over = true
		mine.done(answers, nil)
		return
	}
	c.sched.After(time.Millisecond, "question", func() { b.look(broker, mine) })
}

// Vouch implements Leaders.
func (b *box) Vouch(broker int32, vouchers []Voucher) {
	c := b.c
	c.vouchers += len(vouchers)
	if c.deaf {
		return
	}
	for _, v := range vouchers {
		c.boxes[broker].replicas[Key{v.Topic, v.Partition}].Vouch(v.Member, v.Epoch, v.Offset)
	}
}

// agree reports whether all replicas of a partition end alike, and all of it is acknowledged everywhere.
func (c *cluster) agree(n int32) bool {
	end := c.boxes[1].replicas[Key{seglog.ID{7}, n}].View().End
	for _, b := range c.boxes {
		if v := b.replicas[Key{seglog.ID{7}, n}].View(); v.End != end || v.HighWatermark != end {
			return false
		}
	}
	return true
}

func TestFollowersKeepUp(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		c := newCluster(t, seed, 3)
		const partitions = 6
		for n := range int32(partitions) {
			c.open(n, 1+n%3)
		}
		for range 5 {
			for n := range int32(partitions) {
				c.produce(n, 1+n%3)
			}
		}
		for n := range int32(partitions) { // leaders move, and what they led in goes on
			c.lead(n, 1+(n+1)%3, 2, true)
			c.produce(n, 1+(n+1)%3)
		}
		for n := range int32(partitions) {
			if !c.sched.RunUntil(10*time.Second, func() bool { return c.agree(n) }) {
				t.Fatalf("seed %d: partition %d: the replicas do not agree", seed, n)
			}
		}
	}
}

// A partition that comes while a question waits is asked about at once, or after the pause that a leader asks for that does not lead yet, and
// not when the wait is over.
func TestANewPartitionDoesNotWait(t *testing.T) {
	c := newCluster(t, 3, 3)
	c.open(0, 1)
	c.produce(0, 1)
	c.sched.RunFor(10 * time.Second)
	c.open(1, 1)
	if took := c.produce(1, 1); took > 300*time.Millisecond {
		t.Fatalf("acknowledged after %v", took)
	}
	if took := c.produce(0, 1); took > 100*time.Millisecond {
		t.Fatalf("the old one is acknowledged after %v", took)
	}
}

// What a replica lacks that is not in sync takes its time; those in sync do not wait behind it, whoever comes first and wherever a
// replica has gone over from the one kind to the other.
func TestWhoIsBehindHoldsNobodyUp(t *testing.T) {
	c := newCluster(t, 4, 2)
	c.open(0, 1)
	c.open(1, 1)
	c.slow = func(q Question) time.Duration {
		if slices.ContainsFunc(q.Parts, func(p Part) bool { return p.Partition == 0 }) {
			return time.Second
		}
		return 0
	}
	c.boxes[2].fetcher.Follow(c.boxes[2].replicas[Key{seglog.ID{7}, 0}], 1, false)
	for range 20 {
		a := &replica.AppendRequest{Batch: record(t, c), Acks: 1, ExpectedEpoch: replica.Any, Done: func(a *replica.AppendRequest) {
			if a.Err != nil {
				t.Error(a.Err)
			}
		}}
		c.boxes[1].replicas[Key{seglog.ID{7}, 0}].Append(context.Background(), a)
		if took := c.produce(1, 1); took > 100*time.Millisecond {
			t.Fatalf("acknowledged after %v", took)
		}
	}
	c.slow = nil
	c.boxes[2].fetcher.Follow(c.boxes[2].replicas[Key{seglog.ID{7}, 0}], 1, true)
	if took := c.produce(0, 1); took > 5*time.Second {
		t.Fatalf("in sync again, it is acknowledged after %v", took)
	}
	if took := c.produce(0, 1); took > 100*time.Millisecond {
		t.Fatalf("in sync again, the next is acknowledged after %v", took)
	}
}

// A replica may hear that it leads no more after the fetcher has heard whom it follows: it is asked about all the same, also
// while a question about others waits.
func TestAFormerLeaderFollows(t *testing.T) {
	for _, others := range []bool{false, true} {
		c := newCluster(t, 7, 3)
		c.open(0, 1)
		if others {
			c.open(1, 2)
			c.produce(1, 2)
		}
		c.produce(0, 1)
		c.sched.RunFor(10 * time.Second)
		former := c.boxes[1].replicas[Key{seglog.ID{7}, 0}]
		c.boxes[1].fetcher.Follow(former, 2, true)
		c.sched.RunFor(50 * time.Millisecond)
		former.Resign(2)
		c.boxes[3].replicas[Key{seglog.ID{7}, 0}].Resign(2)
		c.boxes[3].fetcher.Follow(c.boxes[3].replicas[Key{seglog.ID{7}, 0}], 2, true)
		c.leads(0, 2, 2)
		if took := c.produce(0, 2); took > time.Second {
			t.Errorf("with others %v: acknowledged after %v", others, took)
		}
	}
}

// Followers that have all, and are known to, say nothing and seldom ask.
func TestIdleFollowersAreQuiet(t *testing.T) {
	c := newCluster(t, 4, 3)
	for n := range int32(20) {
		c.open(n, 1+n%3)
		c.produce(n, 1+n%3)
	}
	c.sched.RunFor(20 * time.Second)
	questions, vouchers, named := c.questions, c.vouchers, c.named
	c.sched.RunFor(time.Minute)
	if c.named != named {
		t.Errorf("%d partitions named in a minute", c.named-named)
	}
	if n := c.questions - questions; n > 6*(60/5+1) {
		t.Errorf("%d questions of six followers in a minute", n)
	}
	if n := c.vouchers - vouchers; n > 0 {
		t.Errorf("%d vouchers in a minute", n)
	}
}

// What a follower asks about is said when it changes: partitions that come one after the other, each while questions about the
// others are on their way, are not named again and again, nor is one where nothing happens while another is written to.
func TestWhatIsKnownIsNotSaidAgain(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		c := newCluster(t, seed, 3)
		const partitions = 30
		for n := range int32(partitions) {
			c.open(n, 1)
			c.sched.RunFor(3 * time.Millisecond)
		}
		c.sched.RunFor(5 * time.Second)
		if most := 2 * partitions * 4; c.named > most {
			t.Errorf("seed %d: %d idle partitions were named %d times by two followers, at most %d", seed, partitions, c.named, most)
		}
		named := c.named
		for range 20 {
			c.produce(7, 1)
		}
		if n := c.named - named; n < 2*19 || n > 2*25 {
			t.Errorf("seed %d: two followers name %d partitions for 20 records in one", seed, n)
		}
	}
}

// A voucher that was lost, or came before the leader knew of the registration, is said again until it has had an effect.
func TestALostVoucherIsSaidAgain(t *testing.T) {
	c := newCluster(t, 5, 3)
	c.open(0, 1)
	c.produce(0, 1)
	c.deaf = true
	c.sched.After(300*time.Millisecond, "hears", func() { c.deaf = false })
	if took := c.produce(0, 1); took < 300*time.Millisecond || took > 2*time.Second {
		t.Fatalf("acknowledged after %v", took)
	}
	c.sched.RunFor(20 * time.Second)
	vouchers := c.vouchers
	c.boxes[2].fetcher.Registered(999) // its leader has not seen that registration: it hears nothing
	c.sched.RunFor(time.Second)
	if c.vouchers == vouchers {
		t.Fatal("nothing is said under a new registration")
	}
	c.boxes[2].fetcher.Follow(c.boxes[2].replicas[Key{seglog.ID{7}, 0}], 1, false)
	vouchers = c.vouchers
	c.sched.RunFor(10 * time.Second)
	if n := c.vouchers - vouchers; n < 8 || n > 12 {
		t.Fatalf("a follower out of sync says %d vouchers in 10 s", n)
	}
}

// A leader that has nothing new to acknowledge is told a few times, too, for all that it must know: it would find its followers late. Then
// nothing more is said.
func TestALeaderWithNothingNewIsTold(t *testing.T) {
	c := newCluster(t, 8, 3)
	c.open(0, 1)
	c.produce(0, 1)
	c.sched.RunFor(20 * time.Second)
	if !c.agree(0) {
		t.Fatal("the replicas do not agree")
	}
	vouchers := c.vouchers
	c.deaf = true
	c.lead(0, 2, 2, true)
	c.sched.RunFor(10 * time.Second)
	c.deaf = false
	if lag := c.boxes[2].replicas[Key{seglog.ID{7}, 0}].Counts().Lag; lag != 1 {
		t.Fatalf("a leader that has heard nothing knows of %d records that its followers may lack", lag)
	}
	c.sched.RunFor(20 * time.Second)
	if lag := c.boxes[2].replicas[Key{seglog.ID{7}, 0}].Counts().Lag; lag != 0 {
		t.Fatalf("%d records, as far as the leader knows, are not on all replicas", lag)
	}
	if n := c.vouchers - vouchers; n > 2*(tellsMin+1) {
		t.Errorf("%d vouchers of two followers", n)
	}
	vouchers = c.vouchers
	c.sched.RunFor(time.Minute)
	if c.vouchers > vouchers {
		t.Errorf("%d vouchers in a minute in which nothing happens", c.vouchers-vouchers)
	}
}

// What cannot be asked, or is refused, is asked again after a pause, and not more often.
func TestErrorsArePausedAfter(t *testing.T) {
	c := newCluster(t, 6, 3)
	c.open(0, 1)
	c.open(1, 1)
	c.produce(0, 1)
	for what, set := range map[string]func(on bool){
		"no connection": func(on bool) { c.down = on },
		"refused": func(on bool) {
			if c.err = nil; on {
				c.err = partition.ErrNotLeader
			}
		},
	} {
		set(true)
		c.sched.RunFor(10 * time.Second)
		questions := c.questions
		c.sched.RunFor(10 * time.Second)
		if n := c.questions - questions; n < 20 || n > 2*10*5+4 {
			t.Errorf("%s: %d questions of two followers in 10 s", what, n)
		}
		set(false)
		c.sched.RunFor(time.Second)
		if took := c.produce(0, 1); took > 100*time.Millisecond {
			t.Errorf("%s: acknowledged after %v", what, took)
		}
	}
	for id := int32(2); id <= 3; id++ {
		for n := range int32(2) {
			c.boxes[id].fetcher.Follow(c.boxes[id].replicas[Key{seglog.ID{7}, n}], NoLeader, false)
		}
	}
	c.sched.RunFor(10 * time.Second)
	questions := c.questions
	c.sched.RunFor(time.Minute)
	if c.questions > questions {
		t.Errorf("%d questions of nobody", c.questions-questions)
	}
}
