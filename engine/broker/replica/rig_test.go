package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// rig is one partition on a memory file system, driven by one seeded scheduler.
type rig struct {
	t      testing.TB
	fs     *vfs.Mem
	sched  *mailbox.Scheduler
	syncer *syncer.Syncer
	dir    *seglog.Dir
	shards *Shards
	r      *Replica
	epoch  int32

	vouched int // calls of Deps.Vouched
}

var tp = seglog.TopicPartition{Topic: "t", Partition: 0}

func testConfig() *Config {
	log := seglog.DefaultConfig()
	log.SegmentBytes = 4096
	log.PreallocateStep = 1024
	return &Config{Log: log, InSyncMin: 1, BatchBytesMax: 1 << 20, ProducersMax: 100, TimestampBefore: -1, TimestampAfter: -1}
}

// start opens the partition as a box that starts does, and leads it in an epoch above the log's.
func start(t testing.TB, fs *vfs.Mem, seed uint64, cfg *Config) *rig {
	t.Helper()
	g := &rig{t: t, fs: fs, sched: mailbox.NewScheduler(seed, clock.NewVirtual(time.Unix(1_700_000_000, 0)))}
	g.syncer = syncer.New(g.sched, syncer.Config{Name: "d"})
	dir, err := seglog.OpenDir(
		seglog.DirConfig{Path: "/data", ClusterID: "c", NodeID: 1, Limits: limits.Derive(0).Storage},
		seglog.Deps{FS: fs, Syncer: g.syncer, Random: rand.NewChaCha8([32]byte{byte(seed)})})
	if err != nil {
		t.Fatal(err)
	}
	g.dir = dir
	log, err := dir.Open(tp, cfg.Log)
	if errors.Is(err, seglog.ErrNotExist) {
		log, err = dir.Create(tp, seglog.ID{1}, cfg.Log)
	}
	if err != nil {
		t.Fatal(err)
	}
	g.shards = NewShards(ShardsConfig{Count: 1, QueueMax: 1000, StageBytesMax: 2048, WaitersMax: 100}, Deps{
		Runtime: g.sched, Vouched: func(*Replica) { g.vouched++ },
	})
	hw, _ := dir.HighWatermark(tp)
	if g.r, err = g.shards.Open(log, hw, cfg); err != nil {
		t.Fatal(err)
	}
	g.epoch = log.View().LatestEpoch() + 1
	g.lead(g.epoch)
	return g
}

func (g *rig) lead(epoch int32) {
	g.t.Helper()
	var result error
	done := false
	g.r.Lead(epoch, partition.Membership{InSync: []int32{1}}, func(_ int32, err error) { result, done = err, true })
	if !g.sched.RunUntil(time.Minute, func() bool { return done }) || result != nil {
		g.t.Fatalf("lead in epoch %d: done %v, %v", epoch, done, result)
	}
}

// close ends the rig cleanly.
func (g *rig) close() {
	g.t.Helper()
	var result error
	done := false
	g.r.Close(false, func(err error) { result, done = err, true })
	g.sched.RunUntil(time.Minute, func() bool { return done })
	g.shards.Close()
	if err := errors.Join(result, g.dir.Close()); err != nil || !done {
		g.t.Fatal(done, err)
	}
	g.syncer.Close()
}

// records are a batch of n, numbered on from first: of a producer, as its sequences, or of nobody where pid is negative.
func records(t testing.TB, pid int64, first int32, n int) []byte {
	t.Helper()
	opts := batch.NewOptions()
	if pid >= 0 {
		opts.ProducerID, opts.ProducerEpoch, opts.BaseSequence = pid, 0, first
	}
	b := batch.NewBuilder(opts)
	for i := range int32(n) {
		b.Append(1_700_000_000_000, nil, value(pid, first+i))
	}
	raw, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// value is what such a record holds.
func value(pid int64, number int32) []byte { return fmt.Appendf(nil, "%d/%d", pid, number) }

// send appends one batch of n records and returns the request, which is done some steps later.
func (g *rig) send(pid int64, seq int32, n int, acks int16) *sent {
	s := &sent{pid: pid, seq: seq, n: n}
	s.AppendRequest = AppendRequest{Batch: records(g.t, pid, seq, n), Acks: acks, ExpectedEpoch: Any, Done: func(*AppendRequest) { s.answered++ }}
	g.r.Append(context.Background(), &s.AppendRequest)
	return s
}

// sent is one append of a test.
type sent struct {
	AppendRequest
	pid      int64
	seq      int32
	n        int
	answered int
}

// wait runs until all of them are answered.
func (g *rig) wait(all ...*sent) {
	g.t.Helper()
	if !g.sched.RunUntil(2*time.Minute, func() bool {
		for _, s := range all {
			if s.answered == 0 {
				return false
			}
		}
		return true
	}) {
		g.t.Fatal("an append was never answered")
	}
	for _, s := range all {
		if s.answered != 1 {
			g.t.Fatalf("an append was answered %d times", s.answered)
		}
	}
}

// deleteTo deletes the records before offset, -1 for all.
func (g *rig) deleteTo(offset int64) {
	g.t.Helper()
	var err error
	done := false
	g.r.DeleteRecords(context.Background(), offset, func(_ int64, e error) { done, err = true, e })
	if !g.sched.RunUntil(time.Minute, func() bool { return done }) || err != nil {
		g.t.Fatal(done, err)
	}
}

// retain lets retention remove what is below the start.
func (g *rig) retain() {
	g.t.Helper()
	var removed seglog.Removed
	var err error
	done := false
	g.r.Retain(true, func(r seglog.Removed, e error) { removed, err, done = r, e, true })
	if !g.sched.RunUntil(time.Minute, func() bool { return done }) || err != nil || removed.Segments == 0 {
		g.t.Fatal(done, err, removed)
	}
	g.sched.RunFor(time.Second)
}

// values reads every record below the high watermark, in order.
func (g *rig) values() []string {
	g.t.Helper()
	v := g.r.View()
	var out []string
	next := v.Start
	for next < v.HighWatermark {
		span, err := v.Log.Read(next, 1<<20, v.HighWatermark, true)
		if err != nil {
			g.t.Fatal(err)
		}
		raw := make([]byte, span.Length)
		if _, err := span.File.ReadAt(raw, span.Position); err != nil {
			g.t.Fatal(err)
		}
		span.Release()
		moved := false
		for scan := batch.Scan(raw); scan.Next(); {
			h := scan.Header()
			if err := batch.VerifyCRC(scan.Bytes()); err != nil {
				g.t.Fatal(err)
			}
			if h.BaseOffset != next {
				g.t.Fatalf("batch at offset %d, want %d", h.BaseOffset, next)
			}
			if err := batch.Walk(h, scan.Bytes()[batch.HeaderSize:], func(r *batch.Record) error {
				out = append(out, string(r.Value))
				return nil
			}); err != nil {
				g.t.Fatal(err)
			}
			next, moved = h.NextOffset(), true
		}
		if !moved {
			g.t.Fatalf("nothing whole at offset %d", next)
		}
	}
	return out
}

// index says at which place each value stands, and fails for one that stands twice.
func index(t testing.TB, values []string) map[string]int {
	t.Helper()
	m := make(map[string]int, len(values))
	for i, v := range values {
		if _, ok := m[v]; ok {
			t.Fatalf("record %s is there twice", v)
		}
		m[v] = i
	}
	return m
}
