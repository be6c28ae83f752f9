package seglog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cairn/engine/broker/batch"
	"cairn/platform/clock"
	"cairn/platform/vfs"
)

// fill appends batches of one record and about size bytes, one second apart, and returns them.
func (r *rig) fill(l *Log, n, size int) [][]byte {
	r.t.Helper()
	var out [][]byte
	for range n {
		r.clk.Advance(time.Second)
		b := makeBatch(l.View().EndOffset(), 1, 1, size, r.clk.Now().UnixMilli(), int(l.View().EndOffset())*5)
		if _, err := l.Append(r.clk.Now(), b); err != nil {
			r.t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func readWhole(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	b, err := readFile(fs, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const segment0 = "/data/orders-0/00000000000000000000"

// The bytes of every file are Kafka's.
func TestFilesAreKafkas(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	r.cfg.IndexInterval = 100
	l := r.create()
	batches := r.fill(l, 4, 60)
	if err := l.AppendAborted(AbortedTxn{ProducerID: 7, FirstOffset: 1, LastOffset: 2, LastStableOffset: 3}); err != nil {
		t.Fatal(err)
	}
	r.mustFlush(l)
	if err := l.AdvanceStart(1, func(error) {}); err != nil {
		t.Fatal(err)
	}
	l.SetHighWatermark(3)
	r.stop(l)

	var log []byte
	for _, b := range batches {
		log = append(log, b...)
	}
	if got := readWhole(t, mem, segment0+".log"); !bytes.Equal(got, log) {
		t.Errorf(".log has %d bytes, appended %d", len(got), len(log))
	}
	size := len(batches[0]) // all are equal; each is over the interval alone
	if got, want := hex.EncodeToString(readWhole(t, mem, segment0+".index")),
		fmt.Sprintf("00000001%08x00000002%08x00000003%08x", size, 2*size, 3*size); got != want {
		t.Errorf(".index is %s, want %s", got, want)
	}
	ts := int64(1_700_000_000_000)
	if got, want := hex.EncodeToString(readWhole(t, mem, segment0+".timeindex")),
		fmt.Sprintf("%016x00000001%016x00000002%016x00000003", ts+2000, ts+3000, ts+4000); got != want {
		t.Errorf(".timeindex is %s, want %s", got, want)
	}
	if got, want := hex.EncodeToString(readWhole(t, mem, segment0+".txnindex")),
		"0000"+"0000000000000007"+"0000000000000001"+"0000000000000002"+"0000000000000003"; got != want {
		t.Errorf(".txnindex is %s, want %s", got, want)
	}
	for name, want := range map[string]string{
		"/data/orders-0/partition.metadata":      "version: 0\ntopic_id: AQIDAAAAAAAAAAAAAAAAAA",
		"/data/orders-0/leader-epoch-checkpoint": "0\n1\n1 1\n",
		"/data/recovery-point-offset-checkpoint": "0\n1\norders 0 4\n",
		"/data/log-start-offset-checkpoint":      "0\n1\norders 0 1\n",
		"/data/replication-offset-checkpoint":    "0\n1\norders 0 3\n",
		"/data/.kafka_cleanshutdown":             `{"version":0,"brokerEpoch":-1}`,
		"/data/meta.properties":                  "#\ncluster.id=cluster\ndirectory.id=" + r.dir.ID().String() + "\nnode.id=1\nversion=1\n",
	} {
		if got := string(readWhole(t, mem, name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	n := 0
	f, _ := mem.Open(segment0+".log", vfs.ReadOnly)
	end, err := DumpLog(f, func(position int64, h *batch.Header, invalid error) error {
		if position != int64(n*size) || h.BaseOffset != int64(n) || invalid != nil {
			t.Errorf("dump: %d %+v %v", position, h, invalid)
		}
		n++
		return nil
	})
	if err != nil || end != int64(len(log)) || n != 4 {
		t.Errorf("dumped %d batches, %d bytes: %v", n, end, err)
	}
	f, _ = mem.Open(segment0+".index", vfs.ReadOnly)
	n = 0
	if err := DumpIndex(f, 0, func(offset, position int64) error { n++; return nil }); err != nil || n != 3 {
		t.Errorf("dumped %d index entries: %v", n, err)
	}
}

// What the operations give is what a list of batches would give, whatever the order, with clean stops and kills between.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mem := vfs.NewMem()
		m := &model{epoch: 1}
		r, err := newRig(t, mem, uint64(rapid.Uint32().Draw(rt, "seed")))
		if err != nil {
			rt.Fatal(err)
		}
		p := &player{rig: r, m: m}
		lines := []string{"create"}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			lines = append(lines, rapid.OneOf(
				rapid.Custom(func(t *rapid.T) string {
					return fmt.Sprintf("append %d %d", rapid.IntRange(1, 6).Draw(t, "records"), rapid.IntRange(1, 900).Draw(t, "bytes"))
				}),
				rapid.Custom(func(t *rapid.T) string {
					return fmt.Sprintf("append %d %d", rapid.IntRange(1, 6).Draw(t, "records"), rapid.IntRange(1, 900).Draw(t, "bytes"))
				}),
				rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("truncate %d", rapid.IntRange(0, 100).Draw(t, "percent")) }),
				rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("start %d", rapid.IntRange(0, 100).Draw(t, "percent")) }),
				rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("startanew %d", rapid.IntRange(-30, 30).Draw(t, "offset")) }),
				rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("retain %d", rapid.IntRange(0, 5000).Draw(t, "bytes")) }),
				rapid.SampledFrom([]string{"flush", "flush", "roll", "epoch", "checkpoint", "state", "rest", "sweep", "reopen", "wait"}),
			).Draw(rt, "line"))
		}
		for _, line := range lines {
			if err := p.step(line); err != nil {
				rt.Fatal(err)
			}
			p.m.verifyLive(t, p.l.View())
			p.verifyLookups(rt)
		}
		// A power cut at the end finds what was acknowledged.
		m.created = m.acked > 0
		image := mem.Crash(r.sched.Rand())
		again, err := newRig(t, image, 9)
		if err != nil {
			rt.Fatal(err)
		}
		l, err := again.dir.Open(testTP, again.cfg)
		if err != nil {
			if !m.created {
				return
			}
			rt.Fatal(err)
		}
		m.verify(t, l.View(), "after a power cut behind "+strings.Join(lines, "; "))
	})
}

