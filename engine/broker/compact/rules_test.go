package compact

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/seglog"
)

// must appends a batch without producer.
func (r *rig) must(records ...kv) {
	r.t.Helper()
	if err := r.append(options{}, records...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) roll() {
	r.t.Helper()
	if err := r.log.Roll(r.clk.Now()); err != nil {
		r.t.Fatal(err)
	}
	if err := r.flush(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) mustClean() {
	r.t.Helper()
	if did, err := r.clean(1 << 20); err != nil || !did {
		r.t.Fatalf("cleaned: %v, %v", did, err)
	}
	r.model.verify(r.t, r.log.View(), r.log.Cleaned(), r.clk.Now().UnixMilli())
}

// text is what the log holds: "key=value@offset", a tombstone without value.
func (r *rig) text() string {
	var out []string
	for _, x := range read(r.t, r.log.View(), r.log.View().StartOffset()).records {
		if x.tombstone {
			out = append(out, fmt.Sprintf("%s@%d", x.key, x.offset))
			continue
		}
		out = append(out, fmt.Sprintf("%s=%s@%d", x.key, x.value, x.offset))
	}
	return strings.Join(out, " ")
}

func (r *rig) want(text string) {
	r.t.Helper()
	if got := r.text(); got != text {
		r.t.Fatalf("log holds %q, want %q", got, text)
	}
}

// A tombstone stays for delete.retention.ms after the pass that first kept it, whatever passes come in between, and goes with the
// first one after.
func TestTombstones(t *testing.T) {
	r := mustRig(t)
	r.must(put("a", "1"), put("b", "1"))
	r.must(del("a"))
	r.roll()
	r.clk.Advance(48 * time.Hour) // its age does not count before the first pass
	r.mustClean()
	r.want("b=1@1 a@2")
	for i := range 5 {
		r.clk.Advance(11 * time.Minute)
		r.must(put("c", fmt.Sprint(i)))
		r.roll()
		r.mustClean()
	}
	r.want("b=1@1 a@2 c=4@7")
	r.clk.Advance(6 * time.Minute)
	r.must(put("c", "5"))
	r.roll()
	r.mustClean()
	r.want("b=1@1 c=5@8")
	if end := read(t, r.log.View(), 0).headers; end[len(end)-1].NextOffset() != 9 {
		t.Fatalf("%+v", end)
	}
}

// A tombstone that a pass takes over beyond the end of its map is not dated: what it deletes is still there for a reader to find,
// who has delete.retention.ms from the pass that removes it.
func TestTombstoneBeyondTheMap(t *testing.T) {
	r := mustRig(t)
	r.bound.MapBytesMax = slotSize // 14 keys
	var many []kv
	for i := range 14 {
		many = append(many, put(fmt.Sprint(i), "1"))
	}
	r.must(many...)
	r.must(put("a", "1"))
	r.must(del("a"))
	r.roll()
	r.mustClean()
	if r.log.Cleaned() != 14 {
		t.Fatalf("clean before %d", r.log.Cleaned())
	}
	for range 2 {
		r.clk.Advance(r.set.DeleteRetention + time.Minute)
		r.must(put("b", "1"))
		r.roll()
		r.mustClean()
		if left := strings.Contains(r.text(), "a@15"); left != (r.log.Cleaned() == 17) {
			t.Fatalf("clean before %d: %s", r.log.Cleaned(), r.text())
		}
	}
}

// Without a clock that is known to be right no tombstone is dated, and none that was dated goes.
func TestWrongClock(t *testing.T) {
	r := mustRig(t)
	r.must(put("a", "1"))
	r.must(del("a"))
	r.must(del("b"))
	r.roll()
	r.mustClean()
	v := r.log.View()
	bad := Time{Ms: r.clk.Now().UnixMilli() + 1000*time.Hour.Milliseconds()}
	set := r.set
	set.LagMin = time.Hour
	if look, err := Examine(v, 0, r.end(), set, bad); err != nil || look.DirtyBytes != 0 || !look.Waits {
		t.Fatalf("a record is old enough by a wrong clock: %+v %v", look, err)
	}
	r.must(put("c", "1"))
	r.roll()
	v = r.log.View()
	look, err := Examine(v, r.log.Cleaned(), r.end(), r.set, bad)
	if err != nil || look.DirtyBytes == 0 {
		t.Fatalf("%+v %v", look, err)
	}
	p := NewPass(Work{View: v, Look: look, Settings: r.set, Now: bad, Bounds: r.bound})
	ready, _, err := p.Advance(1 << 20)
	if err != nil || r.log.Replace(ready) != nil {
		t.Fatal(err)
	}
	r.want("a@1 b@2 c=1@3")

	r = mustRig(t)
	r.must(put("a", "1"), del("a"))
	r.roll()
	if look, err = Examine(r.log.View(), 0, r.end(), r.set, bad); err != nil {
		t.Fatal(err)
	}
	p = NewPass(Work{View: r.log.View(), Look: look, Settings: r.set, Now: bad, Bounds: r.bound})
	if ready, _, err = p.Advance(1 << 20); err != nil || r.log.Replace(ready) != nil {
		t.Fatal(err)
	}
	if h := read(t, r.log.View(), 0).headers[0]; h.Attributes.DeleteHorizon() || h.Count != 1 {
		t.Fatalf("a tombstone dated by a wrong clock: %+v", h)
	}
}

// The last batch of a segment stays, though nothing is in it, and producers are known by their last batches; what
// compression there was stays.
func TestEmptyBatches(t *testing.T) {
	r := mustRig(t)
	for i := range 4 {
		if err := r.append(options{codec: batch.Zstd, producer: 7}, put("a", fmt.Sprint(i)), put(fmt.Sprint("b", i), strings.Repeat("x", 100))); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.append(options{producer: 8}, put("a", "8")); err != nil {
		t.Fatal(err)
	}
	r.must(put("a", "9"))
	r.roll()
	r.must(put("a", "10"))
	r.roll()
	r.must(put("z", "1"))
	r.mustClean()
	var shapes []string
	for _, h := range read(t, r.log.View(), 0).headers {
		shapes = append(shapes, fmt.Sprintf("%d-%d n%d p%d s%d %v", h.BaseOffset, h.LastOffset(), h.Count, h.ProducerID, h.BaseSequence, h.Attributes.Codec()))
	}
	want := []string{
		"0-1 n1 p7 s0 zstd", "2-3 n1 p7 s2 zstd", "4-5 n1 p7 s4 zstd", "6-7 n1 p7 s6 zstd", "8-8 n0 p8 s0 none", "10-10 n1 p-1 s-1 none", "11-11 n1 p-1 s-1 none",
	}
	if !slices.Equal(shapes, want) {
		t.Fatalf("%q", shapes)
	}
	if n := len(r.log.View().Parts()); n != 1 {
		t.Fatalf("%d sealed segments; neighbours that fit one are joined", n)
	}
}

// Joined segments stay within segment.bytes and the size of an index.
func TestGroups(t *testing.T) {
	r := mustRig(t)
	r.set.SegmentBytes = 700
	for i := range 12 {
		r.must(put(fmt.Sprint(i), strings.Repeat("v", 150)))
		r.roll()
	}
	v := r.log.View()
	all, err := groups(v, 12, r.set)
	if err != nil || len(all) != 4 || all[0] != (group{0, 3}) || all[3] != (group{9, 12}) {
		t.Fatalf("%v %v", all, err)
	}
	set := r.set
	set.IndexBytes = 24 // two entries of a time index
	if all, err = groups(v, 12, set); err != nil || len(all) != 6 {
		t.Fatalf("%v %v", all, err)
	}
	r.mustClean()
	opts := batch.NewOptions()
	opts.BaseOffset = 1 << 32 // as a follower of a compacted log may be given
	b := batch.NewBuilder(opts)
	b.Append(1, []byte("k"), []byte("v"))
	raw, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.log.Append(r.clk.Now(), raw); err != nil {
		t.Fatal(err)
	}
	r.roll()
	set = r.set
	set.SegmentBytes = 1 << 20
	v = r.log.View()
	if all, err = groups(v, len(v.Parts()), set); err != nil || len(all) != 3 { // what was there, the empty segment before the gap, and the one behind it
		t.Fatalf("%v %v: no relative offset reaches that far", all, err)
	}
	for _, p := range r.log.View().Parts() {
		if p.Size > 700 {
			t.Fatalf("%+v", p)
		}
	}
}

// Which part is dirty, and when a log is due.
func TestExamine(t *testing.T) {
	r := mustRig(t)
	for i := range 6 {
		r.must(put("a", fmt.Sprint(i)))
		r.roll()
	}
	r.must(put("a", "active"))
	one := r.log.View().Parts()[0].Size
	now := Time{r.clk.Now().UnixMilli(), true}
	for _, c := range []struct {
		name            string
		cleaned, stable int64
		change          func(*Settings)
		dirty, limit    int64
		bytes           int64
		due, waits      bool
	}{
		{"all but the active one", 0, 7, nil, 0, 6, 6, true, false},
		{"below the last stable offset", 0, 3, nil, 0, 3, 3, true, false},
		{"from the checkpoint", 4, 7, nil, 4, 6, 2, false, false},
		{"more than the ratio", 4, 7, func(s *Settings) { s.DirtyRatioMin = 0.33 }, 4, 6, 2, true, false},
		{"nothing new", 6, 7, nil, 6, 6, 0, false, false},
		{"a checkpoint beyond the end is of another log", 9, 7, nil, 0, 6, 6, true, false},
		{"too young", 0, 7, func(s *Settings) { s.LagMin = 3500 * time.Millisecond }, 0, 3, 3, true, true},
		{"overdue", 4, 7, func(s *Settings) { s.LagMax = time.Second }, 4, 6, 2, true, false},
		{"not overdue", 4, 7, func(s *Settings) { s.LagMax = time.Minute }, 4, 6, 2, false, true},
	} {
		set := r.set
		set.DirtyRatioMin = 0.5
		if c.change != nil {
			c.change(&set)
		}
		look, err := Examine(r.log.View(), c.cleaned, c.stable, set, now)
		if err != nil || look.Dirty != c.dirty || look.Limit != c.limit || look.DirtyBytes != c.bytes*one || look.Due(set) != c.due || look.Waits != c.waits {
			t.Errorf("%s: %+v, due %v, %v", c.name, look, look.Due(set), err)
		}
	}
}

// A batch that may not be unpacked stays whole. Keys that do not fit into the map end a pass that gets nowhere.
func TestBounds(t *testing.T) {
	r := mustRig(t)
	big := strings.Repeat("big ", 2000)
	for i := range 2 {
		if err := r.append(options{codec: batch.Gzip}, put("a", fmt.Sprint(i, big)), put("b", "1")); err != nil {
			t.Fatal(err)
		}
	}
	r.must(put("a", "2"))
	r.roll()
	r.bound.OpenBytesMax = 1000
	if did, err := r.clean(100); !did || err != nil {
		t.Fatal(did, err)
	}
	if got := read(t, r.log.View(), 0).records; len(got) != 5 {
		t.Fatalf("%v", got)
	}

	r = mustRig(t)
	var many []kv
	for i := range 40 {
		many = append(many, put(fmt.Sprint(i), "1"))
	}
	r.must(put("a", "1"))
	r.must(many...)
	r.roll()
	r.bound.MapBytesMax = slotSize
	if _, err := r.clean(100); err != nil || r.log.Cleaned() != 1 {
		t.Fatalf("clean before %d: %v", r.log.Cleaned(), err)
	}
	if _, err := r.clean(100); !errors.Is(err, ErrNoProgress) {
		t.Fatal(err)
	}
}

// What the owner did to the log meanwhile ends a pass, and leaves nothing behind.
func TestLogMovesOn(t *testing.T) {
	for name, move := range map[string]func(*rig) error{
		"truncated": func(r *rig) error { return r.log.Truncate(3) },
		"anew":      func(r *rig) error { return r.log.TruncateFullyAndStartAt(100) },
		"retained": func(r *rig) error {
			if err := r.log.AdvanceStart(4, func(error) {}); err != nil {
				return err
			}
			_, err := r.log.Retention(r.clk.Now(), true, r.end())
			return err
		},
	} {
		r := mustRig(t)
		for i := range 8 {
			r.must(put("a", fmt.Sprint(i)), put("b", "1"))
			r.roll()
		}
		v := r.log.View()
		if err := r.log.SetCleaned(v, 8); err != nil {
			t.Fatal(err)
		}
		look, err := Examine(v, 0, r.end(), r.set, Time{1, true})
		if err != nil {
			t.Fatal(err)
		}
		p := NewPass(Work{View: v, Look: look, Settings: r.set, Now: Time{1, true}, Bounds: r.bound})
		for p.out == nil {
			if _, _, err := p.Advance(10); err != nil {
				t.Fatal(err)
			}
		}
		if err := move(r); err != nil {
			t.Fatal(name, err)
		}
		ready, _, err := p.Advance(1 << 20)
		if err == nil {
			err = r.log.Replace(ready)
		}
		if !errors.Is(err, seglog.ErrOutOfRange) {
			t.Fatalf("%s: %v", name, err)
		}
		if err := p.Abort(); err != nil {
			t.Fatal(name, err)
		}
		infos, err := r.fs.List("/data/state-0")
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range infos {
			if strings.HasSuffix(info.Name, ".cleaned") || strings.HasSuffix(info.Name, ".swap") {
				t.Fatalf("%s: %s is left", name, info.Name)
			}
		}
		if name == "truncated" && r.log.Cleaned() != 2 || name == "anew" && r.log.Cleaned() != 8 {
			t.Fatalf("%s: clean before %d", name, r.log.Cleaned())
		}
		if r.log.View().EndOffset() > 0 {
			r.must(put("c", "1"))
			read(t, r.log.View(), r.log.View().StartOffset())
		}
	}
}

// A log that is cut while a pass is at work, as a follower's is after an unclean election, keeps the latest record that it has left of each
// key: the pass goes by records that are gone, also where it is at segments that the cut has not touched. What comes in their place is dirty.
func TestCutDuringAPass(t *testing.T) {
	for _, at := range []string{"before it reads on", "before its segment is in place", "before it is noted"} {
		r := mustRig(t)
		r.set.SegmentBytes = 1 // no two segments become one
		r.must(put("k", "old"), put("a", "1"))
		r.roll()
		r.must(put("b", "1"))
		r.roll()
		cut := r.end()
		r.must(put("k", "new"))
		r.roll()
		v, now := r.log.View(), Time{1, true}
		look, err := Examine(v, 0, r.end(), r.set, now)
		if err != nil || look.Limit <= cut {
			t.Fatal(look.Limit, err)
		}
		p := NewPass(Work{View: v, Look: look, Settings: r.set, Now: now, Bounds: r.bound})
		move := func(when string) {
			t.Helper()
			if when != at {
				return
			}
			if err := r.log.Truncate(cut); err != nil {
				t.Fatal(err)
			}
			r.model.records = slices.DeleteFunc(r.model.records, func(x record) bool { return x.offset >= cut })
			r.must(put("c", "1"))
		}
		if _, _, err := p.Advance(1); err != nil {
			t.Fatal(err)
		}
		move("before it reads on")
		for over := false; err == nil && !over; {
			var ready *seglog.Rewrite
			switch ready, over, err = p.Advance(1 << 20); {
			case over:
				move("before it is noted")
				err = r.log.SetCleaned(v, p.CleanedTo())
			case err == nil:
				move("before its segment is in place")
				if err = r.log.Replace(ready); err == nil {
					p.Replaced()
				}
			}
		}
		if !errors.Is(err, seglog.ErrOutOfRange) || r.log.Cleaned() != 0 {
			t.Fatalf("the log is cut %s: %v, clean before %d", at, err, r.log.Cleaned())
		}
		if err := p.Abort(); err != nil {
			t.Fatal(at, err)
		}
		if at != "before it is noted" { // then k@0 gave way to a record that was there
			r.want("k=old@0 a=1@1 b=1@2 c=1@3")
			r.roll()
			r.mustClean()
		}
	}
}
