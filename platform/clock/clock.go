// Package clock gives time as a value. A reading holds a monotonic duration, on which deadlines are kept, and the wall
// clock, which may jump or lie and decides nothing about safety. Pure rules take a Now as an argument; only this package
// asks the operating system. It starts no goroutine.
package clock

import (
	"sync"
	"time"
)

// Now is one reading of both clocks of a box.
type Now struct {
	// Mono is the time since the clock was made. It never goes back. Zero means "no time": the first reading is later.
	Mono time.Duration
	// Wall is the calendar time that the box believes in.
	Wall time.Time
}

// UnixMilli is the wall time in milliseconds since 1970, the unit of Kafka's timestamps and of ZooKeeper's ctime.
func (n Now) UnixMilli() int64 { return n.Wall.UnixMilli() }

// Clock is read by whoever drives an owner, never by the owner itself.
type Clock interface {
	Now() Now
}

// System returns the clock of the operating system.
func System() Clock { return systemClock{start: time.Now().Add(-time.Nanosecond)} }

type systemClock struct{ start time.Time }

func (c systemClock) Now() Now {
	t := time.Now()
	return Now{Mono: t.Sub(c.start), Wall: t.Round(0)}
}

// Virtual is a clock that stands still until it is told to move.
type Virtual struct {
	mu  sync.Mutex // protects now; nothing is called while it is held
	now Now
}

// NewVirtual returns a clock that shows wall and a monotonic time of one second.
func NewVirtual(wall time.Time) *Virtual {
	return &Virtual{now: Now{Mono: time.Second, Wall: wall.Round(0)}}
}

// Now returns the present reading.
func (v *Virtual) Now() Now {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

// Advance moves both clocks forward by d; a negative d is ignored.
func (v *Virtual) Advance(d time.Duration) {
	if d <= 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now.Mono += d
	v.now.Wall = v.now.Wall.Add(d)
}

// JumpWall moves the wall clock alone, in either direction, as a wrong RTC or an NTP step does.
func (v *Virtual) JumpWall(d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now.Wall = v.now.Wall.Add(d)
}