// verifyLookups compares look-ups by timestamp and epoch with a walk over the model's records.
func (p *player) verifyLookups(t *rapid.T) {
	v := p.l.View()
	var want []TimestampOffset // all records that can be read
	for _, b := range p.m.batches {
		h := header(b)
		var o batch.Opener
		records, err := o.Records(h, b, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		_ = batch.Walk(h, records, func(r *batch.Record) error {
			if offset := h.BaseOffset + int64(r.OffsetDelta); offset >= v.StartOffset() {
				want = append(want, TimestampOffset{r.Timestamp(h), offset, h.LeaderEpoch})
			}
			return nil
		})
	}
	now := p.clk.Now().UnixMilli()
	for _, ts := range []int64{0, now - 20_000, now - 5000, now - 1999, now, now + 3, now + 100} {
		for _, limit := range []int64{v.EndOffset(), (v.StartOffset() + v.EndOffset()) / 2} {
			var expect TimestampOffset
			ok := false
			for _, w := range want {
				if w.Timestamp >= ts && w.Offset < limit {
					expect, ok = w, true
					break
				}
			}
			got, found, err := v.OffsetForTimestamp(ts, limit)
			if err != nil || found != ok || ok && got != expect {
				t.Fatalf("time %d below %d: %+v %v %v, want %+v %v", ts, limit, got, found, err, expect, ok)
			}
		}
	}
	got, found, err := v.MaxTimestamp(math.MaxInt64)
	if err != nil || found != (len(want) > 0) {
		t.Fatalf("greatest timestamp: %+v %v %v of %d records", got, found, err, len(want))
	}
	for _, w := range want {
		if w.Timestamp > got.Timestamp {
			t.Fatalf("greatest timestamp is %+v, not %+v", got, w)
		}
	}
	for _, w := range want {
		if e := v.EpochFor(w.Offset); e != w.LeaderEpoch {
			t.Fatalf("epoch of offset %d is %d, want %d (%v)", w.Offset, e, w.LeaderEpoch, v.Epochs())
		}
	}
}

func TestReadBounds(t *testing.T) {
	r := mustRig(t, vfs.NewMem())
	l := r.create()
	batches := r.fill(l, 10, 200)
	size := len(batches[0])
	v := l.View()
	for _, c := range []struct {
		name       string
		offset     int64
		maxBytes   int
		limit      int64
		atLeastOne bool
		length     int
		err        error
	}{
		{"one that fits", 2, size, 10, false, size, nil},
		{"one that does not fit", 2, size - 1, 10, false, 0, nil},
		{"one that does not fit, at least one", 2, 1, 10, true, size, nil},
		{"no bytes asked, at least one", 2, 0, 10, true, size, nil},
		{"ends inside a batch", 0, size + 10, 10, false, size + 10, nil},
		{"limit", 0, 1 << 20, 2, true, 2 * size, nil},
		{"limit at the offset", 2, 1 << 20, 2, true, 0, nil},
		{"limit below the offset", 2, 1 << 20, 1, true, 0, nil},
		{"at the end", 10, 1 << 20, 100, true, 0, nil},
		{"beyond the end", 11, 1 << 20, 100, true, 0, ErrOutOfRange},
		{"negative", -1, 1 << 20, 100, true, 0, ErrOutOfRange},
	} {
		s, err := v.Read(c.offset, c.maxBytes, c.limit, c.atLeastOne)
		if !errors.Is(err, c.err) || s.Length != c.length {
			t.Errorf("%s: %d bytes, %v; want %d, %v", c.name, s.Length, err, c.length, c.err)
		}
		s.Release()
	}
}

func TestAppendRefuses(t *testing.T) {
	r := mustRig(t, vfs.NewMem())
	l := r.create()
	r.fill(l, 3, 50)
	good := makeBatch(3, 1, 2, 50, 1, 1)
	bad := bytes.Clone(good)
	bad[16] = 1
	for name, b := range map[string][]byte{
		"nothing": nil, "an offset that is taken": makeBatch(2, 1, 1, 50, 1, 1), "half a batch": good[:80],
		"a batch and a half": append(bytes.Clone(good), good[:80]...), "the same batch twice": append(bytes.Clone(good), good...), "magic 1": bad,
	} {
		_, err := l.Append(r.clk.Now(), b)
		if !errors.Is(err, ErrInvalid) || l.View().EndOffset() != 3 {
			t.Errorf("%s: %v, log ends at %d", name, err, l.View().EndOffset())
		}
	}
	if _, err := l.Append(r.clk.Now(), makeBatch(50, 2, 2, 50, 1, 1)); err != nil {
		t.Fatalf("a gap, as a follower of a compacted log has: %v", err)
	}
	if s, err := l.View().Read(10, 100, 1000, true); err != nil || s.Length == 0 {
		t.Fatalf("read in the gap: %v", err)
	}
	if n, err := l.View().Read(10, 100, 50, true); err != nil || n.Length != 0 {
		t.Fatalf("read in the gap up to its end: %d bytes, %v", n.Length, err)
	}
}

// A follower of a compacted log may see gaps that no relative offset spans: a segment begins behind the gap.
func TestGapsWiderThanASegment(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	offsets := []int64{1 << 33, 1<<33 + 5, 1 << 40, 1<<40 + 100}
	for i, offset := range offsets {
		if _, err := l.Append(r.clk.Now(), makeBatch(offset, 1, 1, 100, int64(i), i*5)); err != nil {
			t.Fatal(err)
		}
	}
	r.mustFlush(l)
	check := func(l *Log) {
		t.Helper()
		got := readAll(t, l.View())
		if len(got) != len(offsets) {
			t.Fatalf("%d batches, want %d", len(got), len(offsets))
		}
		for i, b := range got {
			if header(b).BaseOffset != offsets[i] {
				t.Errorf("batch at %d, want %d", header(b).BaseOffset, offsets[i])
			}
		}
	}
	check(l)
	check(mustRig(t, mem.CrashStrict()).open())
}

// Spans keep their bytes when the segment is deleted or replaced; older views say that they are too old.
func TestSpansOutliveTheirSegment(t *testing.T) {
	r := mustRig(t, vfs.NewMem())
	l := r.create()
	batches := r.fill(l, 8, 400)
	r.mustFlush(l)
	old := l.View()
	read := func(s Span) []byte {
		b := make([]byte, s.Length)
		if _, err := s.File.ReadAt(b, s.Position); err != nil {
			t.Fatal(err)
		}
		return b
	}
	first, err := old.Read(0, 1, 100, true)
	if err != nil {
		t.Fatal(err)
	}
	last, err := old.Read(7, 1, 100, true)
	if err != nil {
		t.Fatal(err)
	}
	r.cfg.RetentionBytes = 500
	_ = l.SetConfig(r.cfg)
	if removed, err := l.Retention(r.clk.Now(), true, 6); err != nil || removed.Segments == 0 {
		t.Fatalf("%+v %v", removed, err)
	}
	if err := r.sweep(); err != nil {
		t.Fatal(err)
	}
	base := l.View().segs[len(l.View().segs)-1].base
	if err := l.Truncate(base); err != nil {
		t.Fatal(err)
	}
	b := makeBatch(base, 2, 1, 400, 1, 77)
	if _, err := l.Append(r.clk.Now(), b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(first), batches[0]) || !bytes.Equal(read(last), batches[7]) {
		t.Error("a span changed under its reader")
	}
	first.Release()
	last.Release()
	for _, offset := range []int64{0, 7} {
		if _, err := old.Read(offset, 1, 100, true); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("read at %d through an old view: %v", offset, err)
		}
	}
}

