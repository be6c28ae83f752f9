package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"cairn/packaging/conformance/boxes"
)

// histories is the kind of round that runs mixed clients under faults of all kinds.
const histories = "histories"

// kinds are the faults that a round may have.
var kinds = []string{"kill", "oneway", "bothways", "flapping", "stop"}

const (
	holdMin     = 1500 * time.Millisecond // how long a fault stays
	holdMax     = 4 * time.Second
	stopHoldMin = time.Second
	stopHoldMax = 10 * time.Second
	leaderOdds  = 3 // of four faults of a link or a process so many meet the leader
)

// Fault is what happens in one round.
type Fault struct {
	Name string
	// Leader tells whether the box that leads may not go on leading: then it is measured how long no write is acknowledged.
	Leader bool
	// Begin breaks something, and returns when it is broken. Hold keeps it so: it waits, or goes on breaking. End repairs.
	Begin, End func() error
	Hold       func(ctx context.Context) error
}

// NewFault decides what a kind of fault does, by the seed's random numbers and who leads.
func NewFault(kind string, c *boxes.Cluster, leader int, random *rand.Rand) Fault {
	if kind == "kill" {
		return killing(c, leader, random)
	}
	victim, hitsLeader := leader, true
	if random.IntN(4) >= leaderOdds {
		victim, hitsLeader = 1+(leader+random.IntN(boxes.Count-1))%boxes.Count, false
	}
	if kind == "stop" {
		return stopping(c, victim, hitsLeader, random)
	}
	return cutting(kind, c, victim, hitsLeader, random)
}

// killing ends the leader's process and starts it again.
func killing(c *boxes.Cluster, leader int, random *rand.Rand) Fault {
	return Fault{
		Name: fmt.Sprintf("kill -9 of box %d, which leads", leader), Leader: true,
		Begin: func() error { c.Kill(leader); return nil },
		Hold:  boxes.Waiting(boxes.Between(random, holdMin, 2*holdMin)),
		End:   func() error { return c.Start(leader) },
	}
}

// stopping stops a process and lets it go on.
func stopping(c *boxes.Cluster, victim int, hitsLeader bool, random *rand.Rand) Fault {
	hold := boxes.Between(random, stopHoldMin, stopHoldMax)
	return Fault{
		Name: fmt.Sprintf("stop of box %d%s for %v", victim, leads(hitsLeader), hold.Round(time.Millisecond)), Leader: hitsLeader,
		Begin: func() error { return c.Halt(victim) },
		Hold:  boxes.Waiting(hold),
		End:   func() error { return c.Resume(victim) },
	}
}

func leads(hitsLeader bool) string {
	if hitsLeader {
		return ", which leads,"
	}
	return ""
}

// cutting drops what goes between a box and the others, or one of them.
func cutting(kind string, c *boxes.Cluster, victim int, hitsLeader bool, random *rand.Rand) Fault {
	cut := boxes.Part(kind, victim, random)
	hold := boxes.Between(random, holdMin, holdMax)
	f := Fault{
		Name: fmt.Sprintf("%s box %d%s and %v", cut.What, victim, leads(hitsLeader), cut.Others), Leader: hitsLeader && cut.All(),
		Begin: func() error { return c.Network.Set(cut.Links) },
		Hold:  boxes.Waiting(hold),
		End:   func() error { return c.Network.Set(boxes.Links{}) },
	}
	if kind == "flapping" {
		f.Name += ", flapping"
		f.Hold = boxes.Flapping(c.Network, cut.Links, hold, random)
	}
	return f
}
