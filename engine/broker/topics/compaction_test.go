package topics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
	"cairn/platform/vfs"
)

func (g *rig) configured(settings map[string]string) catalog.Change {
	return catalog.Change{Path: catalog.TopicConfigPath("t"), Data: catalog.EncodeConfig(settings)}
}

// put writes one record for each key, a second of the records' own time after the last.
func (g *rig) put(r *replica.Replica, value string, keys ...string) {
	g.t.Helper()
	b := batch.NewBuilder(batch.NewOptions())
	for _, key := range keys {
		b.Append(g.sched.Clock().Now().UnixMilli(), []byte(key), []byte(value))
	}
	raw, err := b.Build(nil)
	if err != nil {
		g.t.Fatal(err)
	}
	done := false
	r.Append(context.Background(), &replica.AppendRequest{
		Batch: raw, Acks: -1, ExpectedEpoch: replica.Any, Done: func(a *replica.AppendRequest) { err, done = a.Err, true },
	})
	g.until("acknowledged", func() bool { return done })
	if err != nil {
		g.t.Fatal(err)
	}
	g.sched.RunFor(time.Second)
}

// text is what the log holds.
func (g *rig) text(r *replica.Replica) string {
	g.t.Helper()
	var out []string
	v := r.View()
	for at := v.Start; at < v.HighWatermark; {
		s, err := v.Log.Read(at, 1<<20, v.HighWatermark, true)
		if err != nil || s.Length == 0 {
			g.t.Fatalf("read at %d of %d: %d bytes, %v", at, v.HighWatermark, s.Length, err)
		}
		b := make([]byte, s.Length)
		if _, err := s.File.ReadAt(b, s.Position); err != nil {
			g.t.Fatal(err)
		}
		s.Release()
		for scan := batch.Scan(b); scan.Next(); at = scan.Header().NextOffset() {
			h := scan.Header()
			err := batch.Walk(h, scan.Bytes()[batch.HeaderSize:], func(rec *batch.Record) error {
				out = append(out, fmt.Sprintf("%s=%s@%d", rec.Key, rec.Value, h.BaseOffset+int64(rec.OffsetDelta)))
				return nil
			})
			if err != nil {
				g.t.Fatal(err)
			}
		}
	}
	return strings.Join(out, " ")
}

func (g *rig) metrics() string {
	var b bytes.Buffer
	g.topicsMetrics.Write(&b)
	return b.String()
}

// A topic that becomes compacted is compacted a moment after, goes on so as records are written, and not while nothing is. What is
// compacted stays so over a stop.
func TestCompaction(t *testing.T) {
	mem := vfs.NewMem()
	g := started(t, mem, 31)
	g.feed(append(g.topic("t", id(1), 0), g.configured(map[string]string{"segment.ms": "100"}))...)
	r := g.leads("t", id(1))
	for i := range 5 {
		g.put(r, fmt.Sprint(i), "a", fmt.Sprint("b", i))
	}
	g.sched.RunFor(10 * time.Minute)
	all := "a=0@0 b0=0@1 a=1@2 b1=1@3 a=2@4 b2=2@5 a=3@6 b3=3@7 a=4@8 b4=4@9"
	if got := g.text(r); got != all {
		t.Fatalf("a topic that is not compacted holds %s", got)
	}
	g.feed(g.configured(map[string]string{"segment.ms": "100", "cleanup.policy": "compact", "retention.ms": "1", "retention.bytes": "1", "min.compaction.lag.ms": "3600000"}))
	g.sched.RunFor(10 * time.Minute)
	if got := g.text(r); got != all {
		t.Fatalf("compacted before its time, or retained: %s", got)
	}
	g.feed(g.configured(map[string]string{"segment.ms": "100", "cleanup.policy": "compact", "retention.ms": "1", "retention.bytes": "1"}))
	g.sched.RunFor(20 * time.Second)
	first := "b0=0@1 b1=1@3 b2=2@5 a=3@6 b3=3@7 a=4@8 b4=4@9" // the last segment is active
	if got := g.text(r); got != first {
		t.Fatalf("holds %s, want %s", got, first)
	}
	if m := g.metrics(); !strings.Contains(m, "cairn_log_compaction_passes_total 1\n") || !strings.Contains(m, "cairn_log_compaction_removed_records_total 3\n") ||
		strings.Contains(m, "cairn_log_compaction_written_bytes_total 0\n") {
		t.Fatal(m)
	}
	g.put(r, "5", "a", "b0")
	g.put(r, "6", "c")
	g.sched.RunFor(10 * time.Minute)
	// Less than half is dirty now.
	if got := g.text(r); got != first+" a=5@10 b0=5@11 c=6@12" {
		t.Fatalf("holds %s", got)
	}
	g.feed(g.configured(map[string]string{"segment.ms": "100", "cleanup.policy": "compact,delete", "min.cleanable.dirty.ratio": "0.01"}))
	g.sched.RunFor(20 * time.Second)
	second := "b1=1@3 b2=2@5 b3=3@7 b4=4@9 a=5@10 b0=5@11 c=6@12"
	if got := g.text(r); got != second {
		t.Fatalf("holds %s, want %s", got, second)
	}
	infos, err := mem.List("/data/t-0")
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		if strings.Contains(info.Name, ".deleted") || strings.Contains(info.Name, ".cleaned") {
			t.Fatalf("%s is left", info.Name)
		}
	}
	g.sched.RunFor(time.Minute)
	steps := 0
	g.sched.Trace = func(string) { steps++ }
	g.sched.RunFor(time.Minute)
	if steps > 0 {
		t.Fatalf("%d steps in an idle minute", steps)
	}
	g.close()

	g = openBox(t, mem, 32)
	g.feed(append(g.topic("t", id(1), 1), g.configured(map[string]string{"cleanup.policy": "compact"}), g.registration(incarnation))...)
	g.feed(g.state("t", 1, catalog.UUID(g.dir.ID())))
	g.topics.Start()
	r = g.leads("t", id(1))
	if got := g.text(r); got != second || r.View().Log.Cleaned() != 12 {
		t.Fatalf("after a stop: %s, clean before %d", got, r.View().Log.Cleaned())
	}
	g.close()
}

