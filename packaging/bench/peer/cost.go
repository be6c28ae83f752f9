package main

import (
	"time"

	"cairn/packaging/bench/fleet"
)

// cost is what the servers have used between two marks.
type cost struct {
	cpu     time.Duration
	written uint64 // bytes towards the disk, as the kernel counts them
	failed  error
}

// of marks the beginning and the end of what a fleet is to be charged.
func (c *cost) of(f *fleet.Fleet) func(begin bool) {
	return func(begin bool) {
		cpu, err := f.CPU()
		if err != nil {
			c.failed = err
		}
		written, err := f.Written()
		if err != nil {
			c.failed = err
		}
		if begin {
			c.cpu, c.written = cpu, written
		} else {
			c.cpu, c.written = cpu-c.cpu, written-c.written
		}
	}
}

// perOperation is the processor time of all servers for one of so many operations, in microseconds.
func (c *cost) perOperation(operations uint64) float64 {
	return c.cpu.Seconds() * 1e6 / float64(max(operations, 1))
}
