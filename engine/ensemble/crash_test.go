package ensemble

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/raftlog/powercut"
	"cairn/engine/ensemble/znode"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
)

func scheduler(seed uint64) *mailbox.Scheduler {
	return mailbox.NewScheduler(seed, clock.NewVirtual(time.Unix(1_700_000_000, 0)))
}

// serveOn runs the scheduler until the box serves.
func serveOn(t testing.TB, s *mailbox.Scheduler, b *box) {
	t.Helper()
	if !s.RunUntil(10*time.Second, b.Serving) {
		t.Fatalf("does not serve: %+v", b.Status())
	}
}

// shape is what clients see of a tree, as a sum of hashes: the order of siblings is nobody's business.
func shape(tr *znode.Tree) (sum uint64) {
	add := func(format string, args ...any) {
		h := fnv.New64a()
		fmt.Fprintf(h, format, args...)
		sum += h.Sum64()
	}
	tr.Walk("/", func(path string, data []byte, stat jute.Stat) bool {
		add("%q %q %d %d %x %d %d", path, data, stat.Version, stat.Cversion, stat.EphemeralOwner, stat.Czxid, stat.Mzxid)
		return true
	})
	for _, s := range tr.Sessions() {
		add("%x %d %d", s.ID, s.TimeoutMs, s.Ephemerals)
	}
	return sum
}

// script makes random entries; sessions are those that earlier ones have opened.
type script struct {
	rng      *rand.Rand
	sessions []int64
	n        int
}

func (s *script) next() znode.Entry {
	s.n++
	path := func() string {
		p := fmt.Sprintf("/n%d", s.rng.IntN(6))
		if s.rng.IntN(2) == 0 {
			p += fmt.Sprintf("/m%d", s.rng.IntN(4))
		}
		return p
	}
	one := func() jute.Op {
		switch s.rng.IntN(6) {
		case 0, 1:
			return create(path(), fmt.Sprint(s.n), jute.Persistent)
		case 2:
			return create(path(), fmt.Sprint(s.n), jute.EphemeralSequential)
		case 3:
			return jute.Op{Type: jute.OpDelete, Path: path(), Version: -1}
		default:
			return set(path(), strings.Repeat("x", s.rng.IntN(60))+fmt.Sprint(s.n))
		}
	}
	if len(s.sessions) == 0 || s.rng.IntN(12) == 0 {
		return znode.Entry{Kind: znode.KindCreateSession, TimeoutMs: 30_000}
	}
	session := s.sessions[s.rng.IntN(len(s.sessions))]
	switch s.rng.IntN(10) {
	case 0:
		return znode.Entry{Kind: znode.KindCloseSession, Session: session}
	case 1, 2:
		return znode.Entry{Kind: znode.KindMulti, Session: session, Ops: []jute.Op{one(), one(), one()}}
	default:
		return op(session, one())
	}
}

// crashRun is one box under load, and the reference that the same entries give.
type crashRun struct {
	t     *testing.T
	s     *mailbox.Scheduler
	b     *box
	rng   *rand.Rand
	write script

	reference *znode.Tree
	shapes    []uint64 // shapes[k]: after k entries
	base      int64    // zxid before the first
	acked     int
	times     []string
}

func newCrashRun(t *testing.T, seed uint64, dir string) *crashRun {
	s := scheduler(seed)
	r := &crashRun{t: t, s: s, rng: rand.New(rand.NewPCG(seed, 99))}
	r.write.rng = r.rng
	limits := smallLimits()
	limits.LogSegmentBytes = 2 << 10
	limits.SnapshotEntries = 40
	r.b = openOn(t, s, seeded(seed), Config{Dir: dir, Limits: limits})
	serveOn(t, s, r.b)
	r.reference = znode.New()
	r.reference.Apply(&znode.Entry{Kind: znode.KindSetSecret, Flags: znode.FlagInternal, Data: make([]byte, 32)})
	r.base = r.reference.Zxid()
	if r.base != r.b.Status().Zxid {
		t.Fatalf("the box begins with zxid %d, the reference with %d", r.b.Status().Zxid, r.base)
	}
	r.shapes = []uint64{shape(r.reference)}
	return r
}

