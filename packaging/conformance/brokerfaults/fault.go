package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"cairn/packaging/conformance/boxes"
)

// kinds are the faults that a round may have; mixed chooses one of them.
var kinds = []string{"kill", "pair", "all", "stop", "oneway", "bothways", "flapping", "full", "storm", "wipe", "unmount"}

const mixed = "mixed"

const (
	downMax     = 4 * time.Second // that a killed box stays down
	holdMin     = time.Second     // how long another fault stays
	holdMax     = 5 * time.Second
	allBackMax  = time.Second // between the starts of boxes that were killed together
	fullHoldMin = 2 * time.Second
	// unmountedMin is how long a box runs on without its log directory before it is started there: twice that, and what another fault
	// may last, is around the time after which its replicas are made anew.
	unmountedMin = 2 * time.Second
	stormSteps   = 12
	stormMin     = 100 * time.Millisecond // between two of them
	stormMax     = 900 * time.Millisecond
)

// Fault is what happens in one round.
type Fault struct {
	Name string
	// Victim is the box whose partitions' times are measured: the others can lead them at once. 0 when there is none.
	Victim int
	// Begin breaks something, and returns when it is broken. Hold keeps it so: it waits, or goes on breaking. End repairs.
	Begin, End func() error
	Hold       func(ctx context.Context) error
	// MayEnd is a box that may end by itself meanwhile, 0 for none: one that can write nothing any more.
	MayEnd int
}

// Rig is what faults are made of.
type Rig struct {
	cluster *boxes.Cluster
	disks   *Disks // nil where boxes have none of their own
	leads   func(box int) bool
}

// NewFault decides what a kind of fault does, by the seed's random numbers and who leads.
func NewFault(kind string, rig Rig, random *rand.Rand) Fault {
	victim := 1 + random.IntN(boxes.Count)
	for range boxes.Count { // a box that leads nothing is missed by nobody
		if rig.leads(victim) {
			break
		}
		victim = victim%boxes.Count + 1
	}
	c := rig.cluster
	hold := boxes.Between(random, holdMin, holdMax)
	down := boxes.Between(random, 0, downMax)
	switch kind {
	case "kill", "wipe":
		f := Fault{
			Name: fmt.Sprintf("kill -9 of box %d, back after %v", victim, ms(down)), Victim: victim,
			Begin: func() error { c.Kill(victim); return nil }, Hold: boxes.Waiting(down), End: func() error { return c.Start(victim) },
		}
		if kind == "wipe" {
			f.Name += " without its log directory"
			f.End = func() error {
				if err := os.RemoveAll(topicsDir(c, victim)); err != nil {
					return err
				}
				return c.Start(victim)
			}
		}
		return f
	case "pair":
		other := 1 + (victim+random.IntN(boxes.Count-1))%boxes.Count
		return Fault{
			Name:  fmt.Sprintf("kill -9 of boxes %d and %d, back after %v", victim, other, ms(down)),
			Begin: func() error { c.KillAll(victim, other); return nil }, Hold: boxes.Waiting(down),
			End: starting(c, []int{victim, other}, random),
		}
	case "all":
		return Fault{
			Name:  "kill -9 of all boxes",
			Begin: func() error { c.KillAll(1, 2, 3); return nil }, Hold: boxes.Waiting(0),
			End: starting(c, random.Perm(boxes.Count), random),
		}
	case "stop":
		return Fault{
			Name: fmt.Sprintf("stop box %d for %v", victim, ms(hold)), Victim: victim,
			Begin: func() error { return c.Halt(victim) }, Hold: boxes.Waiting(hold), End: func() error { return c.Resume(victim) },
		}
	case "full":
		hold += fullHoldMin
		return Fault{
			Name: fmt.Sprintf("the disk of box %d is full for %v", victim, ms(hold)), MayEnd: victim,
			Begin: func() error { return rig.disks.Fill(victim) }, Hold: boxes.Waiting(hold),
			End: func() error { // what could not be written is only tried again by a new start
				if err := rig.disks.Free(victim); err != nil {
					return err
				}
				c.Kill(victim)
				return c.Start(victim)
			},
		}
	case "storm":
		return storming(c, random)
	case "unmount":
		return unmounting(c, victim, hold, random)
	default:
		return cutting(kind, c, victim, hold, random)
	}
}

