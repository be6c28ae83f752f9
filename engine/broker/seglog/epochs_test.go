package seglog

import (
	"fmt"
	"testing"

	"cairn/platform/vfs"
)

// An epoch that recovery finds in the batches is in the checkpoint before the recovery point passes it: a second start trusts it.
func TestEpochsOfARecoveredLogAreKept(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	for offset, epoch := range []int32{0, 1, 1, 1, 1} { // with index entries behind the beginning of epoch 1: reading begins there
		if _, err := l.Append(r.clk.Now(), makeBatch(int64(offset), epoch, 1, 200, 1, 1)); err != nil {
			t.Fatal(err)
		}
		r.mustFlush(l)
		if epoch == 0 {
			if err := r.checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
	}
	image := mem.CrashAll() // of a process that is killed
	for start := range 2 {
		r := mustRig(t, image)
		l := r.open()
		if e := l.View().EpochFor(1); e != 1 {
			t.Fatalf("start %d after the kill: offset 1 is of epoch %d", start, e)
		}
		r.stop(l)
	}
}

func TestEpochs(t *testing.T) {
	var e epochs
	e = e.assign(1, 0).assign(3, 10).assign(3, 12).assign(2, 15).assign(7, 20)
	if fmt.Sprint(e) != "[{1 0} {3 10} {7 20}]" {
		t.Fatal(e)
	}
	for _, c := range []struct {
		ask, epoch int32
		end        int64
	}{{-1, -1, -1}, {0, 0, 0}, {1, 1, 10}, {2, 1, 10}, {3, 3, 20}, {6, 3, 20}, {7, 7, 30}, {8, -1, -1}} {
		if epoch, end := e.end(c.ask, 0, 30); epoch != c.epoch || end != c.end {
			t.Errorf("end of epoch %d is %d, %d; want %d, %d", c.ask, epoch, end, c.epoch, c.end)
		}
	}
	if got := e.cutEnd(20); fmt.Sprint(got) != "[{1 0} {3 10}]" {
		t.Error(got)
	}
	if got := e.cutStart(12); fmt.Sprint(got) != "[{3 12} {7 20}]" {
		t.Error(got)
	}
	if got := e.assign(9, 15); fmt.Sprint(got) != "[{1 0} {3 10} {9 15}]" {
		t.Error(got)
	}
}

// An epoch that was cut off, and whose place records of an older one have taken, does not come back with the checkpoint that was
// written before: a leader would tell its followers that the logs part there, and they would cut what was acknowledged.
func TestAnEpochThatWasCutStaysAway(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	m := &model{epoch: 1}
	p := &player{rig: r, m: m, l: l}
	fill := func(epoch int32, n int) {
		m.epoch = epoch
		for range n {
			if err := p.append(1, 50); err != nil {
				t.Fatal(err)
			}
		}
		r.mustFlush(l)
	}
	fill(1, 5)
	fill(2, 4)
	if err := r.checkpoint(); err != nil {
		t.Fatal(err)
	}
	if err := l.Truncate(5); err != nil {
		t.Fatal(err)
	}
	m.batches = m.batches[:5]
	fill(1, 4)
	after, err := newRig(t, mem.CrashAll(), 1)
	if err != nil {
		t.Fatal(err)
	}
	v := after.open().View()
	if e := v.Epochs(); len(e) != 1 || e[0] != (EpochEntry{1, 0}) || v.EndOffset() != 9 {
		t.Errorf("after a kill the log ends at %d, with the epochs %v", v.EndOffset(), e)
	}
}
