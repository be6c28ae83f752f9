package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

var testTP = TopicPartition{"orders", 0}

// rig is a log directory on some file system, driven by the seeded scheduler on one goroutine.
type rig struct {
	t     testing.TB
	fs    vfs.FS
	clk   *clock.Virtual
	sched *mailbox.Scheduler
	sync  *syncer.Syncer
	dir   *Dir
	cfg   Config
}

func smallConfig() Config {
	c := DefaultConfig()
	c.SegmentBytes, c.IndexInterval, c.PreallocateStep = 1200, 150, 512
	c.UnflushedBytesMax = 4000
	c.SegmentAge = 0
	return c
}

func testLimits() limits.Storage {
	l := limits.Derive(256 << 20).Storage
	l.DirtyBytesMax, l.ReserveBytes = 2500, 0
	return l
}

func newRig(t testing.TB, fs vfs.FS, seed uint64) (*rig, error) {
	r := &rig{t: t, fs: fs, clk: clock.NewVirtual(time.UnixMilli(1_700_000_000_000)), cfg: smallConfig()}
	r.sched = mailbox.NewScheduler(seed, r.clk)
	r.sync = syncer.New(r.sched, syncer.Config{Name: "test"})
	var err error
	r.dir, err = OpenDir(DirConfig{Path: "/data", ClusterID: "cluster", NodeID: 1, Limits: testLimits()},
		Deps{FS: fs, Syncer: r.sync, Random: rand.NewChaCha8([32]byte{byte(seed)})})
	return r, err
}

