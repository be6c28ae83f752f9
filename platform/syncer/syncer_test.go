package syncer

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cairn/platform/clock"
	"cairn/platform/mailbox"
)

// file counts what was written and what a flush made durable.
type file struct {
	name             string
	written, flushed int
	flushes          int
	err              error
	trace            *[]string
}

func (f *file) Flush() error {
	f.flushes++
	*f.trace = append(*f.trace, f.name)
	if f.err != nil {
		return f.err
	}
	f.flushed = f.written
	return nil
}

func scheduler(seed uint64) *mailbox.Scheduler {
	return mailbox.NewScheduler(seed, clock.NewVirtual(time.Unix(1, 0)))
}

func TestManySubmissionsShareOneFlush(t *testing.T) {
	s := scheduler(1)
	var trace []string
	f := &file{name: "f", trace: &trace}
	sy := New(s, Config{Name: "d"})
	answered := 0
	for range 64 {
		f.written++
		sy.Submit(Log, f, func(err error) {
			if err != nil {
				t.Error(err)
			}
			answered++
		})
	}
	if !s.RunUntil(time.Second, func() bool { return answered == 64 }) {
		t.Fatalf("%d of 64 answered", answered)
	}
	if f.flushes != 1 {
		t.Fatalf("64 submissions took %d flushes, want 1", f.flushes)
	}
	sy.Close()
}

// Every answer must come after a flush that began after the submission, whatever the order of steps.
func TestAnswerCoversWhatWasWrittenBefore(t *testing.T) {
	for seed := range uint64(200) {
		s := scheduler(seed)
		var trace []string
		files := []*file{{name: "a", trace: &trace}, {name: "b", trace: &trace}, {name: "c", trace: &trace}}
		sy := New(s, Config{Name: "d", ParallelMax: 2})
		open := 0
		for range 100 {
			f := files[s.Rand().IntN(len(files))]
			f.written++
			want := f.written
			open++
			sy.Submit(Class(s.Rand().IntN(int(classes))), f, func(error) {
				open--
				if f.flushed < want {
					t.Errorf("seed %d: %s answered at %d, flushed %d", seed, f.name, want, f.flushed)
				}
			})
			for range s.Rand().IntN(4) {
				s.Step()
			}
		}
		if !s.RunUntil(time.Minute, func() bool { return open == 0 }) {
			t.Fatalf("seed %d: %d never answered", seed, open)
		}
		sy.Close()
	}
}

func TestRaftGoesFirstInARoundOfItsOwn(t *testing.T) {
	s := scheduler(3)
	var trace []string
	sy := New(s, Config{Name: "d"})
	left := 3
	done := func(error) { left-- }
	for i := range 2 {
		sy.Submit(Log, &file{name: fmt.Sprint("log", i), trace: &trace}, done)
	}
	sy.Submit(Raft, &file{name: "raft", trace: &trace}, done)
	s.RunUntil(time.Second, func() bool { return left == 0 })
	if len(trace) != 3 || trace[0] != "raft" {
		t.Fatalf("order of flushes: %s", strings.Join(trace, " "))
	}
	sy.Close()
}