func TestRetentionByTime(t *testing.T) {
	r := mustRig(t, vfs.NewMem())
	r.cfg.Retention = time.Minute
	r.cfg.SegmentBytes = 300 // a segment for each batch
	l := r.create()
	now := r.clk.Now().UnixMilli()
	for i, ts := range []int64{now, now + 1000, now + int64(100*time.Hour/time.Millisecond), -1, now + 2000, now + 90_000} {
		if _, err := l.Append(r.clk.Now(), makeBatch(int64(i), 1, 1, 250, ts, i*5)); err != nil {
			t.Fatal(err)
		}
	}
	r.mustFlush(l)
	at := func(d time.Duration) clock.Now {
		n := r.clk.Now()
		n.Wall = n.Wall.Add(d)
		return n
	}
	for _, c := range []struct {
		name  string
		now   clock.Now
		good  bool
		bound int64
		start int64
	}{
		{"nothing is old", at(30 * time.Second), true, 6, 0},
		{"clock not known to be good", at(300 * time.Second), false, 6, 0},
		{"bound", at(70 * time.Second), true, 1, 1},
		// The batch from the future and the one without time are older than the fifth, which is past its time.
		{"the future is not believed", at(70 * time.Second), true, 6, 5},
		{"the active segment rolls", at(300 * time.Second), true, 6, 6},
	} {
		removed, err := l.Retention(c.now, c.good, c.bound)
		if err != nil || removed.StartOffset != c.start || l.View().StartOffset() != c.start {
			t.Errorf("%s: starts at %d (%+v), want %d: %v", c.name, l.View().StartOffset(), removed, c.start, err)
		}
	}
	if l.View().EndOffset() != 6 {
		t.Errorf("log ends at %d", l.View().EndOffset())
	}
}