// submit hands over one entry and keeps the reference in step: entries are applied in the order of submission.
func (r *crashRun) submit() {
	e := r.write.next()
	copied := e
	copied.Box = 1
	want := r.reference.Apply(&copied)
	r.shapes = append(r.shapes, shape(r.reference))
	if e.Kind == znode.KindCreateSession {
		r.write.sessions = append(r.write.sessions, want.Session)
	}
	k := len(r.shapes) - 1
	r.b.Propose(Write{Entry: e}, func(out znode.Outcome, err error) {
		if err != nil {
			if !errors.Is(err, ErrClosed) {
				r.t.Errorf("entry %d: %v", k, err)
			}
			return
		}
		if out.Zxid != r.base+int64(k) || out.Err != want.Err || out.Session != want.Session {
			r.t.Errorf("entry %d: zxid %d, %v, session %x; the reference says %d, %v, %x", k, out.Zxid, out.Err, out.Session, want.Zxid, want.Err, want.Session)
		}
		if k != r.acked+1 {
			r.t.Errorf("entry %d was answered after entry %d", k, r.acked)
		}
		r.acked = k
		r.times = append(r.times, fmt.Sprintf("%d at %v time %d", k, r.s.Clock().Now().Mono, out.TimeMs))
	})
}

// wants tells whether another entry is to be submitted before the next step: never more than a few in flight, and always
// one, because the clock of an idle scheduler jumps to the next expiry.
func (r *crashRun) wants() bool {
	inFlight := len(r.shapes) - 1 - r.acked
	return inFlight == 0 || inFlight < 8 && r.rng.IntN(3) == 0
}

// check opens what the power cut left and compares it with the reference.
func (r *crashRun) check(dir, what string, ackedBefore int) {
	r.t.Helper()
	s := scheduler(uint64(ackedBefore) + 1)
	b := openOn(r.t, s, seeded(5), Config{Dir: dir, Limits: r.b.cfg.Limits})
	serveOn(r.t, s, b)
	var k int64
	var got uint64
	if err := b.View(func(tr *znode.Tree, _ *Watches) { k, got = tr.Zxid()-r.base, shape(tr) }); err != nil {
		r.t.Fatal(err)
	}
	switch {
	case k < int64(ackedBefore):
		r.t.Errorf("%s: %d entries are there, %d were acknowledged", what, k, ackedBefore)
	case k >= int64(len(r.shapes)):
		r.t.Errorf("%s: %d entries are there, %d were submitted", what, k, len(r.shapes)-1)
	case got != r.shapes[k]:
		r.t.Errorf("%s: after %d entries the tree differs from the reference", what, k)
	}
	answered := false
	b.CreateSession(5000, &outbox{}, func(g Grant, err error) {
		answered = true
		if err != nil || znode.SessionIDOf(r.base+k+1, 1) != g.Session {
			r.t.Errorf("%s: a new session: %x, %v", what, g.Session, err)
		}
	})
	s.RunUntil(time.Second, func() bool { return answered })
	if !answered {
		r.t.Errorf("%s: takes no writes", what)
	}
	b.close()
}