func TestAnErrorIsToldToAllOfThatJobAndNotRetried(t *testing.T) {
	s := scheduler(4)
	var trace []string
	broken := errors.New("input/output error")
	bad, good := &file{name: "bad", err: broken, trace: &trace}, &file{name: "good", trace: &trace}
	sy := New(s, Config{Name: "d"})
	var got []error
	for range 2 {
		sy.Submit(Log, bad, func(err error) { got = append(got, err) })
	}
	sy.Submit(Log, good, func(err error) { got = append(got, err) })
	s.RunUntil(time.Second, func() bool { return len(got) == 3 })
	failures := 0
	for _, err := range got {
		if errors.Is(err, broken) {
			failures++
		}
	}
	if failures != 2 || bad.flushes != 1 {
		t.Fatalf("failures %d, flushes of the bad file %d", failures, bad.flushes)
	}
	sy.Close()
	sy.Submit(Log, good, func(err error) {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// A raft log that always has something to flush must not keep the partitions' files from their turn.
func TestRaftDoesNotStarveTheOthers(t *testing.T) {
	s := scheduler(5)
	var trace []string
	raft := &file{name: "raft", trace: &trace}
	sy := New(s, Config{Name: "d"})
	answered := false
	var again func(error)
	again = func(err error) {
		if err == nil {
			sy.Submit(Raft, raft, again)
		}
	}
	sy.Submit(Raft, raft, again)
	sy.Submit(Log, &file{name: "log", trace: &trace}, func(err error) { answered = err == nil })
	s.RunUntil(time.Second, func() bool { return answered || raft.flushes > 1000 })
	if !answered {
		t.Fatalf("%d flushes of the raft log and none of the partition's", raft.flushes)
	}
	sy.Close()
}

// Close answers everybody once: the round under way with its outcome, the others with ErrClosed.
func TestCloseAnswersEverybody(t *testing.T) {
	for seed := range uint64(100) {
		s := scheduler(seed)
		var trace []string
		sy := New(s, Config{Name: "d", ParallelMax: 2})
		answers := make([][]error, 12)
		for i := range answers {
			f := &file{name: fmt.Sprint(i), trace: &trace}
			sy.Submit(Class(i%int(classes)), f, func(err error) { answers[i] = append(answers[i], err) })
			for range s.Rand().IntN(3) {
				s.Step()
			}
		}
		sy.Close()
		sy.Close()
		for i, a := range answers {
			if len(a) != 1 || a[0] != nil && !errors.Is(a[0], ErrClosed) {
				t.Fatalf("seed %d: submission %d was answered %v", seed, i, a)
			}
		}
		flushed := len(trace)
		s.RunFor(time.Second)
		if len(trace) != flushed {
			t.Fatalf("seed %d: a flush after Close", seed)
		}
	}
}

// slow is a job that ends when it is told to.
type slow struct{ begun, end chan struct{} }

func (j *slow) Flush() error {
	close(j.begun)
	<-j.end
	return nil
}

func TestCloseWaitsForTheRoundUnderWay(t *testing.T) {
	sy := New(mailbox.NewThreads(clock.System()), Config{Name: "d"})
	j := &slow{begun: make(chan struct{}), end: make(chan struct{})}
	ended := make(chan error, 1)
	sy.Submit(Log, j, func(err error) { ended <- err })
	<-j.begun
	closed := make(chan struct{})
	go func() {
		sy.Close()
		close(closed)
	}()
	select {
	case <-closed:
		t.Fatal("closed while a flush was under way")
	case <-time.After(50 * time.Millisecond):
	}
	close(j.end)
	<-closed
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// What nobody waits for is flushed beside the rounds of the others, one file at a time, and both kinds of askers for one file get
// their answer.
func TestWhoIsBehindHoldsNobodyUp(t *testing.T) {
	sy := New(mailbox.NewThreads(clock.System()), Config{Name: "d"})
	first, second := &slow{begun: make(chan struct{}), end: make(chan struct{})}, &slow{begun: make(chan struct{}), end: make(chan struct{})}
	behind := make(chan error, 3)
	for _, j := range []*slow{first, second} {
		sy.Submit(Behind, j, func(err error) { behind <- err })
	}
	<-first.begun
	var trace []string
	for _, class := range []Class{Log, Raft, Checkpoint} {
		done := make(chan error, 1)
		sy.Submit(class, &file{name: "f", trace: &trace}, func(err error) { done <- err })
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it waits for who is behind")
		}
	}
	select {
	case <-second.begun:
		t.Error("two that are behind are flushed at the same time")
	default:
	}
	close(first.end)
	<-second.begun
	close(second.end)
	for range 2 {
		if err := <-behind; err != nil {
			t.Fatal(err)
		}
	}
	f := &file{name: "both", trace: &trace, written: 1}
	left := make(chan error, 2)
	sy.Submit(Behind, f, func(err error) { left <- err })
	if err := <-left; err != nil || f.flushed != 1 {
		t.Fatalf("%v, flushed %d", err, f.flushed)
	}
	sy.Close()
}

func BenchmarkSubmit(b *testing.B) {
	b.ReportAllocs()
	rt := mailbox.NewThreads(clock.System())
	sy := New(rt, Config{Name: "d"})
	var trace []string
	f := &file{name: "f", trace: &trace}
	done := make(chan struct{}, 1024)
	for b.Loop() {
		sy.Submit(Log, f, func(error) { done <- struct{}{} })
		<-done
		trace = trace[:0]
	}
	sy.Close()
}
