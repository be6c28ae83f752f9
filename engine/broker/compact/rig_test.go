package compact

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/seglog"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

var (
	testTP     = seglog.TopicPartition{Topic: "state", Partition: 0}
	testBounds = Bounds{MapBytesMax: 1 << 20, MapLoad: 0.9, OpenBytesMax: 1 << 20}
)

func testConfig() seglog.Config {
	c := seglog.DefaultConfig()
	c.SegmentBytes, c.IndexInterval, c.PreallocateStep, c.DeleteOld, c.SegmentAge = 1500, 200, 0, false, 0
	return c
}

func testSettings() Settings {
	return Settings{SegmentBytes: 1500, IndexBytes: 1 << 20, IndexInterval: 200, DeleteRetention: time.Hour, LagMax: -1}
}

// tb is what a test and a property have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// rig is a log on a memory file system with what its partition would know of it.
type rig struct {
	t     tb
	fs    vfs.FS
	clk   *clock.Virtual
	sched *mailbox.Scheduler
	sync  *syncer.Syncer
	dir   *seglog.Dir
	log   *seglog.Log
	set   Settings
	bound Bounds

	model *model
}

// record is one as it was appended.
type record struct {
	offset, timestamp int64
	key, value        string
	noKey, tombstone  bool
	producer          int64
	transactional     bool
}

type written struct {
	h       batch.Header
	records []record
}

// model is what was appended.
type model struct {
	batches   []written
	records   []record
	aborted   map[int64]bool // offsets of records that were aborted
	producers map[int64]Last
	sequence  map[int64]int32
	open      map[int64]int64 // first offset of a producer's transaction
	dated     map[int64]int64 // tombstone's offset → until when it must stay, once a pass has kept it
}

func newModel() *model {
	return &model{aborted: map[int64]bool{}, producers: map[int64]Last{}, sequence: map[int64]int32{}, open: map[int64]int64{}, dated: map[int64]int64{}}
}

func newRig(t tb, fs vfs.FS, seed byte) (*rig, error) {
	r := &rig{t: t, fs: fs, clk: clock.NewVirtual(time.UnixMilli(1_700_000_000_000)), set: testSettings(), bound: testBounds, model: newModel()}
	r.sched = mailbox.NewScheduler(uint64(seed), r.clk)
	r.sync = syncer.New(r.sched, syncer.Config{Name: "test"})
	l := limits.Derive(256 << 20).Storage
	l.DirtyBytesMax, l.ReserveBytes = 4000, 0
	var err error
	r.dir, err = seglog.OpenDir(seglog.DirConfig{Path: "/data", ClusterID: "c", NodeID: 1, Limits: l},
		seglog.Deps{FS: fs, Syncer: r.sync, Random: rand.NewChaCha8([32]byte{seed})})
	if err != nil {
		return r, err
	}
	r.log, err = r.dir.Open(testTP, testConfig())
	if errors.Is(err, seglog.ErrNotExist) {
		r.log, err = r.dir.Create(testTP, seglog.ID{1}, testConfig())
	}
	return r, err
}