// A compaction keeps to its rate, and a box that stops does not wait for it.
func TestCompactionIsHeldBack(t *testing.T) {
	g := started(t, vfs.NewMem(), 33)
	g.feed(append(g.topic("t", id(1), 0), g.configured(map[string]string{"segment.ms": "100", "cleanup.policy": "compact"}), catalog.Change{
		Path: catalog.DefaultBrokerConfigPath(), Data: catalog.EncodeConfig(map[string]string{"log.cleaner.io.max.bytes.per.second": "100"}),
	})...)
	r := g.leads("t", id(1))
	value := strings.Repeat("v", 1000)
	for range 20 {
		g.put(r, value, "a")
	}
	from := g.sched.Clock().Now().Mono // a pass has begun some seconds ago, over 14 KiB or more
	g.sched.RunFor(2 * time.Minute)
	if r.View().Log.Cleaned() != 0 {
		t.Fatal("14 KiB were read twice in two minutes, at 100 bytes a second")
	}
	if !g.sched.RunUntil(time.Hour, func() bool { return r.View().Log.Cleaned() > 0 }) {
		t.Fatal("never compacted")
	}
	if took := g.sched.Clock().Now().Mono - from; took < 4*time.Minute || took > 8*time.Minute {
		t.Fatalf("it took %v", took)
	}
	if n := len(strings.Fields(g.text(r))); n > 7 {
		t.Fatalf("%d records of 20 are left", n)
	}
	for range 25 {
		g.put(r, value, "a")
	}
	g.sched.RunFor(6 * time.Minute) // another one is under way
	g.close()
}

// A log that cannot be compacted is left alone, and said; its neighbours are compacted.
func TestUncleanable(t *testing.T) {
	mem := vfs.NewMem()
	g := started(t, mem, 34)
	g.feed(append(g.topic("t", id(1), 0), g.configured(map[string]string{"segment.ms": "100", "cleanup.policy": "compact"}))...)
	g.feed(append(g.topic("good", id(2), 0), catalog.Change{
		Path: catalog.TopicConfigPath("good"), Data: catalog.EncodeConfig(map[string]string{"segment.ms": "100", "cleanup.policy": "compact"}),
	})...)
	bad, good := g.leads("t", id(1)), g.leads("good", id(2))
	for i := range 3 {
		g.put(bad, fmt.Sprint(i), "a")
		g.put(good, fmt.Sprint(i), "a")
	}
	f, err := mem.Open("/data/t-0/00000000000000000000.log", vfs.ReadWrite)
	if err == nil {
		_, err = f.WriteAt([]byte{0xff}, batch.HeaderSize+3)
	}
	if err != nil {
		t.Fatal(err)
	}
	g.sched.RunFor(3 * time.Minute)
	if got := g.text(good); got != "a=1@1 a=2@2" {
		t.Fatalf("good holds %s", got)
	}
	if m := g.metrics(); !strings.Contains(m, "cairn_log_compaction_uncleanable_partitions 1\n") || !strings.Contains(m, "cairn_log_compaction_failures_total 1\n") {
		t.Fatal(m)
	}
	if _, err := mem.Stat("/data/t-0/00000000000000000000.log.cleaned"); !errors.Is(err, vfs.ErrNotExist) {
		t.Fatalf("a file of the compaction is left: %v", err)
	}
	g.close()
}
