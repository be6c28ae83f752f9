package compact

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/seglog"
	"cairn/platform/vfs"

	"pgregory.net/rapid"
)

// verify compares a log with what was appended to it: what may have gone, what must be there, and what must be gone.
func (m *model) verify(t tb, v seglog.View, cleaned, nowMs int64) {
	t.Helper()
	m.verifyWithin(t, v, cleaned, cleaned, nowMs)
}

// verifyWithin is verify for a log that a pass was at work on: it is clean before one offset, and something may be gone before another.
func (m *model) verifyWithin(t tb, v seglog.View, cleaned, touched, nowMs int64) {
	t.Helper()
	got := read(t, v, v.StartOffset())

	original := map[int64]written{}
	for _, w := range m.batches {
		original[w.h.BaseOffset] = w
	}
	for _, h := range got.headers {
		w, ok := original[h.BaseOffset]
		if !ok {
			t.Fatalf("a batch at offset %d, where there was none", h.BaseOffset)
		}
		if h.LastOffsetDelta != w.h.LastOffsetDelta || h.ProducerID != w.h.ProducerID || h.ProducerEpoch != w.h.ProducerEpoch ||
			h.BaseSequence != w.h.BaseSequence || h.LeaderEpoch != w.h.LeaderEpoch || h.Attributes.Control() != w.h.Attributes.Control() ||
			h.Attributes.Transactional() != w.h.Attributes.Transactional() || h.Count > 0 && h.Attributes.Codec() != w.h.Attributes.Codec() {
			t.Fatalf("batch at offset %d is %+v, was %+v", h.BaseOffset, h, w.h)
		}
	}
	if n := len(got.headers); n == 0 || got.headers[n-1].NextOffset() != v.EndOffset() {
		t.Fatalf("log ends at %d, its last batch before: %+v", v.EndOffset(), got.headers)
	}

	byOffset := map[int64]record{}
	for _, x := range m.records {
		x.producer, x.transactional = 0, false
		byOffset[x.offset] = x
	}
	there := map[int64]bool{}
	seen := map[string]int{}
	for _, x := range got.records {
		if byOffset[x.offset] != x {
			t.Fatalf("record %+v, was %+v", x, byOffset[x.offset])
		}
		if m.aborted[x.offset] {
			t.Fatalf("aborted record %+v is shown to readers of committed data", x)
		}
		there[x.offset] = true
		if x.offset < cleaned {
			seen[x.key]++
			if seen[x.key] > 1 || x.noKey {
				t.Fatalf("%d records of key %q before %d, where the log is clean; %v", seen[x.key], x.key, cleaned, x)
			}
		}
	}
	for _, offset := range got.hidden {
		if offset < cleaned {
			t.Fatalf("the aborted record at offset %d is still there; the log is clean before %d", offset, cleaned)
		}
	}
	latest := m.latest(v.EndOffset())
	for _, x := range m.records {
		switch {
		case there[x.offset] || m.aborted[x.offset]:
		case x.offset >= touched:
			t.Fatalf("record %+v is gone; the log is compacted before %d alone", x, touched)
		case x.noKey || latest[x.key].offset > x.offset:
		case !x.tombstone:
			t.Fatalf("the latest record of key %q is gone: %+v", x.key, x)
		case m.dated[x.offset] == 0 || m.dated[x.offset] > nowMs:
			t.Fatalf("tombstone %+v went before its time, %d, at %d", x, m.dated[x.offset], nowMs)
		}
	}
	state := map[string]string{}
	for _, x := range got.records {
		delete(state, x.key)
		if !x.tombstone && !x.noKey {
			state[x.key] = x.value
		}
	}
	for key, x := range latest {
		if value, ok := state[key]; ok == x.tombstone || ok && value != x.value {
			t.Fatalf("a reader ends with %q (%v) for key %q, written last was %+v", value, ok, key, x)
		}
	}
	for id, last := range m.producers {
		if !slices.ContainsFunc(got.headers, func(h batch.Header) bool { return h.ProducerID == id && h.LastOffset() == last.Offset }) {
			t.Fatalf("the last batch of producer %d, at offset %d, is gone", id, last.Offset)
		}
	}
	// From any offset, the same comes.
	for from := v.StartOffset(); from < v.EndOffset(); from += 1 + (v.EndOffset()-v.StartOffset())/17 {
		want := got.records
		for len(want) > 0 && want[0].offset < from {
			want = want[1:]
		}
		if part := read(t, v, from); !slices.Equal(part.records, want) {
			t.Fatalf("from offset %d: %v, want %v", from, part.records, want)
		}
	}
}