// Random scripts; at every flush the power goes while the written bytes are not flushed yet, in a random way. Every
// acknowledged write is there, nothing that was not submitted, zxids go on where they were, session ids are new.
// semantics 32.
func TestPowerCutUnderLoad(t *testing.T) {
	seeds, damagesEach := uint64(12), 2
	if testing.Short() {
		seeds = 5
	}
	scratch := tempDir(t)
	for seed := range seeds {
		dir := filepath.Join(scratch, fmt.Sprint("ensemble", seed))
		r := newCrashRun(t, seed, dir)
		position, segments := r.b.log.Synced(), countSegments(t, dir)
		var acked int
		cuts, snapshots := 0, 0
		for len(r.shapes) < 200 || r.acked < len(r.shapes)-1 {
			if len(r.shapes) < 200 && r.wants() {
				r.submit()
			}
			acked = r.acked
			if !r.s.Step() {
				r.s.RunFor(time.Millisecond)
			}
			now := r.b.log.Synced()
			if now == position {
				continue
			}
			// A flush has just ended; the cut comes before its fsync did. What was answered until then is acked.
			tail := powercut.Tail{File: now.File, Flushed: position.Length}
			if now.File != position.File {
				tail.Flushed = 0
			}
			left := countSegments(t, dir)
			dropped := left < segments || now.File != position.File && left == segments
			position, segments = now, left
			if dropped {
				continue // segments go only after the flush: the state before it is gone
			}
			for range damagesEach {
				d := powercut.Damage{Kind: powercut.Kind(r.rng.IntN(int(powercut.Kinds))), Seed: r.rng.Uint64()}
				d.At = tail.Flushed + r.rng.Int64N(max(now.Length-tail.Flushed, 1))
				copied := filepath.Join(scratch, "cut")
				if err := powercut.Copy(dir, copied, tail, d); err != nil {
					t.Fatal(err)
				}
				r.check(copied, fmt.Sprintf("seed %d, flush to record %d, %v", seed, now.Seq, d), acked)
				if err := os.RemoveAll(copied); err != nil { // memory, where it lies in memory
					t.Fatal(err)
				}
				cuts++
			}
			if t.Failed() {
				t.FailNow()
			}
		}
		snapshots = len(r.b.log.Snapshots())
		r.b.close()
		r.check(dir, fmt.Sprintf("seed %d, after a clean end", seed), r.acked)
		if cuts < 40 || snapshots == 0 {
			t.Fatalf("seed %d: %d cuts and %d snapshots: the test does not test", seed, cuts, snapshots)
		}
	}
}

func countSegments(t *testing.T, dir string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "wal", strings.Repeat("?", 20)))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// trace runs a script and returns everything that happened.
func trace(t *testing.T, seed uint64) string {
	r := newCrashRun(t, seed, tempDir(t))
	var lines []string
	r.s.Trace = func(line string) { lines = append(lines, line) }
	for len(r.shapes) < 120 || r.acked < len(r.shapes)-1 {
		if len(r.shapes) < 120 && r.wants() {
			r.submit()
		}
		if !r.s.Step() {
			r.s.RunFor(time.Millisecond)
		}
	}
	r.b.close()
	return strings.Join(append(lines, r.times...), "\n")
}

func TestASeedReplays(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	a, b, other := trace(t, 11), trace(t, 11), trace(t, 12)
	if a != b {
		la, lb := strings.Split(a, "\n"), strings.Split(b, "\n")
		for i := range min(len(la), len(lb)) {
			if la[i] != lb[i] {
				t.Fatalf("line %d of one seed: %q and %q", i, la[i], lb[i])
			}
		}
		t.Fatalf("one seed, %d and %d lines", len(la), len(lb))
	}
	if a == other {
		t.Fatal("two seeds, one trace: the seed decides nothing")
	}
}