func TestBudget(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetCapacity(1, 1<<20)
	r := mustRig(t, mem)
	r.dir.cfg.BudgetFraction = 0.01 // about 10 KiB
	var logs []*Log
	for i := range 3 {
		cfg := r.cfg
		cfg.RefuseWhenFull = i == 2
		l, err := r.dir.Create(TopicPartition{"t", int32(i)}, ID{9}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, l)
	}
	if plan, err := r.dir.PlanBudget(); err != nil || len(plan) != 0 {
		t.Fatalf("%+v %v", plan, err)
	}
	for range 20 {
		for _, l := range logs {
			r.fill(l, 1, 300)
		}
	}
	plan, err := r.dir.PlanBudget()
	if err != nil || len(plan) != 2 {
		t.Fatalf("%+v %v", plan, err)
	}
	for _, trim := range plan {
		removed, err := trim.Log.TrimTo(r.clk.Now(), trim.Before, trim.Log.View().EndOffset())
		if err != nil || removed.Bytes != trim.Bytes || removed.StartOffset != trim.Before {
			t.Errorf("%+v: %+v %v", trim, removed, err)
		}
	}
	if logs[2].View().StartOffset() != 0 {
		t.Error("a log that refuses when full was trimmed")
	}
	if u, err := r.dir.Usage(); err != nil || u.Logs > u.Budget {
		t.Errorf("%+v %v", u, err)
	}
}

