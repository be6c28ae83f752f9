package seglog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"cairn/platform/vfs"
)

// recoverAndVerify starts on what a power cut left, and checks it against the model; then cuts the power once more, strictly, and
// checks that what was found is still there.
func recoverAndVerify(t *testing.T, m *model, mem *vfs.Mem, context string) {
	t.Helper()
	r, err := newRig(t, mem, 3)
	if err != nil {
		t.Fatalf("%s: %v", context, err)
	}
	l, err := r.dir.Open(testTP, r.cfg)
	if errors.Is(err, ErrNotExist) && !m.created {
		return // nothing was acknowledged yet
	}
	if err != nil && !m.created {
		return // half created; the caller creates it again
	}
	if err != nil {
		t.Fatalf("%s: %v", context, err)
	}
	m.verify(t, l.View(), context)
	before := readAll(t, l.View())
	start, end := l.View().StartOffset(), l.View().EndOffset()

	again, err := newRig(t, mem.CrashStrict(), 4)
	if err != nil {
		t.Fatalf("%s: second start: %v", context, err)
	}
	l2, err := again.dir.Open(testTP, again.cfg)
	if err != nil {
		t.Fatalf("%s: second start: %v", context, err)
	}
	if why := (version{batches: before, ackStart: start, maxStart: start}).matches(readAll(t, l2.View()), l2.View().StartOffset(), l2.View().EndOffset()); why != "" || l2.View().EndOffset() != end {
		t.Fatalf("%s: second start finds %d..%d, the first found %d..%d: %s", context, l2.View().StartOffset(), l2.View().EndOffset(), start, end, why)
	}
	b := makeBatch(end, 100, 2, 300, 1_700_000_500_000, 1<<20)
	if _, err := l2.Append(again.clk.Now(), b); err != nil {
		t.Fatalf("%s: append after recovery: %v", context, err)
	}
	again.mustFlush(l2)
	if got := readAll(t, l2.View()); len(got) != len(before)+1 {
		t.Fatalf("%s: %d batches after one more append, want %d", context, len(got), len(before)+1)
	}
}

// images are what a machine may find: nothing unsynced, everything, and samples of all between.
func images(mem *vfs.Mem, seed uint64, samples int) map[string]*vfs.Mem {
	out := map[string]*vfs.Mem{"strict": mem.CrashStrict(), "all": mem.CrashAll()}
	for i := range samples {
		out[fmt.Sprintf("sample %d/%d", seed, i)] = mem.Crash(rand.New(rand.NewPCG(seed, uint64(i))))
	}
	return out
}

// samples is how many images between nothing and everything are tried.
func samples(n int) int {
	if testing.Short() {
		return n / 3
	}
	return n
}

// A crash at every sync of every script.
func TestCrashAtEverySync(t *testing.T) {
	for name, lines := range scripts(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewMem()
			if _, err := play(t, mem, lines, false); err != nil {
				t.Fatal(err)
			}
			for n := 1; n <= mem.Syncs(); n++ {
				mem := vfs.NewMem()
				mem.CrashAtSync(n)
				m, _ := play(t, mem, lines, true)
				if !mem.Crashed() {
					t.Fatalf("power did not go off at sync %d", n)
				}
				for what, image := range images(mem, uint64(n), samples(6)) {
					recoverAndVerify(t, m, image, fmt.Sprintf("%s, crash at sync %d, %s", name, n, what))
				}
			}
		})
	}
}

// A crash before every line of every script.
func TestCrashBetweenLines(t *testing.T) {
	for name, lines := range scripts(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; n <= len(lines); n++ {
				mem := vfs.NewMem()
				m, err := play(t, mem, lines[:n], false)
				if err != nil {
					t.Fatal(err)
				}
				mem.PowerOff()
				for what, image := range images(mem, uint64(1000+n), samples(10)) {
					recoverAndVerify(t, m, image, fmt.Sprintf("%s, crash after line %d (%s), %s", name, n, lines[n-1], what))
				}
			}
		})
	}
}

// An error at every operation of every script: EIO ends the directory and loses nothing that was acknowledged; a lack of space ends
// nothing.
func TestErrorAtEveryOperation(t *testing.T) {
	for name, lines := range scripts(t) {
		for _, kind := range []struct {
			name  string
			fault vfs.Fault
		}{
			{"EIO", vfs.Fault{WritePrefix: -1}},
			{"EIO after effect", vfs.Fault{TakesEffect: true}},
			{"full", vfs.Fault{Err: vfs.ErrNoSpace, WritePrefix: -1, Ops: vfs.OpWrite | vfs.OpOpen | vfs.OpPreallocate}},
		} {
			t.Run(name+" "+kind.name, func(t *testing.T) {
				t.Parallel()
				count := vfs.NewPlan()
				if _, err := play(t, vfs.WithErrors(vfs.NewMem(), count), lines, true); err != nil {
					t.Fatal(err)
				}
				stride := 1
				if testing.Short() {
					stride = 3
				}
				for n := 1; n <= count.Operations(); n += stride {
					mem := vfs.NewMem()
					fault := kind.fault
					fault.Nth = n
					plan := vfs.NewPlan(fault)
					m, err := play(t, vfs.WithErrors(mem, plan), lines, true)
					if plan.Injected() == 0 {
						break // beyond the last one of its kind
					}
					recoverAndVerify(t, m, mem.CrashAll(), fmt.Sprintf("%s, %s at operation %d (%v)", name, kind.name, n, err))
					recoverAndVerify(t, m, mem.CrashStrict(), fmt.Sprintf("%s, %s at operation %d, power cut", name, kind.name, n))
				}
			})
		}
	}
}