// Random logs, with random passes between the appends: the model's rules hold after every one, for views from before it too, and
// after a restart.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := mustRig(t)
		if rapid.Bool().Draw(t, "small map") {
			r.bound.MapBytesMax = int64(rapid.IntRange(1, 20).Draw(t, "slots")) * slotSize
		}
		keys := rapid.SampledFrom([]int{3, 8, 60}).Draw(t, "keys")
		var old []seglog.View
		steps := rapid.IntRange(5, 60).Draw(t, "steps")
		for range steps {
			var err error
			switch rapid.IntRange(0, 11).Draw(t, "step") {
			case 0, 1:
				old = append(old, r.log.View())
				var did bool
				if err = r.flush(); err != nil {
					t.Fatal(err)
				}
				if did, err = r.clean(int64(rapid.SampledFrom([]int{1, 300, 5000}).Draw(t, "budget"))); did && err == nil {
					r.model.verify(t, r.log.View(), r.log.Cleaned(), r.clk.Now().UnixMilli())
				}
			case 2:
				err = r.log.Roll(r.clk.Now())
			case 3:
				r.clk.Advance(time.Duration(rapid.IntRange(1, 100).Draw(t, "minutes")) * time.Minute)
			case 4:
				err = r.mark(int64(rapid.IntRange(3, 4).Draw(t, "producer")), rapid.Bool().Draw(t, "commit"))
			case 5:
				if err = r.flush(); err == nil && rapid.Bool().Draw(t, "sweep") {
					_, err = r.dir.Sweep(100)
				}
			default:
				o := options{codec: batch.Codec(rapid.IntRange(0, 4).Draw(t, "codec")), producer: int64(rapid.IntRange(0, 4).Draw(t, "producer"))}
				o.transactional = o.producer > 2
				var records []kv
				for range rapid.IntRange(1, 5).Draw(t, "records") {
					key := fmt.Sprint("key", rapid.IntRange(0, keys).Draw(t, "key"))
					x := put(key, fmt.Sprint(r.end(), rapid.StringN(0, 40, 80).Draw(t, "value")))
					x.tombstone = rapid.IntRange(0, 4).Draw(t, "tombstone") == 0
					if x.tombstone {
						x.value = ""
					}
					if x.noKey = rapid.IntRange(0, 15).Draw(t, "no key") == 0; x.noKey {
						x.key = ""
					}
					records = append(records, x)
				}
				err = r.append(o, records...)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := r.flush(); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			if _, err := r.clean(1000); err != nil {
				t.Fatal(err)
			}
		}
		if r.end() == 0 {
			return
		}
		r.model.verify(t, r.log.View(), r.log.Cleaned(), r.clk.Now().UnixMilli())
		if _, err := r.dir.Sweep(1000); err != nil {
			t.Fatal(err)
		}
		for _, v := range old {
			readOld(t, v)
		}
		r.reopen(true)
		r.model.verify(t, r.log.View(), r.log.Cleaned(), r.clk.Now().UnixMilli())
		r.reopen(false)
		r.model.verify(t, r.log.View(), r.log.Cleaned(), r.clk.Now().UnixMilli())
	})
}

// reopen stops and starts, cleanly or as if killed after a flush.
func (r *rig) reopen(clean bool) {
	r.t.Helper()
	if err := r.flush(); err != nil {
		r.t.Fatal(err)
	}
	fs := r.fs
	if clean {
		if err := r.log.Close(); err != nil {
			r.t.Fatal(err)
		}
		r.sync.Close()
		if err := r.dir.Close(); err != nil {
			r.t.Fatal(err)
		}
	} else {
		fs = r.fs.(*vfs.Mem).CrashStrict()
	}
	next, err := newRig(r.t, fs, 9)
	if err != nil {
		r.t.Fatal(err)
	}
	next.clk.Advance(r.clk.Now().Mono)
	next.model, next.set, next.bound = r.model, r.set, r.bound
	*r = *next
}

// readOld reads a view from before compaction: what was replaced since shows nothing or what replaced it, and no error.
func readOld(t tb, v seglog.View) {
	t.Helper()
	for at := v.StartOffset(); at < v.EndOffset(); at++ {
		s, err := v.Read(at, 900, v.EndOffset(), true)
		if err != nil {
			t.Fatalf("read at %d: %v", at, err)
		}
		b := make([]byte, s.Length)
		if s.Length > 0 {
			if _, err := s.File.ReadAt(b, s.Position); err != nil {
				t.Fatal(err)
			}
		}
		s.Release()
		if scan := batch.Scan(b); s.Length > 0 && (!scan.Next() || scan.Header().LastOffset() < at || batch.VerifyCRC(scan.Bytes()) != nil) {
			t.Fatalf("read at %d gives %d bytes: %+v", at, s.Length, scan.Header())
		}
	}
	next := v.StartOffset()
	err := v.Scan(next, v.EndOffset(), func(h *batch.Header, _ []byte) error {
		if h.BaseOffset < next {
			return fmt.Errorf("batch at %d twice", h.BaseOffset)
		}
		next = h.NextOffset()
		return nil
	})
	if _, _, err2 := v.OffsetForTimestamp(1, v.EndOffset()); err != nil || err2 != nil {
		t.Fatalf("scan: %v, look up: %v", err, err2)
	}
	if _, _, err := v.MaxTimestamp(v.EndOffset()); err != nil {
		t.Fatal(err)
	}
}
