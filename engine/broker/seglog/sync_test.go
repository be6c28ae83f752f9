package seglog

import (
	"errors"
	"strings"
	"testing"

	"cairn/platform/vfs"
)

// A sync is never tried again, whatever it was answered with: after an error that speaks of space the pages may be gone, and
// the next sync would be told that all is well. A write that found no space is.
func TestASyncThatFoundNoSpaceIsFinal(t *testing.T) {
	for _, fault := range []vfs.Fault{
		{Ops: vfs.OpSync, Name: suffixIndex},
		{Ops: vfs.OpSync, Name: suffixTime},
		{Ops: vfs.OpSync, Name: nameEpochs},
		{Ops: vfs.OpSync, Name: nameRecoveryPoints},
		{Ops: vfs.OpSyncDir, Name: "orders-0"},
		{Ops: vfs.OpWrite, Name: nameEpochs},
		{Ops: vfs.OpWrite, Name: nameRecoveryPoints},
	} {
		t.Run(fault.Ops.String()+" "+fault.Name, func(t *testing.T) {
			plan := vfs.NewPlan()
			r := mustRig(t, vfs.WithErrors(vfs.NewMem(), plan))
			l := r.create()
			r.fill(l, 12, 200)
			r.mustFlush(l)
			fault.Err = vfs.ErrNoSpace
			*plan = *vfs.NewPlan(fault)
			err, want := r.checkpoint(), ErrFailed
			if fault.Ops == vfs.OpWrite {
				want = ErrFull
			}
			if !errors.Is(err, want) || plan.Injected() != 1 {
				t.Fatalf("%v, want %v; %d faults", err, want, plan.Injected())
			}
			plan.Disarm()
			err = r.checkpoint()
			if want == ErrFull && err != nil || want == ErrFailed && (!errors.Is(err, ErrFailed) || r.dir.Failed() == nil) {
				t.Errorf("tried again: %v; the directory: %v", err, r.dir.Failed())
			}
		})
	}
}

// The syncs of an opening are final too: an Open that is tried again would believe what is not durable.
func TestASyncOfAnOpeningIsFinal(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	r.fill(l, 3, 100)
	r.stop(l)
	overwrite(t, mem, strings.TrimSuffix(segment0, offsetName(0))+offsetName(0)+".log.deleted", 0, []byte("x"))
	plan := vfs.NewPlan()
	again := mustRig(t, vfs.WithErrors(mem, plan))
	*plan = *vfs.NewPlan(vfs.Fault{Ops: vfs.OpSyncDir, Name: "orders-0", Err: vfs.ErrNoSpace})
	for range 2 {
		if _, err := again.dir.Open(testTP, again.cfg); !errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
	}
	if plan.Injected() != 1 {
		t.Fatal("no fault: the test shows nothing")
	}
}

// The bytes of an append are on their way to be flushed, or nobody may go on: a flush that does not know of them would say that
// they are durable. While the writer's handle is held this takes no other file; here its name was forgotten.
func TestAnAppendThatCannotBeFlushedIsFinal(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	files := vfs.NewCache(vfs.CacheConfig{FilesMax: 1, MappingsMax: 1, InUseMax: 1})
	r.dir.files = files
	l := r.create()
	r.fill(l, 1, 100)
	r.mustFlush(l)
	r.fill(l, 1, 100) // with one file in use
	r.mustFlush(l)
	end := l.View().EndOffset()
	files.Forget(mem, segment0+suffixLog)
	_, err := l.Append(r.clk.Now(), makeBatch(end, 1, 1, 100, 1, 1))
	if !errors.Is(err, ErrFailed) && l.View().EndOffset() != end {
		t.Errorf("the append failed with %v, and the log ends at %d, it was %d", err, l.View().EndOffset(), end)
	}
	if flushed, err := r.flush(l); err == nil && flushed != end {
		t.Errorf("what no flush knows of is durable up to %d", flushed)
	}
}

// What lies in a directory that is to go, and is none of ours, does not end the log directory: the rest goes, and the
// directory stays.
func TestSweepLeavesStrangeDirectories(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	strange := "/data/orders-0.00-delete"
	for _, dir := range []string{strange + "/somebody's", "/data/orders-1.00-delete"} {
		if err := mem.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	overwrite(t, mem, strange+"/somebody's/file", 0, []byte("x"))
	overwrite(t, mem, strange+"/00000000000000000000.log", 0, []byte("x"))
	overwrite(t, mem, "/data/orders-1.00-delete/00000000000000000000.log", 0, []byte("x"))
	r.stop(nil)

	r = mustRig(t, mem)
	if err := r.sweep(); err != nil || r.dir.Failed() != nil {
		t.Fatalf("%v; the directory: %v", err, r.dir.Failed())
	}
	infos, err := mem.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, info := range infos {
		if info.IsDir {
			left = append(left, info.Name)
		}
	}
	if strings.Join(left, " ") != "orders-0.00-delete" {
		t.Errorf("left: %v", left)
	}
	if inside, err := mem.List(strange); err != nil || len(inside) != 1 || inside[0].Name != "somebody's" {
		t.Errorf("inside: %v, %v", inside, err)
	}
	l := r.create()
	r.fill(l, 1, 100)
	r.mustFlush(l)
	r.stop(l)
}
