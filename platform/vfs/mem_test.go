package vfs

import (
	"errors"
	"sync"
	"syscall"
	"testing"
)

func free(t *testing.T, m *Mem, dir string) uint64 {
	t.Helper()
	u, err := m.Usage(dir)
	must(t, err)
	return u.Free
}

func wantFree(t *testing.T, m *Mem, want uint64) {
	t.Helper()
	if got := free(t, m, "/") / memBlock; got != want {
		t.Fatalf("%d blocks free, want %d", got, want)
	}
}

func TestMemCapacity(t *testing.T) {
	m := NewMem()
	m.SetCapacity(defaultDevice, 4*memBlock)
	f := open(t, m, "a", Create)
	must(t, f.Preallocate(0, 3*memBlock))
	wantFree(t, m, 1)
	put(t, f, "in the reserve", memBlock)
	wantFree(t, m, 1)
	wantErr(t, f.Preallocate(0, 5*memBlock), ErrNoSpace)

	// A write that does not fit leaves the prefix that does.
	g := open(t, m, "b", Create)
	n, err := g.WriteAt(make([]byte, 2*memBlock), 100)
	wantErr(t, err, ErrNoSpace)
	wantErr(t, err, syscall.ENOSPC)
	if n != memBlock-100 {
		t.Fatalf("%d bytes written", n)
	}
	wantFree(t, m, 0)
	put(t, g, "a block that it has", 0)
	n, err = g.WriteAt([]byte("x"), memBlock)
	if n != 0 || !errors.Is(err, ErrNoSpace) {
		t.Fatalf("%d, %v", n, err)
	}

	m.SetCapacity(defaultDevice, 6*memBlock)
	wantFree(t, m, 2)
	m.SetCapacity(defaultDevice, memBlock)
	wantFree(t, m, 0)
	m.SetCapacity(defaultDevice, 4*memBlock)
	must(t, f.Truncate(memBlock+1)) // gives back the third block
	wantFree(t, m, 1)
	must(t, f.Truncate(100*memBlock)) // sparse
	wantFree(t, m, 1)

	// What is unlinked counts as long as it is open or mapped.
	mapping, err := g.Map(1)
	must(t, err)
	must(t, m.Remove("b"))
	must(t, g.Close())
	wantFree(t, m, 1)
	must(t, mapping.Close())
	wantFree(t, m, 2)
	must(t, m.Rename("a", "c"))
	must(t, f.Close())
	must(t, open(t, m, "d", Create).Close())
	must(t, m.Rename("d", "c"))
	wantFree(t, m, 4)
}

func TestMemReserveSurvivesACrash(t *testing.T) {
	m := NewMem()
	m.SetCapacity(defaultDevice, 10*memBlock)
	f := open(t, m, "a", Create)
	put(t, f, "x", 0)
	must(t, f.Preallocate(0, 8*memBlock))
	must(t, m.SyncDir("/"))
	after := m.CrashStrict()
	wantFree(t, after, 2)
	must(t, open(t, after, "a", ReadWrite).Truncate(0))
	wantFree(t, after, 10)
	wantFree(t, m.CrashAll(), 2)
}

func TestMemDevices(t *testing.T) {
	m := NewMem()
	m.SetDevice("/d2", 2)
	m.SetDevice("d2/deep", 3)
	m.SetCapacity(2, 10*memBlock)
	must(t, m.MkdirAll("d1"))
	must(t, m.MkdirAll("d2/deep"))
	for dir, want := range map[string]uint64{"/": 1, "d1": 1, "d2": 2, "d2/deep": 3} {
		u, err := m.Usage(dir)
		must(t, err)
		if u.Device != want {
			t.Errorf("%s is on device %d, want %d", dir, u.Device, want)
		}
	}
	put(t, open(t, m, "d2/a", Create), "x", 0)
	put(t, open(t, m, "d1/a", Create), "x", 0)
	if got := free(t, m, "d2") / memBlock; got != 9 {
		t.Errorf("%d blocks free", got)
	}
	wantErr(t, m.Rename("d2/a", "d1/b"), syscall.EXDEV)
	must(t, m.SyncDir("/"))
	if u, err := m.CrashAll().Usage("d2"); err != nil || u.Device != 2 || u.Total != 10*memBlock {
		t.Errorf("after a crash: %+v, %v", u, err)
	}
}

func TestMemGreatestFile(t *testing.T) {
	m := NewMem()
	f := open(t, m, "a", Create)
	_, err := f.WriteAt([]byte("x"), memFileMax)
	wantErr(t, err, syscall.EFBIG)
	wantErr(t, f.Truncate(memFileMax+1), syscall.EFBIG)
	wantErr(t, f.Preallocate(memFileMax, 1), syscall.EFBIG)
}

