package boxes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Step is so many rounds of one kind.
type Step struct {
	Kind  string
	Count int
}

// ParsePlan reads KIND:COUNT with commas between.
func ParsePlan(plan string, kinds []string) (steps []Step, err error) {
	for part := range strings.SplitSeq(plan, ",") {
		kind, count, _ := strings.Cut(part, ":")
		n, err := strconv.Atoi(count)
		if !slices.Contains(kinds, kind) || err != nil || n < 1 || n > 10000 {
			return nil, fmt.Errorf("-plan %q: want KIND:COUNT with commas between, KIND one of %s", plan, strings.Join(kinds, ", "))
		}
		steps = append(steps, Step{kind, n})
	}
	return steps, nil
}

// Between is a time in [low, high) that the random numbers choose.
func Between(random *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(random.Int64N(int64(high-low)))
}

// Pause waits, unless ctx ends first.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Waiting keeps a fault for so long.
func Waiting(hold time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		Pause(ctx, hold)
		return ctx.Err()
	}
}

// Parting is a cut between a box and the others, or one of them.
type Parting struct {
	Links  Links
	Others []int
	// What passes no more, in words, up to the names of the boxes.
	What string
}

// All tells whether the box is cut off from all others.
func (p Parting) All() bool { return len(p.Others) == Count-1 }

// Part chooses what is cut: from one of the others alone in a quarter of the cases, and one way where the kind is "oneway".
func Part(kind string, victim int, random *rand.Rand) Parting {
	var p Parting
	for box := 1; box <= Count; box++ {
		if box != victim {
			p.Others = append(p.Others, box)
		}
	}
	if random.IntN(4) == 0 {
		i := random.IntN(len(p.Others))
		p.Others = p.Others[i : i+1]
	}
	mute, deaf := true, true
	if kind == "oneway" {
		mute = random.IntN(2) == 0
		deaf = !mute
	}
	p.Links = Cut(victim, p.Others, mute, deaf)
	p.What = map[[2]bool]string{{true, true}: "nothing passes between", {true, false}: "nothing arrives from", {false, true}: "nothing arrives at"}[[2]bool{mute, deaf}]
	return p
}

// How long a flapping link is up, or down.
const (
	flapMin = 100 * time.Millisecond
	flapMax = 400 * time.Millisecond
)

// Flapping heals and cuts links again and again, and leaves them as its last turn does.
func Flapping(n *Network, links Links, hold time.Duration, random *rand.Rand) func(context.Context) error {
	var turns []time.Duration
	for sum := time.Duration(0); sum < hold; sum += turns[len(turns)-1] {
		turns = append(turns, Between(random, flapMin, flapMax))
	}
	return func(ctx context.Context) error {
		for i, turn := range turns {
			Pause(ctx, turn)
			next := Links{}
			if i%2 == 1 {
				next = links
			}
			if err := n.Set(next); err != nil {
				return err
			}
		}
		return ctx.Err()
	}
}
