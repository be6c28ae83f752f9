package mailbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cairn/platform/clock"
)

// ownerFunc makes a function an Owner.
type ownerFunc[M any] func(now clock.Now, batch []M) time.Duration

func (f ownerFunc[M]) Step(now clock.Now, batch []M) time.Duration { return f(now, batch) }

func TestThreadsDeliversInOrderAndCloseDrains(t *testing.T) {
	var got []int
	m := New(NewThreads(clock.System()), "t", 8, ownerFunc[int](func(_ clock.Now, batch []int) time.Duration {
		got = append(got, batch...)
		return 0
	}))
	for i := range 5000 {
		if err := m.Put(context.Background(), i); err != nil {
			t.Fatal(err)
		}
	}
	m.Close()
	if len(got) != 5000 {
		t.Fatalf("owner saw %d of 5000 messages", len(got))
	}
	for i, v := range got {
		if v != i {
			t.Fatalf("message %d is %d", i, v)
		}
	}
	if err := m.Send(1); !errors.Is(err, ErrClosed) {
		t.Fatalf("Send after Close: %v", err)
	}
	m.Close()
}

func TestSendRefusesWhenFullAndPostDoesNot(t *testing.T) {
	hold := make(chan struct{})
	entered := make(chan struct{}, 16)
	var seen atomic.Int64
	m := New(NewThreads(clock.System()), "t", 2, ownerFunc[int](func(_ clock.Now, batch []int) time.Duration {
		entered <- struct{}{}
		if len(batch) > 0 {
			<-hold
		}
		seen.Add(int64(len(batch)))
		return 0
	}))
	<-entered // the first, empty step
	if err := m.Send(1); err != nil {
		t.Fatal(err)
	}
	<-entered // the owner holds message 1
	for range 2 {
		if err := m.Send(2); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Send(3); !errors.Is(err, ErrFull) {
		t.Fatalf("third waiting message: %v", err)
	}
	m.Post(4)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.Put(ctx, 5); !errors.Is(err, context.Canceled) {
		t.Fatalf("Put with a cancelled context: %v", err)
	}
	close(hold)
	m.Close()
	if seen.Load() != 4 {
		t.Fatalf("owner saw %d messages, want 4", seen.Load())
	}
}

func TestThreadsWakesAtTheTimeAskedFor(t *testing.T) {
	c := clock.System()
	fired := make(chan clock.Now, 1)
	var due time.Duration
	m := New(NewThreads(c), "t", 1, ownerFunc[int](func(now clock.Now, _ []int) time.Duration {
		switch {
		case due == 0:
			due = now.Mono + 5*time.Millisecond
		case now.Mono >= due:
			fired <- now
			return 0
		}
		return due
	}))
	select {
	case now := <-fired:
		if now.Mono < due {
			t.Fatalf("woken at %v, before %v", now.Mono, due)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("never woken")
	}
	m.Close()
}

// trace runs three owners that pass messages, spawn work and set timers, and returns what happened.
func trace(seed uint64) string {
	var lines []string
	s := NewScheduler(seed, clock.NewVirtual(time.Unix(1, 0)))
	s.Trace = func(l string) { lines = append(lines, l) }
	var boxes [3]*Mailbox[int]
	for i := range boxes {
		boxes[i] = New(s, fmt.Sprint("o", i), 4, ownerFunc[int](func(now clock.Now, batch []int) time.Duration {
			for _, v := range batch {
				lines = append(lines, fmt.Sprintf("o%d got %d", i, v))
				if v > 0 {
					s.Spawn("work", func() {}, func() { boxes[(i+1)%3].Post(v - 1) })
				}
			}
			if now.Mono < 2*time.Second {
				return now.Mono + time.Duration(i+1)*100*time.Millisecond
			}
			return 0
		}))
	}
	for i, b := range boxes {
		_ = b.Send(5 + i)
	}
	s.RunFor(5 * time.Second)
	for _, b := range boxes {
		b.Close()
	}
	return strings.Join(lines, "\n")
}

func TestSchedulerReplaysASeed(t *testing.T) {
	a, b, other := trace(7), trace(7), trace(8)
	if a != b {
		t.Fatal("one seed, two traces")
	}
	if a == other {
		t.Fatal("two seeds, one trace: the seed decides nothing")
	}
	if !strings.Contains(a, "o0 got 0") && !strings.Contains(a, "o1 got 0") && !strings.Contains(a, "o2 got 0") {
		t.Fatalf("messages did not run down to zero:\n%s", a)
	}
}

// skewed is a clock whose wall time is another's and an hour ahead.
type skewed struct{ clock.Clock }

func (c skewed) Now() clock.Now {
	now := c.Clock.Now()
	now.Wall = now.Wall.Add(time.Hour)
	return now
}

// A group that is paused does nothing, whatever is due, and goes on where it was; others do not notice.
func TestGroupsPause(t *testing.T) {
	virtual := clock.NewVirtual(time.Unix(1, 0))
	s := NewScheduler(3, virtual)
	group := s.Group(skewed{virtual})
	group.Delay = func(string) time.Duration { return 50 * time.Millisecond }
	var got, other []int
	var wall time.Time
	held := New(group, "held", 8, ownerFunc[int](func(now clock.Now, batch []int) time.Duration {
		got, wall = append(got, batch...), now.Wall
		return now.Mono + time.Millisecond
	}))
	free := New(s, "free", 8, ownerFunc[int](func(_ clock.Now, batch []int) time.Duration {
		other = append(other, batch...)
		return 0
	}))
	s.RunFor(10 * time.Millisecond)
	if wall.Sub(virtual.Now().Wall) < 59*time.Minute {
		t.Errorf("the owner's wall clock shows %v, the group's is an hour ahead of %v", wall, virtual.Now().Wall)
	}
	worked := time.Duration(0)
	group.Spawn("work", func() { worked = virtual.Now().Mono }, nil)
	began := virtual.Now().Mono
	group.Pause(true)
	_, _ = held.Send(1), free.Send(2)
	s.RunFor(time.Second)
	if len(got) != 0 || worked != 0 || len(other) != 1 {
		t.Fatalf("while paused: %v arrived, worked at %v, the other got %v", got, worked, other)
	}
	group.Pause(false)
	s.RunFor(10 * time.Millisecond)
	if len(got) != 1 || worked < began+time.Second {
		t.Fatalf("after the pause: %v arrived, worked at %v", got, worked)
	}
	at := time.Duration(0)
	s.After(20*time.Millisecond, "later", func() { at = virtual.Now().Mono })
	due := virtual.Now().Mono + 20*time.Millisecond
	group.Spawn("slow", func() { worked = virtual.Now().Mono }, nil)
	asked := virtual.Now().Mono
	s.RunFor(time.Second)
	if at < due || at > due+5*time.Millisecond || worked < asked+50*time.Millisecond {
		t.Fatalf("due at %v and came at %v; asked at %v and worked at %v, after 50 ms at the earliest", due, at, asked, worked)
	}
	held.Close()
	free.Close()
}

func BenchmarkSend(b *testing.B) {
	b.ReportAllocs()
	m := New(NewThreads(clock.System()), "b", 4096, ownerFunc[int](func(clock.Now, []int) time.Duration { return 0 }))
	ctx := context.Background()
	for b.Loop() {
		if err := m.Put(ctx, 1); err != nil {
			b.Fatal(err)
		}
	}
	m.Close()
}