// unmounting takes the file system of a box's logs away under its process, as umount -l does: open files stay, every path leads to an
// empty mount point, which may be read-only. Half the boxes are started on it too. In the end all is mounted again, and the box started.
func unmounting(c *boxes.Cluster, victim int, hold time.Duration, random *rand.Rand) Fault {
	readOnly, again := random.IntN(2) == 0, random.IntN(2) == 0
	what, after := "a writable", ""
	if readOnly {
		what = "a read-only"
	}
	if again {
		hold += 2 * unmountedMin
		after = fmt.Sprintf(", and killed and started on it after %v", unmountedMin)
	}
	ended := func() error {
		if c.Ended(victim) {
			return fmt.Errorf("box %d ended by itself without its log directory: %w", victim, c.Crashed())
		}
		return nil
	}
	covered := false // also for the next process
	return Fault{
		Name:   fmt.Sprintf("the log directory of box %d is unmounted for %v, %s mount point is left%s", victim, ms(hold), what, after),
		Victim: victim,
		Begin:  func() error { return cover(c.PID(victim), topicsDir(c, victim), readOnly) },
		Hold: func(ctx context.Context) error {
			if !again {
				return boxes.Waiting(hold)(ctx)
			}
			boxes.Pause(ctx, unmountedMin)
			if err := ended(); err != nil {
				return err
			}
			c.Kill(victim)
			if err := cover(os.Getpid(), topicsDir(c, victim), readOnly); err != nil {
				return err
			}
			covered = true
			if err := c.Start(victim); err != nil {
				return err
			}
			return boxes.Waiting(hold - unmountedMin)(ctx)
		},
		End: func() error {
			var err error
			if !covered || !readOnly { // a box does not start where it can write nothing
				err = ended()
			}
			c.Kill(victim) // what it had mounted over its logs ends with its namespace
			if covered {
				err = errors.Join(err, command("umount", topicsDir(c, victim)))
			}
			return errors.Join(err, c.Start(victim))
		},
	}
}

// storming kills and starts boxes and cuts and heals their links, one after the other, without waiting until all is whole.
func storming(c *boxes.Cluster, random *rand.Rand) Fault {
	type act struct {
		box   int
		links boxes.Links
		cut   bool
		pause time.Duration
	}
	var acts []act
	for range stormSteps {
		a := act{box: 1 + random.IntN(boxes.Count), pause: boxes.Between(random, stormMin, stormMax)}
		if a.cut = random.IntN(3) == 0; a.cut && random.IntN(3) > 0 {
			mute := random.IntN(2) == 0
			a.links = boxes.Cut(a.box, []int{1 + a.box%boxes.Count, 1 + (a.box+1)%boxes.Count}, mute, !mute || random.IntN(2) == 0)
		}
		acts = append(acts, a)
	}
	down := map[int]bool{}
	toggle := func(box int) error {
		if down[box] = !down[box]; down[box] {
			c.Kill(box)
			return nil
		}
		return c.Start(box)
	}
	return Fault{
		Name:  fmt.Sprintf("%d kills, starts and cuts, first of box %d", stormSteps, acts[0].box),
		Begin: func() error { return nil },
		Hold: func(ctx context.Context) error {
			for _, a := range acts {
				err := ctx.Err()
				if a.cut && err == nil {
					err = c.Network.Set(a.links)
				} else if err == nil {
					err = toggle(a.box)
				}
				if err != nil {
					return err
				}
				boxes.Pause(ctx, a.pause)
			}
			return ctx.Err()
		},
		End: func() error {
			if err := c.Network.Set(boxes.Links{}); err != nil {
				return err
			}
			for box := 1; box <= boxes.Count; box++ {
				if down[box] {
					if err := toggle(box); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// starting starts boxes in an order, with pauses between.
func starting(c *boxes.Cluster, order []int, random *rand.Rand) func() error {
	var pauses []time.Duration
	for range order {
		pauses = append(pauses, boxes.Between(random, 0, allBackMax))
	}
	base := 0
	for _, box := range order {
		if box == 0 {
			base = 1 // a permutation counts from 0
		}
	}
	return func() error {
		for i, box := range order {
			if err := c.Start(box + base); err != nil {
				return err
			}
			if i < len(order)-1 {
				time.Sleep(pauses[i])
			}
		}
		return nil
	}
}

// cutting drops what goes between a box and the others, or one of them.
func cutting(kind string, c *boxes.Cluster, victim int, hold time.Duration, random *rand.Rand) Fault {
	cut, measured := boxes.Part(kind, victim, random), 0
	if cut.All() {
		measured = victim
	}
	f := Fault{
		Name: fmt.Sprintf("%s box %d and %v for %v", cut.What, victim, cut.Others, ms(hold)), Victim: measured,
		Begin: func() error { return c.Network.Set(cut.Links) }, Hold: boxes.Waiting(hold), End: func() error { return c.Network.Set(boxes.Links{}) },
	}
	if kind == "flapping" {
		f.Name, f.Victim = f.Name+", flapping", 0
		f.Hold = boxes.Flapping(c.Network, cut.Links, hold, random)
	}
	return f
}

func topicsDir(c *boxes.Cluster, box int) string {
	return filepath.Join(c.Data(box), "cairn", "topics")
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
