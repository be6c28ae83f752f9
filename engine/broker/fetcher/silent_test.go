package fetcher

import (
	"testing"
	"time"

	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
)

// silentLeaders keep what they are asked.
type silentLeaders struct {
	questions []Question
	done      []func([]Answer, error)
	vouchers  []Voucher
}

func (f *silentLeaders) Fetch(_ int32, q Question, done func([]Answer, error)) {
	f.questions, f.done = append(f.questions, q), append(f.done, done)
}

func (f *silentLeaders) Vouch(_ int32, list []Voucher) { f.vouchers = append(f.vouchers, list...) }

// silent is a cluster of two whose second box asks leaders that say nothing by themselves. It has all of partition 0, which the other leads.
func silent(t *testing.T, cfg Config, partitions int32) (*cluster, *box, *silentLeaders) {
	t.Helper()
	c := newCluster(t, 1, 2)
	for n := range partitions {
		c.open(n, 1)
	}
	for range 5 {
		c.produce(0, 1)
	}
	c.sched.RunFor(time.Second)
	b, l := c.boxes[2], &silentLeaders{}
	b.fetcher.Close()
	cfg.BrokerID = 2
	b.fetcher = New(cfg, Deps{Runtime: c.sched, Leaders: l})
	return c, b, l
}

// A box whose registration ended though it lived was not waited for meanwhile. Under the next one it vouches for what an answer to a question
// from then told it, and for nothing that it knew before: its leader may have deleted records.
func TestANewRegistrationVouchesForWhatItHears(t *testing.T) {
	for _, inSync := range []bool{false, true} {
		c, b, l := silent(t, Config{TellInterval: 10 * time.Millisecond}, 1)
		r := b.replicas[Key{seglog.ID{7}, 0}]
		b.fetcher.Follow(r, 1, inSync)
		b.fetcher.Registered(b.epoch)
		asked := func(after int) (question int, part Part) {
			t.Helper()
			for i, q := range l.questions[after:] {
				if len(q.Parts) == 1 {
					return after + i, q.Parts[0]
				}
			}
			t.Fatalf("the partition is not asked about in %+v", l.questions[after:])
			return 0, Part{}
		}
		c.sched.RunFor(100 * time.Millisecond)
		if len(l.vouchers) != 0 {
			t.Fatalf("nothing was heard of the leader, and it vouches: %+v", l.vouchers)
		}
		last := len(l.questions) - 1
		_, part := asked(last)
		for i := range l.done {
			l.done[i]([]Answer{{Part: part, Answer: replica.Answer{HighWatermark: 5}}}, nil)
		}
		c.sched.RunFor(100 * time.Millisecond)
		if n := len(l.vouchers); n == 0 || l.vouchers[n-1].Member.Epoch != b.epoch || l.vouchers[n-1].Offset != 5 {
			t.Fatalf("vouchers %+v", l.vouchers)
		}

		old := len(l.questions) - 1 // on its way, from before
		b.fetcher.Registered(0)
		c.sched.RunFor(100 * time.Millisecond)
		l.vouchers = nil
		b.fetcher.Registered(999)
		c.sched.RunFor(100 * time.Millisecond)
		now, part := asked(old + 1)
		l.done[old]([]Answer{{Part: part, Answer: replica.Answer{HighWatermark: 5}}}, nil)
		c.sched.RunFor(100 * time.Millisecond)
		if len(l.vouchers) != 0 {
			t.Fatalf("it vouches by an answer from before: %+v", l.vouchers)
		}
		l.done[now]([]Answer{{Part: part, Answer: replica.Answer{HighWatermark: 5, LogStart: 3}}}, nil)
		c.sched.RunFor(100 * time.Millisecond)
		if n := len(l.vouchers); n == 0 || l.vouchers[n-1].Member.Epoch != 999 {
			t.Fatalf("vouchers %+v", l.vouchers)
		}
		if start := r.View().Start; start != 3 {
			t.Fatalf("the log begins at %d", start)
		}
		b.fetcher.Close()
	}
}

// An answer that comes while another is being taken is not taken; what it told is asked for again, or nobody would tell it any more.
func TestWhatIsNotTakenIsAskedForAgain(t *testing.T) {
	c, b, l := silent(t, Config{}, 2)
	b.fetcher.Registered(b.epoch)
	first := b.replicas[Key{seglog.ID{7}, 0}]
	b.fetcher.Follow(first, 1, true)
	c.sched.RunFor(10 * time.Millisecond)
	b.fetcher.Follow(b.replicas[Key{seglog.ID{7}, 1}], 1, true)
	c.sched.RunFor(10 * time.Millisecond)
	if len(l.questions) != 2 {
		t.Fatalf("%d questions", len(l.questions))
	}
	p := l.questions[0].Parts[0]
	l.done[0]([]Answer{{Part: p, Answer: replica.Answer{HighWatermark: 5}}}, nil)
	l.done[1]([]Answer{{Part: p, Answer: replica.Answer{HighWatermark: 5, LogStart: 3}}}, nil)
	c.sched.RunFor(time.Second)
	if start := first.View().Start; start != 0 {
		t.Fatalf("both answers were taken, and the log begins at %d: the test shows nothing", start)
	}
	for _, q := range l.questions[2:] {
		for _, part := range q.Parts {
			if part.Topic == p.Topic && part.Partition == p.Partition {
				if part.LeadStart != 0 {
					t.Errorf("the follower says that it was told of the start %d", part.LeadStart)
				}
				return
			}
		}
	}
	t.Errorf("the partition is not asked about again: %+v", l.questions[2:])
}