func TestDeleteAndRecreate(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	r.fill(l, 20, 300)
	r.mustFlush(l)
	if err := r.checkpoint(); err != nil {
		t.Fatal(err)
	}
	if err := l.Delete(); err != nil {
		t.Fatal(err)
	}
	if found, err := r.dir.Partitions(); err != nil || len(found) != 0 {
		t.Fatalf("%v %v", found, err)
	}
	// The recovery point of the deleted one must not vouch for the new one.
	l, err := r.dir.Create(testTP, ID{4}, r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.fill(l, 1, 100)
	r.mustFlush(l)
	if err := r.sweep(); err != nil {
		t.Fatal(err)
	}
	if len(readAll(t, l.View())) != 1 {
		t.Fatal("the new log was swept with the old one")
	}
	again := mustRig(t, mem.CrashStrict())
	if l = again.open(); l.View().EndOffset() != 1 || l.TopicID() != (ID{4}) {
		t.Fatalf("log of %v ends at %d", l.TopicID(), l.View().EndOffset())
	}
	infos, _ := mem.List("/data")
	for _, info := range infos {
		if strings.HasSuffix(info.Name, "-delete") {
			t.Errorf("%s was not swept", info.Name)
		}
	}
	if err := again.dir.SetAside(TopicPartition{"absent", 0}); !errors.Is(err, ErrNotExist) {
		t.Errorf("set aside: %v", err)
	}
}

func TestForeignDirectories(t *testing.T) {
	mem := vfs.NewMem()
	overwrite(t, mem, "/x", 0, nil)
	_ = mem.MkdirAll("/data")
	overwrite(t, mem, "/data/meta.properties", 0, []byte("#\n#Mon Nov 23 19:43:04 UTC 2026\ncluster.id=other\nnode.id=1\nversion=1\n"))
	if _, err := newRig(t, mem, 1); !errors.Is(err, ErrForeign) {
		t.Errorf("another cluster: %v", err)
	}
	// Kafka 2's format is taken over.
	mem = vfs.NewMem()
	_ = mem.MkdirAll("/data")
	overwrite(t, mem, "/data/meta.properties", 0, []byte("#\ncluster.id=cluster\nbroker.id=1\nversion=0\n"))
	r := mustRig(t, mem)
	if r.dir.ID().IsZero() || !strings.Contains(string(readWhole(t, mem, "/data/meta.properties")), "node.id=1") {
		t.Error("meta.properties of version 0 was not completed")
	}
	if _, err := newRig(t, mem, 1); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("a second owner: %v", err)
	}
}

// An idle log holds no file and asks for nothing; an append after a rest goes on where it was.
func TestRest(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	r.fill(l, 2, 100)
	r.mustFlush(l)
	if err := l.Rest(); err != nil {
		t.Fatal(err)
	}
	if n := r.dir.files.Stats().FilesOpen; n != 0 {
		t.Errorf("%d files open at rest", n)
	}
	r.sched.RunFor(time.Hour)
	before := mem.Syncs()
	r.sched.RunFor(24 * time.Hour)
	if mem.Syncs() != before {
		t.Error("an idle log syncs")
	}
	r.fill(l, 2, 100)
	if len(readAll(t, l.View())) != 4 {
		t.Error("append after rest")
	}
}