// A reader of published bytes may run while the single writer appends (with -race this is the assertion).
func TestMemMappingWhileAppending(t *testing.T) {
	m := NewMem()
	f := open(t, m, "a", Create)
	put(t, f, "published", 0)
	mapping, err := f.Map(9)
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 200 {
			_ = mapping.Read(func(b []byte) {
				if string(b) != "published" {
					t.Errorf("read %q", b)
				}
			})
		}
	})
	for i := range 200 {
		put(t, f, "more", int64(9+i*40))
	}
	wg.Wait()
}

func TestFaults(t *testing.T) {
	script := func(fsys FS) error {
		f, err := fsys.Open("a", Create) // 1
		if err != nil {
			return err
		}
		if _, err := f.WriteAt([]byte("0123"), 0); err != nil { // 2
			return err
		}
		if err := f.Sync(); err != nil { // 3
			return err
		}
		if _, err := f.WriteAt([]byte("4567"), 4); err != nil { // 4
			return err
		}
		if err := fsys.Rename("a", "b"); err != nil { // 5
			return err
		}
		return fsys.SyncDir("/") // 6
	}
	count := NewPlan()
	must(t, script(WithErrors(NewMem(), count)))
	if count.Operations() != 6 || count.Injected() != 0 {
		t.Fatalf("%d operations, %d failed", count.Operations(), count.Injected())
	}
	for n := 1; n <= 6; n++ {
		plan := NewPlan(Fault{Nth: n})
		wantErr(t, script(WithErrors(NewMem(), plan)), syscall.EIO)
		if plan.Operations() != n || plan.Injected() != 1 {
			t.Fatalf("%d operations, %d failed", plan.Operations(), plan.Injected())
		}
	}
	for _, c := range []struct {
		name  string
		fault Fault
		err   error
		a, b  string
	}{
		{"second write", Fault{Ops: OpWrite, Nth: 2, Err: ErrNoSpace}, ErrNoSpace, "0123", "-"},
		{"second write, prefix", Fault{Ops: OpWrite, Nth: 2, WritePrefix: 1}, syscall.EIO, "01234", "-"},
		{"second write, half", Fault{Ops: OpWrite, Nth: 2, WritePrefix: -1}, syscall.EIO, "012345", "-"},
		{"second write, all", Fault{Ops: OpWrite, Nth: 2, WritePrefix: 99}, syscall.EIO, "01234567", "-"},
		{"third write", Fault{Ops: OpWrite, Nth: 3}, nil, "-", "01234567"},
		{"rename", Fault{Ops: OpRename | OpRemove}, syscall.EIO, "01234567", "-"},
		{"rename with effect", Fault{Ops: OpRename, TakesEffect: true}, syscall.EIO, "-", "01234567"},
		{"by name", Fault{Name: "b"}, syscall.EIO, "01234567", "-"},
		{"open with effect", Fault{Ops: OpOpen, TakesEffect: true}, syscall.EIO, "", "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewMem()
			if err := script(WithErrors(m, NewPlan(c.fault))); !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			wantContent(t, m, "a", c.a)
			wantContent(t, m, "b", c.b)
		})
	}
}

func TestStickyFaultUntilDisarmed(t *testing.T) {
	plan := NewPlan(Fault{Ops: OpSync, Nth: 2, Sticky: true}, Fault{Ops: OpMapRead, Err: ErrFault})
	fsys := WithErrors(NewMem(), plan)
	f := open(t, fsys, "a", Create)
	must(t, f.Sync())
	for range 3 {
		wantErr(t, f.Sync(), syscall.EIO)
	}
	m, err := f.Map(0)
	must(t, err)
	wantErr(t, m.Read(func([]byte) {}), ErrFault)
	must(t, m.Read(func([]byte) {}))
	plan.Disarm()
	must(t, f.Sync())
	if plan.Injected() != 4 {
		t.Fatalf("%d failed", plan.Injected())
	}
	if _, ok := f.(Descriptor); ok {
		t.Error("a wrapped file gives its descriptor away")
	}
	plan.Arm(Fault{Ops: OpSync})
	wantErr(t, f.Sync(), syscall.EIO)
	must(t, f.Sync())
	plan.Disarm()
	must(t, f.Sync())
}

func TestOpNames(t *testing.T) {
	if got := (OpWrite | OpSyncDir).String(); got != "write|sync directory" {
		t.Error(got)
	}
	if OpUsage.String() != "usage" || OpAll&OpUsage == 0 || OpAll&OpOpen == 0 {
		t.Error("kinds and names differ")
	}
}
