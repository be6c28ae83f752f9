package keeper

import (
	"fmt"
	"time"
)

// Config says how long things may last.
type Config struct {
	// Tick is ZooKeeper's tickTime: sessions expire at its multiples, so at most one Tick late.
	Tick time.Duration
	// ContainerCheckInterval is znode.container.checkIntervalMs: how often containers and TTL nodes are looked through.
	ContainerCheckInterval time.Duration
	// ContainersPerMinute is znode.container.maxPerMinute: at most so many are deleted.
	ContainersPerMinute int
	// ContainerNeverUsed is znode.container.maxNeverUsedIntervalMs: from this age on, a container that never had a child
	// goes too. 0, the default of 3.9.5, keeps it for ever.
	ContainerNeverUsed time.Duration
	// BoxLease is how long a box may be silent before its registration ends.
	BoxLease time.Duration
	// BoxSilence is how long another box may be silent before it counts as one that cannot report who was heard. It is more
	// than the time between two reports.
	BoxSilence time.Duration
	// BoxAnswers is how long a silent box may go on answering its clients, which then kept their heartbeat.
	BoxAnswers time.Duration
	// SelfBox is this box, whose registration holds while the process lives. 0 is none.
	SelfBox uint64
	// ProposalsMax bounds the entries of one Step.
	ProposalsMax int
}

// Default is ZooKeeper 3.9.5's.
func Default() Config {
	return Config{
		Tick:                   2 * time.Second,
		ContainerCheckInterval: time.Minute,
		ContainersPerMinute:    10000,
		BoxLease:               1500 * time.Millisecond,
		BoxSilence:             500 * time.Millisecond,
		BoxAnswers:             2 * time.Second,
		ProposalsMax:           256,
	}
}

// Validate reports the first value that makes no sense.
func (c Config) Validate() error {
	switch {
	case c.Tick < time.Millisecond:
		return fmt.Errorf("tick %v: at least 1 ms", c.Tick)
	case c.ContainerCheckInterval < time.Millisecond:
		return fmt.Errorf("container check interval %v: at least 1 ms", c.ContainerCheckInterval)
	case c.ContainersPerMinute < 1:
		return fmt.Errorf("containers per minute %d: at least 1", c.ContainersPerMinute)
	case c.ContainerNeverUsed < 0:
		return fmt.Errorf("container never-used interval %v is negative", c.ContainerNeverUsed)
	case c.BoxLease < time.Millisecond:
		return fmt.Errorf("box lease %v: at least 1 ms", c.BoxLease)
	case c.BoxSilence < time.Millisecond || c.BoxAnswers < 0:
		return fmt.Errorf("box silence %v, box answers %v: at least 1 ms, and not negative", c.BoxSilence, c.BoxAnswers)
	case c.ProposalsMax < 1:
		return fmt.Errorf("proposals of one step %d: at least 1", c.ProposalsMax)
	}
	return nil
}
