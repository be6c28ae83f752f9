package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cairn/packaging/conformance/boxes"
)

func account() *Account { return NewLedger(1).Accounts[0] }

// write tries the next number, and has it acknowledged as the version.
func write(a *Account, version int32, zxid int64) error {
	n, _ := a.attempt()
	return a.acked(n, version, Ack{Zxid: zxid})
}

func TestAnAccountKnowsWhatMustBeThere(t *testing.T) {
	a := account()
	for i := range 3 {
		if err := write(a, int32(i+1), int64(10+i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.found(3, 3, 12); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		number  int
		version int32
		zxid    int64
	}{
		"lost":                  {2, 2, 11},
		"done twice":            {3, 4, 13},
		"of nobody":             {9, 4, 13},
		"with another zxid":     {3, 3, 13},
		"of an older zxid":      {4, 4, 5},
		"that was skipped over": {4, 5, 14},
	} {
		b := account()
		for i := range 3 {
			_ = write(b, int32(i+1), int64(10+i))
		}
		b.attempt() // 4, in doubt
		if b.found(c.number, c.version, c.zxid) == nil {
			t.Errorf("a write that is %s passed", name)
		}
	}
}

func TestOneOfTheWritesInDoubtMayHappen(t *testing.T) {
	a := account()
	_ = write(a, 1, 10)
	a.attempt()
	a.attempt()
	if err := a.found(1, 1, 10); err != nil {
		t.Fatal(err)
	}
	if err := a.found(3, 2, 12); err != nil {
		t.Fatal(err)
	}
	if a.found(2, 3, 13) == nil {
		t.Fatal("both of two writes that asked for the same version passed")
	}
}

func TestAnAnswerThatSkipsAVersionIsFound(t *testing.T) {
	a := account()
	_ = write(a, 1, 10)
	if write(a, 3, 12) == nil || write(a, 4, 12) == nil {
		t.Fatal("a version too many, or a zxid that does not rise, passed")
	}
}

func TestOrderOfZxids(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	a := Created{"/a", Ack{at(1), at(2), 5}}
	b := Created{"/b", Ack{at(3), at(4), 6}}
	during := Created{"/c", Ack{at(1), at(9), 7}}
	if err := checkOrder([]Created{during, b, a}); err != nil {
		t.Fatal(err)
	}
	b.Zxid = 4
	if checkOrder([]Created{a, b, during}) == nil {
		t.Fatal("a zxid that is older than that of an earlier write passed")
	}
	b.Zxid = 5
	if checkOrder([]Created{a, b}) == nil {
		t.Fatal("a zxid that was given twice passed")
	}
}

func TestWhatIsMeasured(t *testing.T) {
	l := NewLedger(2)
	base := time.Unix(100, 0)
	at := func(ms int) time.Time { return base.Add(time.Duration(ms) * time.Millisecond) }
	l.Accounts[0].acks = []Ack{{at(-200), at(-150), 1}, {at(-10), at(5), 2}, {at(400), at(450), 3}}
	l.Accounts[1].acks = []Ack{{at(-20), at(-15), 4}, {at(300), at(700), 5}}
	m := l.Measure(base)
	if m.First != 450*time.Millisecond { // what was sent before the fault tells nothing
		t.Errorf("first %v", m.First)
	}
	if m.Gaps[0] != 445*time.Millisecond || m.Gaps[1] != 715*time.Millisecond {
		t.Errorf("gaps %v", m.Gaps)
	}
}

func TestQuantiles(t *testing.T) {
	var all []time.Duration
	for i := range 100 {
		all = append(all, time.Duration(i+1))
	}
	if quantile(all, 50) != 50 || quantile(all, 95) != 95 || quantile(all, 100) != 100 || quantile(nil, 95) != 0 || quantile(all[:1], 50) != 1 {
		t.Error("a quantile is wrong")
	}
}

func TestTargetsAreJudged(t *testing.T) {
	slow := Result{Leader: true, First: 1500 * time.Millisecond}
	for name, c := range map[string]struct {
		r       Result
		targets Targets
		missed  int
	}{
		"in time":        {Result{Leader: true, First: time.Millisecond}, longTargets, 0},
		"late":           {slow, longTargets, 1},
		"late, short":    {slow, shortTargets, 0},
		"never":          {Result{Leader: true}, shortTargets, 1},
		"a follower":     {Result{First: 9 * time.Second}, longTargets, 0},
		"lost":           {Result{Lost: 1}, shortTargets, 1},
		"expired":        {Result{Wrong: 1}, shortTargets, 1},
		"expired, quiet": {Result{SilentExpiry: 1}, shortTargets, 0},
	} {
		if missed := summarize(name, []Result{c.r}, c.targets); len(missed) != c.missed {
			t.Errorf("%s: missed %q, want %d", name, missed, c.missed)
		}
	}
}

func TestASeedDecidesTheFault(t *testing.T) {
	for _, kind := range kinds {
		names := map[string]bool{}
		for seed := range uint64(40) {
			name := func() string {
				return NewFault(kind, &boxes.Cluster{Network: &boxes.Network{}}, 2, rand.New(rand.NewPCG(seed, 7))).Name
			}
			if name() != name() {
				t.Errorf("%s, seed %d: twice not the same", kind, seed)
			}
			names[name()] = true
		}
		if kind != "kill" && len(names) < 4 {
			t.Errorf("%s: only %v", kind, names)
		}
	}
}

func TestPlans(t *testing.T) {
	if steps, err := boxes.ParsePlan("kill:3,histories:1", append(slices.Clone(kinds), histories)); err != nil || len(steps) != 2 {
		t.Error(steps, err)
	}
	for _, bad := range []string{"", "kill", "kill:0", "fire:1", "kill:x", "kill:1,"} {
		if _, err := boxes.ParsePlan(bad, append(slices.Clone(kinds), histories)); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}
