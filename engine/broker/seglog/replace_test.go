package seglog

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"cairn/engine/broker/batch"
	"cairn/platform/vfs"
)

// threeSegments is a log of three sealed segments of two batches each, with a row in each transaction index, and an active one.
func threeSegments(t *testing.T, mem *vfs.Mem) (*rig, *Log) {
	t.Helper()
	r := mustRig(t, mem)
	l := r.create()
	for i := range 7 {
		end := l.View().EndOffset()
		if _, err := l.Append(r.clk.Now(), makeBatch(end, 1, 2, 100, 1_700_000_000_000+int64(i), i)); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			if err := l.AppendAborted(AbortedTxn{ProducerID: int64(i), FirstOffset: end, LastOffset: end + 1, LastStableOffset: end + 2}); err != nil {
				t.Fatal(err)
			}
			if err := l.Roll(r.clk.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.mustFlush(l)
	if err := r.checkpoint(); err != nil {
		t.Fatal(err)
	}
	return r, l
}

// thinned rewrites the first two segments without the second batch.
func thinned(t *testing.T, l *Log) *Rewrite {
	t.Helper()
	v := l.View()
	w, err := v.Rewrite(0, 2, 150)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		b, err := v.Batches(i)
		if err != nil {
			t.Fatal(err)
		}
		for {
			h, whole, err := b.Next()
			if err != nil {
				t.Fatal(err)
			}
			if h == nil {
				break
			}
			if h.BaseOffset == 2 {
				continue
			}
			if err := w.Append(whole); err != nil {
				t.Fatal(err)
			}
		}
		b.Close()
	}
	if err := errors.Join(w.AppendAborted(AbortedTxn{ProducerID: 3, FirstOffset: 6, LastOffset: 7, LastStableOffset: 8}), w.Seal()); err != nil {
		t.Fatal(err)
	}
	return w
}

func filesOf(t *testing.T, fs vfs.FS) map[string][]byte {
	t.Helper()
	infos, err := fs.List("/data/orders-0")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, info := range infos {
		if out[info.Name], err = readFile(fs, "/data/orders-0/"+info.Name, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func bases(t *testing.T, v View) (out []int64) {
	t.Helper()
	for _, b := range readAll(t, v) {
		out = append(out, header(b).BaseOffset)
	}
	return out
}

// A start after every single change of a name that a replacement makes: up to the last of those to .swap the log is as it
// was, to the byte; from then on it is the new one.
func TestEveryStepOfAReplacement(t *testing.T) {
	var steps [][2]string
	add := func(base, from, to string) {
		for _, suffix := range swapOrder {
			steps = append(steps, [2]string{base + suffix + from, base + suffix + to})
		}
	}
	first, second := offsetName(0), offsetName(4)
	add(first, suffixCleaned, suffixSwap)
	holds := len(steps)
	add(first, "", suffixDeleted)
	add(second, "", suffixDeleted)
	add(first, suffixSwap, "")
	for n := range len(steps) + 1 {
		mem := vfs.NewMem()
		r, l := threeSegments(t, mem)
		before, beforeBases := filesOf(t, mem), bases(t, l.View())
		thinned(t, l)
		r.sync.Close()
		for _, step := range steps[:n] {
			if err := mem.Rename("/data/orders-0/"+step[0], "/data/orders-0/"+step[1]); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // what the first start has done must look finished to the second
			mem = mem.CrashAll()
			r, err := newRig(t, mem, 5)
			if err != nil {
				t.Fatal(err)
			}
			l := r.open()
			got := filesOf(t, mem)
			for name := range got {
				if strings.HasSuffix(name, suffixCleaned) || strings.HasSuffix(name, suffixSwap) || strings.HasSuffix(name, suffixDeleted) {
					t.Fatalf("%d steps: %s is left", n, name)
				}
			}
			want := beforeBases
			if n >= holds {
				want = []int64{0, 4, 6, 8, 10, 12}
			}
			if b := bases(t, l.View()); !slices.Equal(b, want) || l.View().EndOffset() != 14 {
				t.Fatalf("%d steps: batches at %v, want %v", n, b, want)
			}
			rows, err := l.View().Aborted(0, 8)
			if err != nil || n < holds && len(rows) != 2 || n >= holds && (len(rows) != 1 || rows[0].ProducerID != 3) {
				t.Fatalf("%d steps: aborted %v %v", n, rows, err)
			}
			_, there := got[second+suffixLog]
			if there != (n < holds) {
				t.Fatalf("%d steps: %v", n, got)
			}
			for name, content := range before {
				if base, _, ok := parseOffsetName(name); ok && base < 8 && n < holds && !bytes.Equal(got[name], content) {
					t.Fatalf("%d steps: %s was changed", n, name)
				}
			}
		}
	}
}

// Views and spans from before a replacement read on, also when the segment was the active one then.
func TestViewsAcrossAReplacement(t *testing.T) {
	mem := vfs.NewMem()
	r, l := threeSegments(t, mem)
	old := l.View()
	whole := bases(t, old)
	span, err := old.Read(2, 10, 14, true)
	if err != nil {
		t.Fatal(err)
	}
	defer span.Release()
	want := make([]byte, span.Length)
	if _, err := span.File.ReadAt(want, span.Position); err != nil {
		t.Fatal(err)
	}
	if err := l.Replace(thinned(t, l)); err != nil {
		t.Fatal(err)
	}
	if err := r.sweep(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, span.Length)
	if _, err := span.File.ReadAt(got, span.Position); err != nil || !bytes.Equal(got, want) || header(got).BaseOffset != 2 {
		t.Fatalf("a span of a replaced segment: %v", err)
	}
	if b := bases(t, old); slices.Equal(b, whole) || !slices.Equal(b, bases(t, l.View())) {
		t.Fatalf("%v", b)
	}
	seen := []int64{}
	if err := old.Scan(3, 14, func(h *batch.Header, _ []byte) error { seen = append(seen, h.BaseOffset); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seen, []int64{4, 6, 8, 10, 12}) {
		t.Fatalf("scanned %v", seen)
	}
	if rows, err := old.Aborted(0, 14); err != nil || len(rows) != 2 {
		t.Fatalf("%v %v", rows, err)
	}
	if v := l.View(); v.Segments() != 3 || v.Size() != old.Size()-int64(header(want).Size()) {
		t.Fatalf("%d segments of %d bytes, %d before", v.Segments(), v.Size(), old.Size())
	}
	// The active segment of then, sealed and replaced since.
	if err := l.Roll(r.clk.Now()); err != nil {
		t.Fatal(err)
	}
	v := l.View()
	w, err := v.Rewrite(2, 3, 150)
	if err != nil {
		t.Fatal(err)
	}
	b, err := v.Batches(2)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for h, raw, err := b.Next(); h != nil; h, raw, err = b.Next() {
		if err = errors.Join(err, w.Append(raw)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Seal(), l.Replace(w)); err != nil {
		t.Fatal(err)
	}
	if b := bases(t, old); !slices.Equal(b, []int64{0, 4, 6, 8, 10, 12}) {
		t.Fatalf("%v", b)
	}
	// A second time the segments are not there any more.
	if err := l.Replace(w); !errors.Is(err, ErrOutOfRange) {
		t.Fatal(err)
	}
}

// No segment is put in its place that was made of a log which has been cut since, however far behind it.
func TestNoReplacementAfterACut(t *testing.T) {
	for name, cut := range map[string]func(l *Log) error{
		"behind":   func(l *Log) error { return l.Truncate(12) },
		"anew":     func(l *Log) error { return l.TruncateFullyAndStartAt(0) },
		"to start": func(l *Log) error { return l.Truncate(0) },
	} {
		_, l := threeSegments(t, vfs.NewMem())
		w := thinned(t, l)
		if err := cut(l); err != nil {
			t.Fatal(name, err)
		}
		before := bases(t, l.View())
		if err := l.Replace(w); !errors.Is(err, ErrOutOfRange) || !slices.Equal(bases(t, l.View()), before) {
			t.Fatalf("%s: %v", name, err)
		}
		if err := w.Discard(); err != nil {
			t.Fatal(name, err)
		}
	}
}

// What a log knows of its compaction is kept over a stop, lowered by a truncation, and gone with the partition.
func TestCleanedCheckpoint(t *testing.T) {
	mem := vfs.NewMem()
	r, l := threeSegments(t, mem)
	uncut := l.View()
	if err := l.SetCleaned(uncut, 12); err != nil {
		t.Fatal(err)
	}
	if err := r.checkpoint(); err != nil {
		t.Fatal(err)
	}
	if b, err := readFile(mem, "/data/"+nameCleaned, 1000); err != nil || string(b) != "0\n1\norders 0 12\n" {
		t.Fatalf("%q %v", b, err)
	}
	r, err := newRig(t, mem.CrashStrict(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if l = r.open(); l.Cleaned() != 12 {
		t.Fatalf("after a crash %d", l.Cleaned())
	}
	uncut = l.View()
	if err := l.Truncate(9); err != nil || l.Cleaned() != 8 {
		t.Fatalf("after a cut %d %v", l.Cleaned(), err)
	}
	for range 4 { // the records that come there next are not those which a compaction from before has seen
		if _, err := l.Append(r.clk.Now(), makeBatch(l.View().EndOffset(), 2, 2, 100, 1_700_000_000_000, 9)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.SetCleaned(uncut, 12); !errors.Is(err, ErrOutOfRange) || l.Cleaned() != 8 {
		t.Fatalf("by a compaction of the log that was cut: %v, %d", err, l.Cleaned())
	}
	r.stop(l)
	if r, err = newRig(t, r.fs, 3); err != nil {
		t.Fatal(err)
	}
	if l = r.open(); l.Cleaned() != 8 {
		t.Fatalf("after a stop %d", l.Cleaned())
	}
	if err := l.Delete(); err != nil {
		t.Fatal(err)
	}
	if l = r.create(); l.Cleaned() != 0 {
		t.Fatalf("a new partition is clean before %d", l.Cleaned())
	}
}