// A session that is touched stays; one that is silent ends between its timeout and a tick later; a restart gives every
// session its whole time again.
// semantics 22.
func TestSilentSessionsExpire(t *testing.T) {
	dir := tempDir(t)
	s := scheduler(3)
	cfg := Config{Dir: dir, TickTime: time.Second}
	b := openOn(t, s, seeded(3), cfg)
	serveOn(t, s, b)
	quiet, busy := &outbox{}, &outbox{}
	grants := map[*outbox]Grant{}
	for _, o := range []*outbox{quiet, busy} {
		b.CreateSession(5000, o, func(g Grant, err error) {
			if err != nil {
				t.Error(err)
			}
			grants[o] = g
		})
		b.CreateSession(0, &outbox{}, func(g Grant, err error) {
			if err != nil || g.TimeoutMs != 2000 {
				t.Errorf("asked for no timeout: %+v, %v", g, err)
			}
		})
	}
	s.RunUntil(time.Second, func() bool { return len(grants) == 2 })
	from := s.Clock().Now().Mono
	b.Propose(Write{Entry: op(grants[quiet].Session, create("/quiet", "", jute.Ephemeral)), From: quiet}, func(znode.Outcome, error) {})
	expired := s.RunUntil(10*time.Second, func() bool {
		b.Touch(grants[busy].Session)
		return quiet.death() != nil
	})
	if !expired {
		t.Fatal("a silent session does not expire")
	}
	if took := s.Clock().Now().Mono - from; took < 5*time.Second || took > 6010*time.Millisecond {
		t.Fatalf("a session of 5 s expired after %v", took)
	}
	if !errors.Is(quiet.death(), ErrSessionExpired) || busy.death() != nil {
		t.Fatalf("deaths: %v and %v", quiet.death(), busy.death())
	}
	if _, _, ok := b.get("/quiet"); ok {
		t.Fatal("the ephemeral outlived its session")
	}
	if n := b.Status().Sessions; n != 1 {
		t.Fatalf("%d sessions left", n)
	}
	s.RunFor(4 * time.Second)
	b.close()

	s = scheduler(4)
	b = openOn(t, s, seeded(4), cfg)
	serveOn(t, s, b)
	s.RunFor(4 * time.Second)
	if n := b.Status().Sessions; n != 1 {
		t.Fatalf("%d sessions 4 s after a restart, the timer of 5 s was to start anew", n)
	}
	s.RunFor(4 * time.Second)
	if n := b.Status().Sessions; n != 0 {
		t.Fatalf("%d sessions 8 s after a restart", n)
	}
	b.close()
}

// semantics 26: the leader reaps what is empty, once a minute.
func TestContainersAndTTLNodesAreReaped(t *testing.T) {
	s := scheduler(6)
	b := openOn(t, s, seeded(6), Config{Dir: tempDir(t), Flags: znode.FlagExtendedTypes})
	serveOn(t, s, b)
	left := 0
	for _, o := range []jute.Op{
		{Type: jute.OpCreateContainer, Path: "/c", ACL: jute.OpenACL(), Flags: int32(jute.Container)},
		create("/c/x", "", jute.Persistent),
		{Type: jute.OpDelete, Path: "/c/x", Version: -1},
		{Type: jute.OpCreateContainer, Path: "/unused", ACL: jute.OpenACL(), Flags: int32(jute.Container)},
		{Type: jute.OpCreateTTL, Path: "/t", ACL: jute.OpenACL(), Flags: int32(jute.PersistentTTL), TTL: 1000},
		{Type: jute.OpCreateTTL, Path: "/long", ACL: jute.OpenACL(), Flags: int32(jute.PersistentTTL), TTL: 10_000_000},
	} {
		left++
		b.Propose(Write{Entry: op(0, o)}, func(out znode.Outcome, err error) {
			if err != nil || out.Err != jute.OK {
				t.Errorf("%v %s: %v, %v", o.Type, o.Path, err, out.Err)
			}
			left--
		})
	}
	s.RunUntil(time.Second, func() bool { return left == 0 })
	s.RunFor(3 * time.Minute)
	for path, want := range map[string]bool{"/c": false, "/t": false, "/unused": true, "/long": true} {
		if _, _, ok := b.get(path); ok != want {
			t.Errorf("%s is there: %v", path, ok)
		}
	}
	b.close()
}

// Time inside entries is the leader's and never goes back, whatever the clock does.
// semantics 33.
func TestTimeNeverGoesBack(t *testing.T) {
	virtual := clock.NewVirtual(time.Unix(1_700_000_000, 0))
	s := mailbox.NewScheduler(8, virtual)
	b := openOn(t, s, seeded(8), Config{Dir: tempDir(t)})
	serveOn(t, s, b)
	last := int64(0)
	for n := range 20 {
		done := false
		b.Propose(Write{Entry: op(0, create(fmt.Sprint("/", n), "", jute.Persistent))}, func(out znode.Outcome, err error) {
			done = true
			if err != nil || out.TimeMs < last {
				t.Errorf("time %d after %d, %v", out.TimeMs, last, err)
			}
			last = out.TimeMs
		})
		s.RunUntil(time.Second, func() bool { return done })
		virtual.JumpWall(time.Duration(1-2*(n%2)) * time.Hour * time.Duration(n))
	}
	b.close()
}
