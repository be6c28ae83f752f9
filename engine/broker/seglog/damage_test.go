package seglog

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cairn/platform/vfs"
)

func overwrite(t testing.TB, fs vfs.FS, name string, at int64, b []byte) {
	t.Helper()
	f, err := fs.Open(name, vfs.Create)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// A full device refuses appends, shows nothing half-written, and takes them again when there is space; deleting works meanwhile.
func TestFullDevice(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetCapacity(1, 2<<20)
	r := mustRig(t, mem)
	r.dir.cfg.Limits.ReserveBytes = 32 << 10
	r.cfg.SegmentBytes, r.cfg.PreallocateStep = 16<<10, 4096
	l := r.create()
	m := &model{epoch: 1}
	p := &player{rig: r, m: m, l: l}
	var err error
	for n := 0; err == nil; n++ {
		if n > 5000 {
			t.Fatal("the device never fills up")
		}
		if err = p.append(1, 1000); err != nil {
			m.batches = m.batches[:len(m.batches)-1]
		}
	}
	if !errors.Is(err, ErrFull) || r.dir.Failed() != nil {
		t.Fatalf("%v, directory: %v", err, r.dir.Failed())
	}
	m.verifyLive(t, l.View())
	r.mustFlush(l)
	// The reserve is there for this.
	m.maxStart = m.end() / 2
	if err := p.advance(m.end() / 2); err != nil {
		t.Fatal(err)
	}
	if removed, err := l.Retention(r.clk.Now(), true, l.FlushedEnd()); err != nil || removed.Segments == 0 {
		t.Fatalf("%+v %v", removed, err)
	} else {
		m.raise(removed.StartOffset)
	}
	if err := r.sweep(); err != nil {
		t.Fatal(err)
	}
	if err := p.append(1, 1000); err != nil {
		t.Fatalf("there is space again: %v", err)
	}
	r.mustFlush(l)
	m.acked, m.created = m.end(), true
	m.verifyLive(t, l.View())
	recoverAndVerify(t, m, mem.CrashStrict(), "after a full device")
}

// ENOSPC in the middle of a write: half of it reached the file and is cut off.
func TestHalfWrittenAppendIsCutBack(t *testing.T) {
	mem := vfs.NewMem()
	plan := vfs.NewPlan()
	r := mustRig(t, vfs.WithErrors(mem, plan))
	l := r.create()
	r.fill(l, 2, 100)
	size, _ := mem.Stat(segment0 + ".log")
	*plan = *vfs.NewPlan(vfs.Fault{Ops: vfs.OpWrite, Name: ".log", Err: vfs.ErrNoSpace, WritePrefix: -1})
	if _, err := l.Append(r.clk.Now(), makeBatch(2, 1, 1, 100, 1, 1)); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if now, _ := mem.Stat(segment0 + ".log"); now.Size != size.Size || l.View().EndOffset() != 2 {
		t.Fatalf("file of %d bytes, was %d; log ends at %d", now.Size, size.Size, l.View().EndOffset())
	}
	plan.Disarm()
	r.fill(l, 1, 100)
	r.mustFlush(l)
}

func TestFlushErrorIsFinal(t *testing.T) {
	plan := vfs.NewPlan()
	r := mustRig(t, vfs.WithErrors(vfs.NewMem(), plan))
	failed := 0
	r.dir.cfg.OnFailed = func(error) { failed++ }
	l := r.create()
	r.fill(l, 1, 100)
	*plan = *vfs.NewPlan(vfs.Fault{Ops: vfs.OpSync, Name: ".log"})
	if end, err := r.flush(l); !errors.Is(err, ErrFailed) || end != 0 {
		t.Fatalf("flushed to %d: %v", end, err)
	}
	if end, err := r.flush(l); !errors.Is(err, ErrFailed) || end != 0 {
		t.Fatalf("a failed flush was retried: %d %v", end, err)
	}
	if _, err := l.Append(r.clk.Now(), makeBatch(1, 1, 1, 100, 1, 1)); !errors.Is(err, ErrFailed) || failed != 1 {
		t.Fatalf("%v, told %d times", err, failed)
	}
}

// Damage in what the recovery point vouches for is refused with file and position; an operator may accept the loss.
func TestDamageInVouchedPart(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	r.cfg.SegmentBytes = 1 << 20
	l := r.create()
	batches := r.fill(l, 6, 100)
	r.mustFlush(l)
	if err := r.checkpoint(); err != nil {
		t.Fatal(err)
	}
	size := int64(len(batches[0]))
	for _, c := range []struct {
		name     string
		damage   func(m *vfs.Mem)
		position int64
	}{
		{"header", func(m *vfs.Mem) { overwrite(t, m, segment0+".log", 5*size+16, []byte{9}) }, 5 * size},
		{"short file", func(m *vfs.Mem) {
			f, _ := m.Open(segment0+".log", vfs.ReadWrite)
			_ = f.Truncate(5*size + 30)
		}, 5 * size},
		{"file gone", func(m *vfs.Mem) { _ = m.Remove(segment0 + ".log") }, 0},
	} {
		image := mem.CrashAll()
		c.damage(image)
		again := mustRig(t, image)
		_, err := again.dir.Open(testTP, again.cfg)
		var at *CorruptionError
		if !errors.Is(err, ErrCorrupt) || !errors.As(err, &at) || at.Position != c.position || !strings.HasPrefix(at.File, "/data/orders-0") {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if again.dir.Failed() != nil {
			t.Errorf("%s: the directory failed with one log: %v", c.name, again.dir.Failed())
		}
		l, err := again.dir.OpenDamaged(testTP, again.cfg)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := readAll(t, l.View()); len(got) != int(c.position/size) {
			t.Errorf("%s: %d batches kept, want %d", c.name, len(got), c.position/size)
		}
	}
	// Found by a reader, not by the start.
	image := mem.CrashAll()
	again := mustRig(t, image)
	l = again.open()
	overwrite(t, image, segment0+".log", 2*size+16, []byte{9})
	if _, err := l.View().Read(2, 100, 100, true); !errors.Is(err, ErrCorrupt) || again.dir.Failed() != nil {
		t.Errorf("read of a damaged batch: %v", err)
	}
}

// Beyond the recovery point the log ends at the first batch that is not whole, and the report says where.
func TestTornTailIsCut(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	r.dir.cfg.Limits.DirtyBytesMax = 1 << 30
	r.cfg.SegmentBytes = 1000
	l := r.create()
	r.fill(l, 10, 200)
	r.mustFlush(l)
	for _, c := range []struct {
		name   string
		damage func(m *vfs.Mem)
		end    int64
	}{
		{"bad CRC in the first segment", func(m *vfs.Mem) { overwrite(t, m, segment0+".log", 300, []byte("xx")) }, 1},
		{"zeros behind the end", func(m *vfs.Mem) {
			infos, _ := m.List("/data/orders-0")
			for _, info := range infos {
				if base, suffix, ok := parseOffsetName(info.Name); ok && suffix == ".log" && base > 6 {
					overwrite(t, m, "/data/orders-0/"+info.Name, info.Size, make([]byte, 500))
				}
			}
		}, 10},
		{"a segment missing", func(m *vfs.Mem) { _ = m.Remove("/data/orders-0/00000000000000000003.log") }, 3},
	} {
		image := mem.CrashAll()
		c.damage(image)
		again := mustRig(t, image)
		l := again.open()
		report := l.Recovery()
		if l.View().EndOffset() != c.end || !report.Cut || report.CutFile == "" || report.CutBytes == 0 || report.CutCause == nil {
			t.Errorf("%s: log ends at %d, want %d: %+v", c.name, l.View().EndOffset(), c.end, report)
		}
		readAll(t, l.View())
	}
}

// indexed is a log of 12 batches that was stopped cleanly, and what the indexes of its first segment hold, by suffix.
func indexed(t *testing.T) (mem *vfs.Mem, want map[string][]byte) {
	t.Helper()
	mem = vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	r.fill(l, 12, 200)
	r.mustFlush(l)
	r.stop(l)
	return mem, map[string][]byte{suffixIndex: readWhole(t, mem, segment0+suffixIndex), suffixTime: readWhole(t, mem, segment0+suffixTime)}
}

// Indexes that are missing or damaged are rebuilt, byte for byte.
func TestIndexesAreRebuilt(t *testing.T) {
	mem, want := indexed(t)
	for n := range want {
		for _, c := range []struct {
			name   string
			damage func(m *vfs.Mem)
		}{
			{"missing", func(m *vfs.Mem) { _ = m.Remove(segment0 + n) }},
		} {
			image := mem.CrashAll()
			c.damage(image)
			again := mustRig(t, image)
			l := again.open()
			for n := range want {
				if got := readWhole(t, image, segment0+n); !bytes.Equal(got, want[n]) {
					t.Errorf("%s %s: rebuilt as %x, was %x", n, c.name, got, want[n])
				}
			}
			if len(readAll(t, l.View())) != 12 || l.Recovery().Rebuilt != 1 {
				t.Errorf("%s %s: %+v", n, c.name, l.Recovery())
			}
		}
	}
	// A wrong entry of a sealed segment is not followed.
	image := mem.CrashAll()
	overwrite(t, image, segment0+".index", 0, bytes.Repeat([]byte{0, 0, 0, 1, 0, 0, 0, 7}, 2))
	again := mustRig(t, image)
	l := again.open()
	if got := readAll(t, l.View()); len(got) != 12 {
		t.Errorf("%d batches through a wrong index", len(got))
	}
	if again.dir.misleading.Get() == 0 {
		t.Error("the wrong index was not counted")
	}
}

// A segment that has both its indexes is not read at a start: a power cut while they are made anew leaves one missing, or both whole.
func TestRebuiltIndexesAreWhole(t *testing.T) {
	mem, want := indexed(t)
	for gone := range want {
		for seed := range uint64(300) {
			image := mem.CrashAll()
			if err := errors.Join(image.Remove(segment0+gone), image.SyncDir("/data/orders-0")); err != nil {
				t.Fatal(err)
			}
			image.CrashAtSync(image.Syncs() + 1 + int(seed%12))
			if r, err := newRig(t, image, seed); err == nil {
				_, _ = r.dir.Open(testTP, r.cfg)
			}
			image.PowerOff()
			image = image.Crash(rand.New(rand.NewPCG(seed, 1)))
			found, err := listPartition(image, "/data/orders-0")
			if err != nil {
				t.Fatal(err)
			}
			for suffix := range want {
				if !found.index[0] {
					continue
				}
				if got := readWhole(t, image, segment0+suffix); !bytes.Equal(got, want[suffix]) {
					t.Fatalf("seed %d, %s missing: %s is %x after the power cut, was %x", seed, gone, suffix, got, want[suffix])
				}
			}
			again := mustRig(t, image)
			if l := again.open(); len(readAll(t, l.View())) != 12 {
				t.Fatalf("seed %d, %s missing: %+v", seed, gone, l.Recovery())
			}
			if infos, err := image.List("/data/orders-0"); err != nil || slices.ContainsFunc(infos, func(i vfs.Info) bool { return strings.HasSuffix(i.Name, suffixTemporary) }) {
				t.Fatalf("seed %d, %s missing: left behind: %+v, %v", seed, gone, infos, err)
			}
		}
	}
}

func TestLeftovers(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	r.fill(l, 12, 200)
	if l.View().Segments() < 3 {
		t.Fatal("one segment alone")
	}
	second := l.View().segs[1].base
	r.stop(l)
	dir := "/data/orders-0/"
	swapped := readWhole(t, mem, dir+offsetName(second)+".log")
	for _, name := range []string{offsetName(0) + ".log.deleted", offsetName(0) + ".log.cleaned", offsetName(77) + ".index", "somebody's file", offsetName(5) + ".other"} {
		overwrite(t, mem, dir+name, 0, []byte("x"))
	}
	overwrite(t, mem, dir+offsetName(second)+".log.swap", 0, swapped)
	again := mustRig(t, mem)
	l = again.open()
	if got := readAll(t, l.View()); len(got) != 12 {
		t.Errorf("%d batches", len(got))
	}
	infos, _ := mem.List(dir)
	var names []string
	for _, info := range infos {
		names = append(names, info.Name)
	}
	all := strings.Join(names, " ")
	for _, gone := range []string{".deleted", ".cleaned", ".swap", offsetName(77)} {
		if strings.Contains(all, gone) {
			t.Errorf("%s is still there: %s", gone, all)
		}
	}
	for _, kept := range []string{"somebody's file", ".other"} {
		if !strings.Contains(all, kept) {
			t.Errorf("%s is gone: %s", kept, all)
		}
	}
}
