package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/group"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"

	"github.com/twmb/franz-go/pkg/kerr"
)

// memLog is a partition in memory. Appends wait until the test answers them.
type memLog struct {
	epoch     int32
	start     int64
	end       int64
	committed int64
	bytes     []byte
	cut       []int64 // offset at which each batch begins
	at        []int   // and its position
	under     []func(appended bool, err error)
	appends   int
	auto      bool // appends succeed at once
	readErr   error
	reads     int
}

func (l *memLog) View(epoch int32) (View, error) {
	if epoch != l.epoch {
		return View{}, fmt.Errorf("%w: epoch %d, present %d", ErrNotLeader, epoch, l.epoch)
	}
	return View{Start: l.start, End: l.end, Committed: l.committed}, nil
}

func (l *memLog) Read(offset int64, bytesMax int, buf []byte) ([]byte, error) {
	l.reads++
	if l.readErr != nil {
		return nil, l.readErr
	}
	for i, first := range l.cut {
		next := l.end
		if i+1 < len(l.cut) {
			next = l.cut[i+1]
		}
		if offset >= next || offset < first {
			continue
		}
		h, err := batch.Parse(l.bytes[l.at[i]:])
		if err != nil {
			return nil, err
		}
		n := min(max(bytesMax, h.Size()), len(l.bytes)-l.at[i])
		return append(buf[:0], l.bytes[l.at[i]:l.at[i]+n]...), nil
	}
	return buf[:0], nil
}

// write stamps batches and puts them at the end.
func (l *memLog) write(b []byte) {
	for s := batch.Scan(b); s.Next(); {
		stamped := slices.Clone(s.Bytes())
		batch.Stamp(stamped, l.end, l.epoch)
		l.cut, l.at = append(l.cut, l.end), append(l.at, len(l.bytes))
		l.bytes = append(l.bytes, stamped...)
		l.end += int64(s.Header().LastOffsetDelta) + 1
	}
}

func (l *memLog) Append(b []byte, epoch int32, done func(error)) {
	l.appends++
	if epoch != l.epoch {
		done(ErrNotLeader)
		return
	}
	if l.auto {
		l.write(b)
		l.committed = l.end
		done(nil)
		return
	}
	l.under = append(l.under, func(appended bool, err error) {
		if appended {
			l.write(b)
		}
		if err == nil {
			l.committed = l.end
		}
		done(err)
	})
}

// finish answers the oldest append.
func (l *memLog) finish(appended bool, err error) {
	f := l.under[0]
	l.under = l.under[1:]
	f(appended, err)
}

// records writes records as another coordinator would have left them.
func (l *memLog) records(t testing.TB, options batch.Options, keysAndValues ...[]byte) {
	t.Helper()
	b := batch.NewBuilder(options)
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		b.Append(1, keysAndValues[i], keysAndValues[i+1])
	}
	out, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	l.write(out)
	l.committed = l.end
}

// bench is a coordinator under the scheduler.
type bench struct {
	*Coordinator
	t     testing.TB
	s     *mailbox.Scheduler
	clock *clock.Virtual
	log   *memLog
	good  bool
}

const partitions = 1

func newBench(t testing.TB, seed uint64) *bench {
	b := &bench{t: t, clock: clock.NewVirtual(time.Unix(1_767_225_600, 0)), log: &memLog{epoch: 1, auto: true}, good: true}
	b.s = mailbox.NewScheduler(seed, b.clock)
	unique := 0
	b.Coordinator = New(Config{Limits: limits.Derive(256 << 20).Group}, Deps{
		Runtime: b.s, Partitions: func() int32 { return partitions },
		Settings:  func() group.Settings { s := group.DefaultSettings(); s.InitialDelay = 0; return s },
		GoodClock: func(clock.Now) bool { return b.good },
		Unique:    func() string { unique++; return fmt.Sprint("u", unique) },
	})
	t.Cleanup(b.Close)
	return b
}

// start leads the partition and waits until it answers.
func (b *bench) start() {
	b.t.Helper()
	b.Lead(0, b.log, b.log.epoch)
	if !b.s.RunUntil(time.Minute, func() bool {
		return b.ask(&group.Describe{Target: group.To("x")}).now().Failure() == kerr.GroupIDNotFound
	}) {
		b.t.Fatal("never active")
	}
}

// reply is an answer that may come later.
type reply struct {
	b *bench
	a group.Answer
}

func (r *reply) here() bool { return r.a != nil }

// now runs until the answer is there.
func (r *reply) now() group.Answer {
	r.b.t.Helper()
	if !r.b.s.RunUntil(time.Hour, r.here) {
		r.b.t.Fatal("never answered")
	}
	return r.a
}

func (b *bench) ask(q group.Request) *reply {
	r := &reply{b: b}
	b.Ask(b.t.Context(), q, func(a group.Answer) {
		if r.a != nil {
			b.t.Error("answered twice")
		}
		r.a = a
	})
	return r
}

func (b *bench) run(d time.Duration) { b.s.RunFor(d) }

func commit(g string, partition int32, offset int64) *group.Commit {
	return &group.Commit{Target: group.To(g), Version: 9, Generation: -1, Retention: -1, Topics: []group.CommitTopic{{
		Topic: "t", Partitions: []group.CommitPartition{{Partition: partition, Offset: offset, LeaderEpoch: -1}},
	}}}
}

// offsets reads what is committed.
func (b *bench) offsets(g string) map[int32]int64 {
	b.t.Helper()
	a := b.ask(&group.FetchOffsets{Target: group.To(g), All: true}).now().(*group.FetchAnswer)
	if a.Err != nil {
		b.t.Fatal(a.Err)
	}
	found := map[int32]int64{}
	for _, t := range a.Topics {
		for _, p := range t.Partitions {
			found[p.Partition] = p.Offset
		}
	}
	return found
}

func join(g, member string) *group.Join {
	return &group.Join{Target: group.To(g), Version: 3, MemberID: member, ClientID: "c", Session: 10 * time.Second, Rebalance: time.Minute,
		ProtocolType: "consumer", Protocols: []group.Protocol{{Name: "range"}}}
}

var errDisk = errors.New("disk is full")

// groupsForTest are groups without a partition.
func (b *bench) groupsForTest() *group.Groups {
	return group.New(group.DefaultSettings(), limits.Derive(0).Group)
}