func mustRig(t tb) *rig {
	t.Helper()
	r, err := newRig(t, vfs.NewMem(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) end() int64 { return r.log.View().EndOffset() }

// stable is the last stable offset of what was appended.
func (r *rig) stable() int64 {
	stable := r.end()
	for _, first := range r.model.open {
		stable = min(stable, first)
	}
	return stable
}

func (r *rig) flush() error {
	var err error
	called := false
	r.log.Flush(false, func(_ int64, e error) { err, called = e, true })
	if !r.sched.RunUntil(time.Minute, func() bool { return called }) {
		r.t.Fatal("flush was never answered")
	}
	return err
}

type kv struct {
	key, value       string
	noKey, tombstone bool
}

func put(key, value string) kv { return kv{key: key, value: value} }
func del(key string) kv        { return kv{key: key, tombstone: true} }

// options of one batch; the zero value is a batch without producer.
type options struct {
	codec         batch.Codec
	producer      int64 // 0 for none
	transactional bool
}

func (r *rig) append(o options, records ...kv) error {
	r.clk.Advance(time.Second)
	opts := batch.NewOptions()
	opts.BaseOffset, opts.LeaderEpoch, opts.Codec = r.end(), 3, o.codec
	if o.producer > 0 {
		opts.ProducerID, opts.ProducerEpoch, opts.BaseSequence, opts.Transactional = o.producer, 1, r.model.sequence[o.producer], o.transactional
	}
	b := batch.NewBuilder(opts)
	w := written{}
	for i, x := range records {
		rec := record{
			offset: opts.BaseOffset + int64(i), timestamp: r.clk.Now().UnixMilli() + int64(i)*7 - 3, key: x.key, value: x.value,
			noKey: x.noKey, tombstone: x.tombstone, producer: o.producer, transactional: o.transactional,
		}
		key, value := []byte(x.key), []byte(x.value)
		if x.noKey {
			key = nil
		}
		if x.tombstone {
			value = nil
		}
		b.Append(rec.timestamp, key, value, batch.HeaderField{Key: "h", Value: []byte(x.key)})
		w.records = append(w.records, rec)
	}
	raw, err := b.Build(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	w.h, _ = batch.Parse(raw)
	// It may be found after a crash although the append fails.
	r.model.batches = append(r.model.batches, w)
	r.model.records = append(r.model.records, w.records...)
	if o.producer > 0 {
		r.model.sequence[o.producer] += int32(len(records))
		r.model.producers[o.producer] = Last{w.h.LastOffset(), 1}
		if _, open := r.model.open[o.producer]; o.transactional && !open {
			r.model.open[o.producer] = w.h.BaseOffset
		}
	}
	_, err = r.log.Append(r.clk.Now(), raw)
	return err
}

// mark ends a producer's transaction.
func (r *rig) mark(producer int64, commit bool) error {
	first, open := r.model.open[producer]
	if !open {
		return nil
	}
	r.clk.Advance(time.Second)
	opts := batch.NewOptions()
	opts.BaseOffset, opts.LeaderEpoch, opts.ProducerID, opts.ProducerEpoch = r.end(), 3, producer, 1
	m := batch.Marker{Type: batch.Abort, CoordinatorEpoch: 1}
	if commit {
		m.Type = batch.Commit
	}
	raw, err := batch.BuildMarker(nil, opts, r.clk.Now().UnixMilli(), m)
	if err != nil {
		r.t.Fatal(err)
	}
	h, _ := batch.Parse(raw)
	r.model.batches = append(r.model.batches, written{h: h})
	delete(r.model.open, producer)
	if commit {
		_, err := r.log.Append(r.clk.Now(), raw)
		return err
	}
	for _, x := range r.model.records {
		if x.producer == producer && x.transactional && x.offset >= first {
			r.model.aborted[x.offset] = true
		}
	}
	if _, err := r.log.Append(r.clk.Now(), raw); err != nil {
		return err
	}
	return r.log.AppendAborted(seglog.AbortedTxn{ProducerID: producer, FirstOffset: first, LastOffset: h.LastOffset(), LastStableOffset: r.stable()})
}

// clean runs one pass if there is anything dirty, in steps of budget bytes, and reports whether there was.
func (r *rig) clean(budget int64) (bool, error) {
	v := r.log.View()
	now := Time{r.clk.Now().UnixMilli(), true}
	look, err := Examine(v, r.log.Cleaned(), r.stable(), r.set, now)
	if err != nil || look.DirtyBytes == 0 {
		return false, err
	}
	producers := map[int64]Last{}
	for id, last := range r.model.producers {
		producers[id] = last
	}
	p := NewPass(Work{View: v, Look: look, Settings: r.set, Producers: producers, Now: now, Bounds: r.bound})
	for {
		ready, over, err := p.Advance(budget)
		if err == nil && ready != nil {
			if err = r.log.Replace(ready); err == nil {
				p.Replaced()
			}
		}
		if err != nil {
			return true, errors.Join(err, p.Abort())
		}
		if over {
			break
		}
	}
	if err := r.log.SetCleaned(v, p.CleanedTo()); err != nil {
		return true, err
	}
	r.model.date(p.CleanedTo(), now.Ms+r.set.DeleteRetention.Milliseconds())
	return true, nil
}

// date notes which tombstones a pass has kept for the first time.
func (m *model) date(before, until int64) {
	for _, x := range m.latest(before) {
		if _, dated := m.dated[x.offset]; x.tombstone && !dated {
			m.dated[x.offset] = until
		}
	}
}

// latest are the latest committed records of all keys before an offset.
func (m *model) latest(before int64) map[string]record {
	out := map[string]record{}
	for _, x := range m.records {
		if x.offset < before && !x.noKey && !m.aborted[x.offset] {
			out[x.key] = x
		}
	}
	return out
}

// found is what is in a log.
type found struct {
	headers []batch.Header
	records []record // committed ones, as a reader of committed data is given them
	hidden  []int64  // offsets of the others
}

// read walks a log from an offset as a consumer of committed data does, and checks that it is whole.
func read(t tb, v seglog.View, from int64) found {
	t.Helper()
	var out found
	aborted, err := v.Aborted(from, v.EndOffset())
	if err != nil {
		t.Fatal(err)
	}
	aborting := map[int64]bool{}
	var opener batch.Opener
	for at := from; at < v.EndOffset(); {
		s, err := v.Read(at, 900, v.EndOffset(), true)
		if err != nil {
			t.Fatalf("read at %d: %v", at, err)
		}
		if s.Length == 0 {
			t.Fatalf("nothing at %d of %d..%d", at, v.StartOffset(), v.EndOffset())
		}
		b := make([]byte, s.Length)
		if _, err := s.File.ReadAt(b, s.Position); err != nil {
			t.Fatalf("span at %d: %v", at, err)
		}
		s.Release()
		before := at
		for scan := batch.Scan(b); scan.Next(); {
			h := *scan.Header()
			if err := batch.VerifyCRC(scan.Bytes()); err != nil {
				t.Fatalf("batch at %d: %v", h.BaseOffset, err)
			}
			if h.NextOffset() <= at {
				t.Fatalf("batch %d..%d in answer to offset %d", h.BaseOffset, h.LastOffset(), at)
			}
			for _, a := range aborted {
				if a.FirstOffset <= h.LastOffset() && a.LastOffset >= h.BaseOffset {
					aborting[a.ProducerID] = true
				}
			}
			if h.Attributes.Control() {
				aborting[h.ProducerID] = false
			}
			out.headers = append(out.headers, h)
			out.add(t, &opener, &h, scan.Bytes(), from, h.Attributes.Control() || h.Attributes.Transactional() && aborting[h.ProducerID])
			at = h.NextOffset()
		}
		if at == before {
			t.Fatalf("no batch in the span at %d", at)
		}
	}
	return out
}

func (f *found) add(t tb, opener *batch.Opener, h *batch.Header, whole []byte, from int64, hidden bool) {
	t.Helper()
	records, err := opener.Records(h, whole, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	err = batch.Walk(h, records, func(r *batch.Record) error {
		offset := h.BaseOffset + int64(r.OffsetDelta)
		if offset <= last {
			return fmt.Errorf("offset %d behind %d", offset, last)
		}
		last = offset
		if hidden && !h.Attributes.Control() {
			f.hidden = append(f.hidden, offset)
		}
		if offset >= from && !hidden {
			f.records = append(f.records, record{
				offset: offset, timestamp: r.Timestamp(h), key: string(r.Key), value: string(r.Value), noKey: r.Key == nil, tombstone: r.Value == nil,
			})
		}
		return nil
	})
	if err != nil {
		t.Fatalf("batch at %d: %v", h.BaseOffset, err)
	}
}