func mustRig(t testing.TB, fs vfs.FS) *rig {
	t.Helper()
	r, err := newRig(t, fs, 1)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) create() *Log {
	r.t.Helper()
	l, err := r.dir.Create(testTP, ID{1, 2, 3}, r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

func (r *rig) open() *Log {
	r.t.Helper()
	l, err := r.dir.Open(testTP, r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

func (r *rig) flush(l *Log) (int64, error) {
	end, err, called := int64(-1), error(nil), false
	l.Flush(false, func(e int64, x error) { end, err, called = e, x, true })
	if !r.sched.RunUntil(time.Minute, func() bool { return called }) {
		r.t.Fatal("flush was never answered")
	}
	return end, err
}

func (r *rig) mustFlush(l *Log) {
	r.t.Helper()
	if end, err := r.flush(l); err != nil || end != l.View().EndOffset() {
		r.t.Fatalf("flushed to %d of %d: %v", end, l.View().EndOffset(), err)
	}
}

func (r *rig) checkpoint() (err error) {
	called := false
	r.dir.Checkpoint(func(x error) { err, called = x, true })
	if !r.sched.RunUntil(time.Minute, func() bool { return called }) {
		r.t.Fatal("checkpoint was never answered")
	}
	return err
}

func (r *rig) sweep() error {
	r.sched.RunFor(time.Second)
	for {
		more, err := r.dir.Sweep(100)
		if err != nil || !more {
			return err
		}
	}
}

// stop closes the log and the directory cleanly.
func (r *rig) stop(l *Log) {
	r.t.Helper()
	if l != nil {
		if err := l.Close(); err != nil {
			r.t.Fatal(err)
		}
	}
	r.sync.Close()
	if err := r.dir.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// makeBatch is one stamped batch of n records with a value of about size bytes in all, unlike any other of the seed.
func makeBatch(base int64, epoch int32, n, size int, ts int64, seed int) []byte {
	opts := batch.NewOptions()
	opts.BaseOffset, opts.LeaderEpoch = base, epoch
	if seed%5 == 3 {
		opts.Codec = batch.Codec(1 + seed%4)
	}
	b := batch.NewBuilder(opts)
	for i := range n {
		value := make([]byte, max(size/n, 8))
		rng := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		binary.BigEndian.PutUint64(value, uint64(seed))
		b.Append(ts+int64(i), []byte("k"), value)
	}
	out, err := b.Build(nil)
	if err != nil {
		panic(err)
	}
	return out
}

// version is what the log may be found to be.
type version struct {
	batches            [][]byte
	ackStart, maxStart int64
}

func (v version) end() int64 {
	if len(v.batches) == 0 {
		return v.maxStart
	}
	h, _ := batch.Parse(v.batches[len(v.batches)-1])
	return h.NextOffset()
}

func header(b []byte) *batch.Header {
	h, err := batch.Parse(b)
	if err != nil {
		panic(err)
	}
	return &h
}

// model follows a script and knows what a crash may leave.
type model struct {
	version            // as it is now
	older    []version // as it was since the last flush: a truncation may not have reached the disk
	acked    int64     // flushed end that was reported
	epoch    int32
	appended int
	created  bool
}

// player runs the lines of a script against a log and its model. Once something fails it stops.
type player struct {
	*rig
	m *model
	l *Log
	// faulty says that operations may fail: then a stop may be unclean.
	faulty bool
	trace  []string
}

// errStopped means that an operation of a script failed.
var errStopped = errors.New("stopped")

func (p *player) step(line string) error {
	p.trace = append(p.trace, line)
	f := strings.Fields(line)
	arg := func(i int) int64 {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			p.t.Fatalf("script line %q: %v", line, err)
		}
		return n
	}
	var err error
	switch f[0] {
	case "create":
		p.l, err = p.dir.Create(testTP, ID{1, 2, 3}, p.cfg)
	case "append": // records, bytes
		err = p.append(int(arg(1)), int(arg(2)))
	case "flush":
		err = p.flushed()
	case "roll":
		err = p.l.Roll(p.clk.Now())
	case "epoch":
		p.m.epoch++
		err = p.l.AssignLeaderEpoch(p.m.epoch, p.m.end())
	case "truncate": // percent of the log that stays
		err = p.truncate(p.m.ackStart + (p.m.end()-p.m.ackStart)*arg(1)/100)
	case "startanew": // offset relative to the end
		err = p.startAnew(max(p.m.end()+arg(1), 0))
	case "start": // percent
		err = p.advance(p.m.maxStart + (p.m.end()-p.m.maxStart)*arg(1)/100)
	case "retain": // bytes
		p.cfg.RetentionBytes = arg(1)
		if err = p.l.SetConfig(p.cfg); err == nil {
			var removed Removed
			removed, err = p.l.Retention(p.clk.Now(), true, p.m.acked)
			p.m.raise(removed.StartOffset)
		}
	case "checkpoint":
		err = p.checkpoint()
	case "state":
		err = p.l.SaveProducerState(p.m.end(), []byte(fmt.Sprint("state ", p.m.end())))
	case "rest":
		err = p.l.Rest()
	case "sweep":
		err = p.sweep()
	case "reopen":
		err = p.reopen()
	case "wait":
		p.sched.RunFor(time.Second)
	default:
		p.t.Fatalf("script line %q", line)
	}
	if err != nil {
		return fmt.Errorf("%w at %q: %w", errStopped, line, err)
	}
	return nil
}

// restartOn opens what a power cut left.
func restartOn(t testing.TB, mem *vfs.Mem, seed uint64) *rig {
	t.Helper()
	r, err := newRig(t, mem, seed)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newPlayer plays on a new log, in epoch 1.
func newPlayer(t testing.TB, fs vfs.FS) *player {
	t.Helper()
	r := mustRig(t, fs)
	return &player{rig: r, m: &model{epoch: 1}, l: r.create()}
}

// restart goes on with what a power cut left.
func (p *player) restart(mem *vfs.Mem, seed uint64) {
	p.t.Helper()
	p.rig = restartOn(p.t, mem, seed)
	p.l = p.open()
}

// write appends so many batches of one record.
func (p *player) write(n, size int) {
	p.t.Helper()
	for range n {
		if err := p.append(1, size); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *player) append(n, size int) error {
	p.m.appended++
	p.clk.Advance(time.Second)
	b := makeBatch(p.m.end(), p.m.epoch, n, size, p.clk.Now().UnixMilli(), p.m.appended)
	// It may be found after a crash although the append failed: the bytes reached the device.
	p.m.batches = append(p.m.batches[:len(p.m.batches):len(p.m.batches)], b)
	_, err := p.l.Append(p.clk.Now(), b)
	return err
}

func (p *player) flushed() error {
	end, err := p.flush(p.l)
	if err == nil {
		p.m.acked, p.m.older = end, nil
		if end != p.m.end() {
			p.t.Fatalf("flushed to %d, log ends at %d", end, p.m.end())
		}
	}
	return err
}

func (p *player) truncate(offset int64) error {
	p.m.older = append(p.m.older, p.m.version)
	n := 0
	for n < len(p.m.batches) && header(p.m.batches[n]).NextOffset() <= offset {
		n++
	}
	if offset < p.m.end() {
		if offset < p.m.maxStart {
			return p.startAnew(offset)
		}
		if n < len(p.m.batches) {
			base := header(p.m.batches[n]).BaseOffset
			if base < p.m.maxStart { // the start is lowered durably before anything is cut
				for i := range p.m.older {
					p.m.older[i].ackStart = min(p.m.older[i].ackStart, base)
				}
			}
			p.m.batches = p.m.batches[:n:n]
			p.m.maxStart = min(p.m.maxStart, base)
			p.m.ackStart = min(p.m.ackStart, base)
			p.m.acked = min(p.m.acked, base)
		}
	}
	if err := p.l.Truncate(offset); err != nil {
		return err
	}
	if got := p.l.View().EndOffset(); got != p.m.end() {
		p.t.Fatalf("truncated to %d: log ends at %d, want %d: %v", offset, got, p.m.end(), p.trace)
	}
	return nil
}

func (p *player) startAnew(offset int64) error {
	p.m.older = append(p.m.older, p.m.version)
	// With the checkpoint written and nothing removed yet, the old log starts at the new offset.
	for i := range p.m.older {
		half := &p.m.older[i]
		half.maxStart = max(half.maxStart, min(offset, half.end()))
		half.ackStart = min(half.ackStart, offset)
	}
	p.m.version = version{ackStart: offset, maxStart: offset}
	p.m.acked = 0
	return p.l.TruncateFullyAndStartAt(offset)
}

func (p *player) advance(offset int64) error {
	p.m.raise(offset)
	called := false
	var result error
	err := p.l.AdvanceStart(offset, func(e error) { called, result = true, e })
	if err != nil {
		return err
	}
	if !p.sched.RunUntil(time.Minute, func() bool { return called }) {
		p.t.Fatal("AdvanceStart was never answered")
	}
	if result == nil {
		p.m.ackStart = max(p.m.ackStart, offset)
	}
	return result
}

// raise notes that the start may be durable at an offset, of older versions too if a crash brings them back.
func (m *model) raise(start int64) {
	m.maxStart = max(m.maxStart, start)
	for i := range m.older {
		m.older[i].maxStart = max(m.older[i].maxStart, min(start, m.older[i].end()))
	}
}

// reopen is a clean stop and start.
func (p *player) reopen() error {
	if err := p.l.Close(); err != nil {
		return err
	}
	p.m.acked, p.m.older = p.m.end(), nil
	p.sync.Close()
	if err := p.dir.Close(); err != nil {
		return err
	}
	r, err := newRig(p.t, p.fs, 2)
	if err != nil {
		return err
	}
	r.clk.Advance(p.clk.Now().Mono)
	r.cfg = p.cfg
	p.rig = r
	if !r.dir.WasClean() && !p.faulty {
		p.t.Fatal("the stop was clean and is not known as such")
	}
	p.l, err = r.dir.Open(testTP, p.cfg)
	return err
}

// readAll reads a log's bytes from its start through spans, and checks that batches follow each other.
func readAll(t testing.TB, v View) [][]byte {
	t.Helper()
	var out [][]byte
	at := v.StartOffset()
	for at < v.EndOffset() {
		s, err := v.Read(at, 700, v.EndOffset(), true)
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
		scan := batch.Scan(b)
		n := 0
		for scan.Next() {
			if err := batch.VerifyCRC(scan.Bytes()); err != nil {
				t.Fatalf("batch at %d: %v", scan.Header().BaseOffset, err)
			}
			if scan.Header().NextOffset() <= at {
				t.Fatalf("batch %d..%d in answer to offset %d", scan.Header().BaseOffset, scan.Header().LastOffset(), at)
			}
			out = append(out, bytes.Clone(scan.Bytes()))
			at = scan.Header().NextOffset()
			n++
		}
		if n == 0 || scan.Err() != nil {
			t.Fatalf("no batch in the span at %d: %v", at, scan.Err())
		}
	}
	return out
}

// matches says why a log that was found is not this version, or a prefix of it; "" if it is.
func (v version) matches(found [][]byte, start, end int64) string {
	if start < v.ackStart || start > v.maxStart {
		return fmt.Sprintf("start %d is not in %d..%d", start, v.ackStart, v.maxStart)
	}
	want := v.batches
	for len(want) > 0 && header(want[0]).NextOffset() <= start {
		want = want[1:]
	}
	if len(found) > len(want) {
		return fmt.Sprintf("%d batches, %d were appended", len(found), len(want))
	}
	for i := range found {
		if !bytes.Equal(found[i], want[i]) {
			h := header(found[i])
			return fmt.Sprintf("batch %d at offset %d differs", i, h.BaseOffset)
		}
	}
	if len(found) > 0 {
		if h := header(found[len(found)-1]); h.NextOffset() != end {
			return fmt.Sprintf("last batch ends at %d, log at %d", h.NextOffset(), end)
		}
	}
	return ""
}

// verify compares a recovered log with what the model allows.
func (m *model) verify(t testing.TB, v View, context string) {
	t.Helper()
	found := readAll(t, v)
	var reasons []string
	for _, allowed := range append([]version{m.version}, m.older...) {
		why := allowed.matches(found, v.StartOffset(), v.EndOffset())
		if why == "" {
			reasons = nil
			break
		}
		reasons = append(reasons, why)
	}
	if len(reasons) > 0 {
		t.Fatalf("%s: %d..%d is no state that the log had:\n%s", context, v.StartOffset(), v.EndOffset(), strings.Join(reasons, "\n"))
	}
	if v.EndOffset() < m.acked {
		t.Fatalf("%s: log ends at %d, acknowledged up to %d", context, v.EndOffset(), m.acked)
	}
}

func scripts(t testing.TB) map[string][]string {
	t.Helper()
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	out := map[string][]string{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, line := range strings.Split(string(b), "\n") {
			line, _, _ = strings.Cut(line, "#")
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		out[strings.TrimSuffix(filepath.Base(name), ".txt")] = lines
	}
	return out
}

// play runs a script on a file system until its end or the first failure.
func play(t testing.TB, fs vfs.FS, lines []string, faulty bool) (*model, error) {
	m := &model{epoch: 1}
	r, err := newRig(t, fs, 1)
	if err != nil {
		return m, err
	}
	p := &player{rig: r, m: m, faulty: faulty}
	for _, line := range lines {
		err := p.step(line)
		m.created = m.created || p.l != nil && m.acked > 0
		if err != nil {
			return m, err
		}
	}
	if !faulty {
		p.m.verifyLive(t, p.l.View())
	}
	return m, nil
}

// verifyLive compares a log that no crash touched with the model: exactly the present version.
func (m *model) verifyLive(t testing.TB, v View) {
	t.Helper()
	if why := m.version.matches(readAll(t, v), v.StartOffset(), v.EndOffset()); why != "" || v.EndOffset() != m.end() {
		t.Fatalf("log %d..%d, want end %d: %s", v.StartOffset(), v.EndOffset(), m.end(), why)
	}
}
