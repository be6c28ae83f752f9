package compact

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/seglog"
	"cairn/platform/vfs"
)

// history appends, compacts twice, and appends again. It stops at the first error, and tells how far a pass may have come.
func history(t tb, fs vfs.FS) (r *rig, flushed, touched int64, err error) {
	r, err = newRig(t, fs, 1)
	if err != nil {
		return r, 0, 0, err
	}
	flush := func() {
		if err == nil {
			if err = r.flush(); err == nil {
				flushed = r.end()
			}
		}
	}
	fill := func(from, n int) {
		for i := from; i < from+n && err == nil; i++ {
			o := options{codec: batch.Codec(i % 5)}
			if i%3 == 0 {
				o.producer, o.transactional = 5, true
			}
			err = r.append(o, put(fmt.Sprint("k", i%4), fmt.Sprint(i)), put(fmt.Sprint("u", i%9), fmt.Sprint("a value of some length ", i)), del(fmt.Sprint("k", i%7)))
			if i%6 == 5 && err == nil {
				err = r.mark(5, i%12 == 5)
			}
		}
	}
	clean := func() {
		if err == nil {
			touched = r.stable()
			_, err = r.clean(400)
			called := false
			r.dir.Checkpoint(func(error) { called = true })
			r.sched.RunUntil(1e9*60, func() bool { return called })
		}
		if err == nil {
			_, err = r.dir.Sweep(5)
		}
	}
	fill(0, 30)
	flush()
	clean()
	fill(30, 20)
	clean() // the last of it is not flushed yet
	fill(50, 4)
	flush()
	return r, flushed, touched, err
}

// found starts on what is left of a history, and checks it.
func (r *rig) found(t *testing.T, image *vfs.Mem, flushed, touched int64, context string) {
	t.Helper()
	next, err := newRig(t, image, 3)
	if err != nil {
		if flushed == 0 {
			return
		}
		t.Fatalf("%s: %v", context, err)
	}
	infos, err := image.List("/data/state-0")
	if err != nil {
		t.Fatalf("%s: %v", context, err)
	}
	for _, info := range infos {
		for _, ending := range []string{".cleaned", ".swap", ".deleted", ".tmp"} {
			if info.Name[0] <= '9' && len(info.Name) > len(ending) && info.Name[len(info.Name)-len(ending):] == ending {
				t.Fatalf("%s: %s is left", context, info.Name)
			}
		}
	}
	if err := next.restoreAborted(); err != nil {
		t.Fatalf("%s: %v", context, err)
	}
	v := next.log.View()
	if v.EndOffset() < flushed {
		t.Fatalf("%s: log ends at %d, acknowledged was %d", context, v.EndOffset(), flushed)
	}
	if v.EndOffset() == 0 {
		return
	}
	m := r.model.before(v.EndOffset())
	failed := &failing{t, context}
	m.verifyWithin(failed, v, next.log.Cleaned(), touched, 0)
	next.model = m
	next.clk.Advance(r.clk.Now().Mono)
	if _, err := next.clean(1 << 20); err != nil {
		t.Fatalf("%s: another pass: %v", context, err)
	}
	m.verifyWithin(failed, next.log.View(), next.log.Cleaned(), v.EndOffset(), 0)
}

// restoreAborted brings the transaction index up to the batches, as the partition's owner does at a start.
func (r *rig) restoreAborted() error {
	if err := r.log.ResetAborted(0); err != nil {
		return err
	}
	first := map[int64]int64{}
	return r.log.View().Scan(0, r.end(), func(h *batch.Header, control []byte) error {
		at, open := first[h.ProducerID]
		if control == nil {
			if h.Attributes.Transactional() && !open {
				first[h.ProducerID] = h.BaseOffset
			}
			return nil
		}
		delete(first, h.ProducerID)
		if m, err := batch.ReadMarker(h, control); err != nil || m.Type != batch.Abort || !open {
			return nil //nolint:nilerr // one without a record
		}
		return r.log.AppendAborted(seglog.AbortedTxn{ProducerID: h.ProducerID, FirstOffset: at, LastOffset: h.LastOffset(), LastStableOffset: h.LastOffset() + 1})
	})
}

type failing struct {
	*testing.T
	context string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Helper()
	f.T.Fatalf("%s: %s", f.context, fmt.Sprintf(format, args...))
}

// before is the model of a log that ends at an offset. What its producers were then does not matter.
func (m *model) before(end int64) *model {
	out := newModel()
	for _, w := range m.batches {
		if w.h.BaseOffset < end {
			out.batches = append(out.batches, w)
			out.records = append(out.records, w.records...)
		}
	}
	for _, w := range out.batches {
		if w.h.Attributes.Transactional() && !w.h.Attributes.Control() {
			if _, open := out.open[w.h.ProducerID]; !open {
				out.open[w.h.ProducerID] = w.h.BaseOffset
			}
		}
		if w.h.Attributes.Control() {
			delete(out.open, w.h.ProducerID)
		}
	}
	for offset := range m.aborted {
		if first, open := out.open[5]; offset < end && !(open && offset >= first) {
			out.aborted[offset] = true
		}
	}
	out.sequence[5] = m.sequence[5]
	return out
}

// The power goes off at any operation that changes a file or a name. What is found then is the log before or after a replacement, whole.
func TestPowerCutAtEveryOperation(t *testing.T) {
	count := vfs.NewPlan()
	if _, _, _, err := history(t, vfs.WithErrors(vfs.NewMem(), count)); err != nil {
		t.Fatal(err)
	}
	stride := 1
	if testing.Short() {
		stride = 5
	}
	n, replaced := 1, 0
	for ; ; n += stride {
		mem := vfs.NewMem()
		plan := vfs.NewPlan(vfs.Fault{Ops: vfs.OpMutate, Nth: n, Sticky: true, WritePrefix: -1})
		r, flushed, touched, _ := history(t, vfs.WithErrors(mem, plan))
		if plan.Injected() == 0 {
			break
		}
		mem.PowerOff()
		if touched > 0 {
			replaced++
		}
		images := map[string]*vfs.Mem{"strict": mem.CrashStrict(), "all": mem.CrashAll()}
		for i := range 3 {
			images[fmt.Sprint("sample ", i)] = mem.Crash(rand.New(rand.NewPCG(uint64(n), uint64(i))))
		}
		for what, image := range images {
			r.found(t, image, flushed, touched, fmt.Sprintf("operation %d, %s", n, what))
		}
	}
	if replaced*stride < 100 {
		t.Fatalf("only %d of %d power cuts came after a pass had begun", replaced, n)
	}
}

// One operation fails. It ends the directory or the pass, and loses nothing; a device that is full ends the pass alone.
func TestErrorAtEveryOperation(t *testing.T) {
	for name, fault := range map[string]vfs.Fault{
		"EIO":              {WritePrefix: -1},
		"EIO after effect": {TakesEffect: true},
		"full":             {Err: vfs.ErrNoSpace, WritePrefix: -1, Ops: vfs.OpWrite | vfs.OpOpen},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stride := 7
			if testing.Short() {
				stride = 23
			}
			for n := 1; ; n += stride {
				mem := vfs.NewMem()
				fault.Nth = n
				plan := vfs.NewPlan(fault)
				r, flushed, touched, err := history(t, vfs.WithErrors(mem, plan))
				if plan.Injected() == 0 {
					break
				}
				context := fmt.Sprintf("operation %d (%v)", n, err)
				r.found(t, mem.CrashAll(), flushed, touched, context)
				r.found(t, mem.CrashStrict(), flushed, touched, context+", power cut")
			}
		})
	}
}
