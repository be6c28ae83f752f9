package mailbox

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"cairn/platform/clock"
)

// Scheduler drives all owners of a test on the goroutine that calls Run, in an order that only the seed decides, on a
// virtual clock. It is not safe for concurrent use: the test, the owners and the spawned work all run on one goroutine, or others take
// their turns while that one waits for them, as in a bubble of testing/synctest.
type Scheduler struct {
	turns atomic.Uint64 // see Pass
	clock *clock.Virtual
	rand  *rand.Rand
	tasks []*scheduled
	works laterWorks // not due yet
	due   []work
	count uint64 // of works
	ready []int  // of the present step
	// Trace, when set, is told of each step before it is taken.
	Trace func(line string)
	steps int
}

type work struct {
	name string
	run  func()
	then func()
	at   time.Duration
	nth  uint64 // of two with one time the older comes first
	// group that it belongs to, or nil.
	group *Group
}

// laterWorks is a heap, the earliest first.
type laterWorks []work

// Len implements heap.Interface.
func (h laterWorks) Len() int { return len(h) }

// Less implements heap.Interface.
func (h laterWorks) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].nth < h[j].nth
}

// Swap implements heap.Interface.
func (h laterWorks) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *laterWorks) Push(x any) { *h = append(*h, x.(work)) }

// Pop implements heap.Interface.
func (h *laterWorks) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = work{}
	*h = (*h)[:last]
	return w
}

// NewScheduler returns a scheduler whose every choice follows from seed.
func NewScheduler(seed uint64, c *clock.Virtual) *Scheduler {
	return &Scheduler{clock: c, rand: rand.New(rand.NewPCG(seed, 0x6361_6972_6e))}
}

// Pass tells the race detector that whoever calls it takes a turn behind all others who have called it, and before all who will. The
// scheduler does it itself; a test does where goroutines of its own touch what is the test's.
func (s *Scheduler) Pass() { s.turns.Add(1) }

// Clock is the virtual clock.
func (s *Scheduler) Clock() clock.Clock { return s.clock }

// Rand is the scheduler's source of choices, for tests that want their faults from the same seed.
func (s *Scheduler) Rand() *rand.Rand { return s.rand }

// Spawn queues the work; it runs, whole, at a moment that the seed chooses within a few virtual milliseconds.
func (s *Scheduler) Spawn(name string, run func(), then func()) {
	s.enqueue(work{name: name, run: run, then: then, at: s.clock.Now().Mono + s.delay()})
}

// After queues work of the test's own, such as a message on its way, for a time from now.
func (s *Scheduler) After(wait time.Duration, name string, run func()) {
	s.enqueue(work{name: name, run: run, at: s.clock.Now().Mono + max(wait, 0)})
}

// delay is how long a work of no particular kind takes to begin.
func (s *Scheduler) delay() time.Duration {
	s.Pass()
	defer s.Pass()
	return time.Duration(s.rand.Int64N(int64(3 * time.Millisecond)))
}

func (s *Scheduler) enqueue(w work) {
	s.Pass()
	defer s.Pass()
	s.count++
	w.nth = s.count
	heap.Push(&s.works, w)
}

func (s *Scheduler) drive(t task) driver { return s.add(t, nil) }

func (s *Scheduler) add(t task, g *Group) *scheduled {
	s.Pass()
	defer s.Pass()
	d := &scheduled{s: s, task: t, group: g}
	s.tasks = append(s.tasks, d)
	return d
}

// scheduled is one owner under the scheduler.
type scheduled struct {
	s        *Scheduler
	task     task
	group    *Group // nil: the Scheduler's own
	runnable bool
	wake     time.Duration
	done     bool
}

func (d *scheduled) wakeUp() {
	d.s.Pass()
	d.runnable = true
	d.s.Pass()
}

func (d *scheduled) waits() bool { return false }

// join steps this owner alone until it is done: closing is an orderly act of the test, not a race.
func (d *scheduled) join() {
	for range 1 << 20 {
		d.s.Pass()
		if d.done {
			return
		}
		d.s.stepTask(d)
	}
	panic(fmt.Sprintf("mailbox: %s does not finish after Close", d.task.name()))
}

// Step takes one step: a runnable owner or a due work, chosen by the seed. When nothing can run it moves the clock to
// the next wake-up or work. It reports false when nothing is left to wait for.
func (s *Scheduler) Step() bool { return s.stepBefore(0) }

// stepBefore is Step, but does not move the clock beyond limit; 0 is no limit.
func (s *Scheduler) stepBefore(limit time.Duration) bool {
	s.Pass()
	defer s.Pass()
	now := s.clock.Now().Mono
	for len(s.works) > 0 && s.works[0].at <= now {
		s.due = append(s.due, heap.Pop(&s.works).(work))
	}
	ready := s.ready[:0]
	next := time.Duration(0)
	if len(s.works) > 0 {
		next = s.works[0].at
	}
	for i, d := range s.tasks {
		switch {
		case d.done || d.group != nil && d.group.paused:
		case d.runnable || d.wake != 0 && d.wake <= now:
			ready = append(ready, i)
		case d.wake != 0 && (next == 0 || d.wake < next):
			next = d.wake
		}
	}
	for i := range s.due {
		if w := &s.due[i]; w.group == nil || !w.group.paused {
			ready = append(ready, len(s.tasks)+i)
		}
	}
	s.ready = ready
	if len(ready) == 0 {
		if next == 0 || limit != 0 && next > limit {
			return false
		}
		s.clock.Advance(next - now)
		return true
	}
	s.steps++
	pick := ready[s.rand.IntN(len(ready))]
	if pick < len(s.tasks) {
		s.stepTask(s.tasks[pick])
		return true
	}
	s.runWork(pick - len(s.tasks))
	return true
}

func (s *Scheduler) stepTask(d *scheduled) {
	s.Pass()
	defer s.Pass()
	d.runnable = false
	if s.Trace != nil {
		s.Trace(fmt.Sprintf("%d %v step %s", s.steps, s.clock.Now().Mono, d.task.name()))
	}
	now := s.clock.Now()
	if d.group != nil {
		now = d.group.clock.Now()
	}
	more, wake, done := d.task.step(now)
	d.wake, d.done = wake, done
	if more {
		d.runnable = true
	}
	if done {
		s.forget(d)
	}
}

func (s *Scheduler) forget(d *scheduled) {
	for i, t := range s.tasks {
		if t == d {
			s.tasks = append(s.tasks[:i], s.tasks[i+1:]...)
			return
		}
	}
}

func (s *Scheduler) runWork(i int) {
	w := s.due[i]
	s.due = slices.Delete(s.due, i, i+1)
	if s.Trace != nil {
		s.Trace(fmt.Sprintf("%d %v work %s", s.steps, s.clock.Now().Mono, w.name))
	}
	w.run()
	if w.then != nil {
		w.then()
	}
}

// RunUntil steps until cond holds or the virtual time limit has passed, and reports whether cond held.
func (s *Scheduler) RunUntil(limit time.Duration, cond func() bool) bool {
	end := s.clock.Now().Mono + limit
	for !cond() {
		if s.clock.Now().Mono > end {
			return false
		}
		if !s.Step() {
			return cond()
		}
	}
	return true
}

// RunFor steps until d of virtual time has passed. Time passes even when nothing is left to do.
func (s *Scheduler) RunFor(d time.Duration) {
	end := s.clock.Now().Mono + d
	for s.clock.Now().Mono < end {
		if !s.stepBefore(end) {
			break
		}
	}
	if left := end - s.clock.Now().Mono; left > 0 {
		s.clock.Advance(left)
	}
}
