package mailbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"cairn/platform/clock"
)

// Errors of sending.
var (
	// ErrFull means that the owner has its maximum of messages waiting. The sender slows down or refuses its own caller.
	ErrFull = errors.New("mailbox full")
	// ErrClosed means that the owner takes no more messages.
	ErrClosed = errors.New("mailbox closed")
)

// Owner is the one thing that touches some state. Step is never called by two goroutines at a time.
type Owner[M any] interface {
	// Step takes the messages that have arrived, in order, and returns the monotonic time at which it wants to be
	// stepped again although nothing arrived; zero means never. The batch and its memory are valid during the call only.
	// A wake-up time that has passed means "at once", after messages that have meanwhile arrived.
	Step(now clock.Now, batch []M) (wake time.Duration)
}

// Runtime drives owners. There are two: Threads and Scheduler.
type Runtime interface {
	// Clock is the clock that the runtime's owners live by.
	Clock() clock.Clock
	// Spawn runs blocking leaf work off the owners and then calls then, which must only post a message. The number of
	// works under way is bounded by whoever spawns.
	Spawn(name string, work func(), then func())

	drive(t task) driver
}

// task is what a runtime sees of a mailbox.
type task interface {
	name() string
	// step runs the owner once over what has arrived. It reports whether messages were left behind, when the owner wants
	// to be woken, and whether the mailbox is closed and empty.
	step(now clock.Now) (more bool, wake time.Duration, done bool)
}

// driver is what a mailbox sees of its runtime.
type driver interface {
	// wakeUp says that a message has arrived or that the mailbox was closed.
	wakeUp()
	// join waits until step has reported done.
	join()
	// waits reports whether Put may wait for space.
	waits() bool
}

// stepMessagesMax bounds one Step's batch, so that a flood of messages cannot keep timers from being seen.
const stepMessagesMax = 1024

// Mailbox is a bounded queue in front of an Owner.
type Mailbox[M any] struct {
	label    string
	owner    Owner[M]
	capacity int
	driver   driver

	mu     sync.Mutex // protects the fields below; nothing is called while it is held
	queue  []M
	spare  []M
	space  chan struct{} // closed and replaced when a step made room; nil while nobody waits
	closed bool
}

// New makes a mailbox of at most capacity waiting messages and starts driving the owner. The owner is first stepped,
// with an empty batch, before any message is delivered, so that it can say when it wants to wake.
func New[M any](rt Runtime, name string, capacity int, owner Owner[M]) *Mailbox[M] {
	m := &Mailbox[M]{label: name, owner: owner, capacity: max(capacity, 1)}
	m.driver = rt.drive(m)
	m.driver.wakeUp()
	return m
}

// Send queues a message, or returns ErrFull or ErrClosed. It never blocks.
func (m *Mailbox[M]) Send(msg M) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	if len(m.queue) >= m.capacity {
		m.mu.Unlock()
		return ErrFull
	}
	m.push(msg)
	return nil
}

// Post queues the completion of something that the owner itself asked for. It is never refused for want of space: what
// the owner has asked for is bounded where it asks. After Close the message is dropped.
func (m *Mailbox[M]) Post(msg M) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	m.push(msg)
}

// push appends and unlocks. Only the first message of a batch needs to wake the owner: the driver keeps the signal.
func (m *Mailbox[M]) push(msg M) {
	first := len(m.queue) == 0
	m.queue = append(m.queue, msg)
	m.mu.Unlock()
	if first {
		m.driver.wakeUp()
	}
}

// Put queues a message and waits while the mailbox is full. It is for connection goroutines, never for an owner: an
// owner that waits for another may wait for itself. Under the Scheduler it does not wait and may return ErrFull.
func (m *Mailbox[M]) Put(ctx context.Context, msg M) error {
	for {
		err := m.Send(msg)
		if !errors.Is(err, ErrFull) || !m.driver.waits() {
			return err
		}
		m.mu.Lock()
		if len(m.queue) < m.capacity || m.closed {
			m.mu.Unlock()
			continue
		}
		if m.space == nil {
			m.space = make(chan struct{})
		}
		space := m.space
		m.mu.Unlock()
		select {
		case <-space:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Len is the number of messages that wait.
func (m *Mailbox[M]) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.queue)
}

// Close refuses further messages, lets the owner see those that wait, and returns when it has. It must not be called
// from the owner's own Step. Closing twice is allowed.
func (m *Mailbox[M]) Close() {
	m.mu.Lock()
	m.closed = true
	if m.space != nil {
		close(m.space)
		m.space = nil
	}
	m.mu.Unlock()
	m.driver.wakeUp()
	m.driver.join()
}

func (m *Mailbox[M]) name() string { return m.label }

func (m *Mailbox[M]) step(now clock.Now) (more bool, wake time.Duration, done bool) {
	m.mu.Lock()
	batch := m.queue
	var rest []M
	if len(batch) > stepMessagesMax {
		batch, rest = batch[:stepMessagesMax:stepMessagesMax], batch[stepMessagesMax:]
	}
	m.queue = append(m.spare[:0], rest...)
	m.spare = nil
	if m.space != nil && len(m.queue) < m.capacity {
		close(m.space)
		m.space = nil
	}
	closed := m.closed
	m.mu.Unlock()

	if len(batch) > 0 || !closed {
		wake = m.owner.Step(now, batch)
	}

	clear(batch)
	m.mu.Lock()
	defer m.mu.Unlock()
	if cap(batch) <= 4*stepMessagesMax { // a burst's memory is given back
		m.spare = batch[:0]
	}
	more = len(m.queue) > 0
	return more, wake, closed && !more
}
