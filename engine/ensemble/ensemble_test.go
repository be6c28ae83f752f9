package ensemble

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// semantics 32: after a restart zxids go on; semantics 20: and a session is taken over with its password.
func TestWritesSurviveARestart(t *testing.T) {
	dir := tempDir(t)
	cfg := Config{Dir: dir, Limits: smallLimits()}
	var zxid, session int64
	var password [16]byte
	for round := range 4 {
		b := openThreads(t, cfg)
		if round > 0 {
			var now int64
			_ = b.View(func(t *znode.Tree, _ *Watches) { now = t.Zxid() }) // the status is published a moment later
			if now < zxid {
				t.Fatalf("zxid went back from %d to %d", zxid, now)
			}
			for i := range round {
				for n := range 40 {
					if data, _, ok := b.get(fmt.Sprintf("/n%d-%d", i, n)); !ok || data != fmt.Sprint(n) {
						t.Fatalf("round %d: /n%d-%d is %q, %v", round, i, n, data, ok)
					}
				}
			}
		}
		o := &outbox{}
		g := b.session(o, 4000)
		if g.Session == session || g.Session == 0 {
			t.Fatalf("session id 0x%x again", g.Session)
		}
		if round > 0 {
			got := make(chan error, 1)
			b.Reattach(session, password[:], 4000, o, func(g Grant, err error) {
				if err == nil && g.Password != password {
					err = errors.New("another password")
				}
				got <- err
			})
			if err := <-got; err != nil {
				t.Fatalf("reattach after a restart: %v", err)
			}
		}
		session, password = g.Session, g.Password
		for n := range 40 {
			zxid = b.must(op(g.Session, create(fmt.Sprintf("/n%d-%d", round, n), fmt.Sprint(n), jute.Persistent))).Zxid
		}
		b.close()
	}
}

// semantics 14: the event is queued when the write is applied, before any reply.
func TestAReplyFollowsTheEvent(t *testing.T) {
	b := openThreads(t, Config{Dir: tempDir(t)})
	watcher, writer := &outbox{}, &outbox{}
	b.session(watcher, 4000)
	w := b.session(writer, 4000)
	err := b.View(func(t *znode.Tree, w *Watches) {
		_ = w.Add(watcher, "/a", WatchData)
		_ = w.Add(watcher, "/", WatchChildren)
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	b.Propose(Write{Entry: op(w.Session, create("/a", "1", jute.Persistent)), From: writer}, func(out znode.Outcome, err error) {
		watcher.say(fmt.Sprintf("reply %v", out.Err))
	})
	b.Propose(Write{Entry: op(w.Session, set("/a", "2")), From: writer}, func(out znode.Outcome, err error) { close(done) })
	<-done
	if got := watcher.take(); got != "NodeCreated /a, NodeChildrenChanged /, reply OK" {
		t.Fatalf("order: %s", got)
	}
}

// semantics 21: who takes a session over ends its connection, whose writes come to nothing; semantics 20: a wrong password does
// not.
func TestASessionHasOneConnection(t *testing.T) {
	b := openThreads(t, Config{Dir: tempDir(t)})
	first, second := &outbox{}, &outbox{}
	g := b.session(first, 4000)
	_ = b.View(func(_ *znode.Tree, w *Watches) { _ = w.Add(first, "/x", WatchData) })
	reattach := func(id int64, password []byte, out Outbox) error {
		c := make(chan error, 1)
		b.Reattach(id, password, 4000, out, func(_ Grant, err error) { c <- err })
		return <-c
	}
	if err := reattach(g.Session, make([]byte, 16), second); !errors.Is(err, ErrSessionExpired) {
		t.Fatalf("wrong password: %v", err)
	}
	if err := reattach(g.Session+1, g.Password[:], second); !errors.Is(err, ErrSessionExpired) {
		t.Fatalf("unknown session: %v", err)
	}
	if first.death() != nil {
		t.Fatal("a failed reattach killed the holder")
	}
	if err := reattach(g.Session, g.Password[:], second); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(first.death(), ErrSessionMoved) {
		t.Fatalf("the first connection: %v", first.death())
	}
	if _, err := b.do(op(g.Session, create("/x", "", jute.Persistent)), first); !errors.Is(err, ErrSessionMoved) {
		t.Fatalf("a write of the old connection: %v", err)
	}
	if _, err := b.do(op(g.Session, create("/x", "", jute.Ephemeral)), second); err != nil {
		t.Fatal(err)
	}
	if got := first.take(); got != "" {
		t.Fatalf("the old connection was told: %s", got)
	}
	out, err := b.do(znode.Entry{Kind: znode.KindCloseSession, Session: g.Session}, second)
	if err != nil || len(out.Closed) != 1 {
		t.Fatalf("close: %+v, %v", out, err)
	}
	if second.death() != nil {
		t.Fatalf("the connection that closed its session was killed: %v", second.death())
	}
	if _, _, ok := b.get("/x"); ok {
		t.Fatal("the ephemeral outlived its session")
	}
	if out, err := b.do(op(g.Session, create("/y", "", jute.Persistent)), second); err != nil || out.Err != jute.SessionExpired {
		t.Fatalf("a write after the end: %v, %v", out.Err, err)
	}
}

// A connection whose write had no outcome takes no more writes. Until it has ended it is still the session's, and is
// told when another takes its place or the box stops: it must not answer as if nothing had happened.
func TestAConnectionWithoutAnOutcomeIsStillKilled(t *testing.T) {
	b := openThreads(t, Config{Dir: tempDir(t)})
	refuse := func() (*outbox, Grant) {
		out := &outbox{}
		g := b.session(out, 4000)
		large := op(g.Session, create("/large", strings.Repeat("x", b.cfg.Limits.ProposalBytesMax), jute.Persistent))
		if _, err := b.do(large, out); !errors.Is(err, ErrTooLarge) {
			t.Fatalf("a large write: %v", err)
		}
		if _, err := b.do(op(g.Session, create("/behind", "", jute.Persistent)), out); !errors.Is(err, ErrSessionMoved) {
			t.Fatalf("a write behind it: %v", err)
		}
		return out, g
	}
	moved, g := refuse()
	again := make(chan error, 1)
	next := &outbox{}
	b.Reattach(g.Session, g.Password[:], 4000, next, func(_ Grant, err error) { again <- err })
	if err := <-again; err != nil || !errors.Is(moved.death(), ErrSessionMoved) {
		t.Fatalf("the session moved (%v), and its old connection: %v", err, moved.death())
	}
	if _, err := b.do(op(g.Session, create("/after", "", jute.Persistent)), next); err != nil {
		t.Fatalf("a write of the new connection: %v", err)
	}
	stays, _ := refuse()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(stays.death(), ErrClosed) {
		t.Fatalf("the box stopped, and the connection: %v", stays.death())
	}
}

func TestSubscribersSeeEveryChangeInOrder(t *testing.T) {
	b := openThreads(t, Config{Dir: tempDir(t)})
	b.must(op(0, create("/a", "", jute.Persistent)))
	b.must(op(0, create("/a/b", "0", jute.Persistent)))
	b.must(op(0, create("/ab", "", jute.Persistent)))
	mirror := map[string]string{}
	var zxid int64
	cancel, err := b.Subscribe("/a", func(batch Batch) {
		if batch.Zxid < zxid || batch.Tree.Zxid() != batch.Zxid {
			t.Errorf("batch at %d after %d, tree at %d", batch.Zxid, zxid, batch.Tree.Zxid())
		}
		zxid = batch.Zxid
		if batch.Initial {
			clear(mirror)
		}
		for _, c := range batch.Changes {
			switch c.Kind {
			case jute.EventNodeDeleted:
				delete(mirror, c.Path)
			case jute.EventNodeCreated, jute.EventNodeDataChanged:
				mirror[c.Path] = string(c.Data)
			}
		}
		batch.Tree.Walk("/a", func(path string, data []byte, _ jute.Stat) bool {
			if mirror[path] != string(data) {
				t.Errorf("%s is %q in the tree and %q in the mirror", path, data, mirror[path])
			}
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Add(1)
		b.Propose(Write{Entry: op(0, set("/a/b", fmt.Sprint(n)))}, func(znode.Outcome, error) { wg.Done() })
	}
	wg.Wait()
	b.must(op(0, create("/ab/c", "", jute.Persistent)))
	b.must(op(0, create("/a/c", "c", jute.Persistent)))
	b.must(op(0, jute.Op{Type: jute.OpDelete, Path: "/a/b", Version: -1}))
	b.mu.Lock()
	if len(mirror) != 2 || mirror["/a/c"] != "c" {
		t.Errorf("mirror %v", mirror)
	}
	b.mu.Unlock()
	cancel()
	b.must(op(0, create("/a/d", "", jute.Persistent)))
	if len(mirror) != 2 {
		t.Errorf("told after the end: %v", mirror)
	}
}

// semantics 32: a broker's epoch is the czxid of its registration, and grows with every start.
func TestARegistrationReplacesThatOfTheLastProcess(t *testing.T) {
	dir := tempDir(t)
	var epoch int64
	for round := range 3 {
		b := openOn(t, mailbox.NewThreads(clock.System()), rand.Reader, Config{Dir: dir})
		ops := []jute.Op{
			{Type: znode.OpEnsure, Path: "/cairn/kafka/brokers/ids"},
			create("/cairn/kafka/brokers/ids/1", fmt.Sprint("round ", round), jute.Ephemeral),
		}
		c := make(chan Registered, 1)
		b.Register(Registration{Ops: ops}, func(r Registered, err error) {
			if err != nil {
				t.Error(err)
			}
			c <- r
		})
		r := <-c
		if r.Epoch <= epoch || r.Session == 0 {
			t.Fatalf("round %d: %+v after epoch %d", round, r, epoch)
		}
		epoch = r.Epoch
		data, stat, ok := b.get("/cairn/kafka/brokers/ids/1")
		if !ok || data != fmt.Sprint("round ", round) || stat.Czxid != epoch || stat.EphemeralOwner != r.Session {
			t.Fatalf("round %d: %q %+v %v", round, data, stat, ok)
		}
		b.Register(Registration{Ops: []jute.Op{create("/cairn/kafka/controller", "", jute.Ephemeral)}}, func(r2 Registered, err error) {
			if err != nil {
				t.Error(err)
			}
			c <- r2
		})
		if r2 := <-c; r2.Session != r.Session {
			t.Fatalf("a second registration has session 0x%x, the first 0x%x", r2.Session, r.Session)
		}
		b.close()
	}
}

func TestWhatIsBoundedIsRefused(t *testing.T) {
	l := limits.Derive(0).ZooKeeper
	l.TreeBytesMax = 200_000
	l.ProposalsMax = 10
	b := openThreads(t, Config{Dir: tempDir(t), Limits: l})
	if _, err := b.do(op(0, create("/big", strings.Repeat("x", l.ProposalBytesMax), jute.Persistent)), nil); !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrTreeFull) {
		t.Fatalf("a large write: %v", err)
	}
	b.must(op(0, create("/a", strings.Repeat("x", 60_000), jute.Persistent)))
	b.must(op(0, create("/b", strings.Repeat("x", 60_000), jute.Persistent)))
	if _, err := b.do(op(0, create("/c", strings.Repeat("x", 120_000), jute.Persistent)), nil); !errors.Is(err, ErrTreeFull) {
		t.Fatalf("growth beyond the budget: %v", err)
	}
	b.must(op(0, set("/b", strings.Repeat("y", 60_000))))
	b.must(op(0, jute.Op{Type: jute.OpDelete, Path: "/a", Version: -1}))
	b.must(op(0, create("/c", strings.Repeat("x", 60_000), jute.Persistent)))
	var wg sync.WaitGroup
	var mu sync.Mutex
	full := 0
	for n := range 1000 {
		wg.Add(1)
		b.Propose(Write{Entry: op(0, set("/c", fmt.Sprint(n)))}, func(_ znode.Outcome, err error) {
			if errors.Is(err, ErrFull) {
				mu.Lock()
				full++
				mu.Unlock()
			} else if err != nil {
				t.Error(err)
			}
			wg.Done()
		})
	}
	wg.Wait()
	if full == 0 || full > 990 {
		t.Fatalf("%d of 1000 refused", full)
	}
	deadline := time.Now().Add(10 * time.Second)
	for b.Status().InFlight != 0 { // the status is that of the last whole step
		if time.Now().After(deadline) {
			t.Fatalf("%d in flight after all were answered", b.Status().InFlight)
		}
		b.must(op(0, set("/c", "")))
	}
}

func TestAFailedFlushIsTheEnd(t *testing.T) {
	fs := &brokenDir{FS: vfs.OS()}
	rt := mailbox.NewThreads(clock.System())
	s := syncer.New(rt, syncer.Config{})
	l := smallLimits()
	l.LogSegmentBytes = 2000
	e, err := Open(Config{Dir: tempDir(t), Limits: l}, Deps{Runtime: rt, FS: fs, Syncer: s, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, Ensemble: e, syncer: s}
	defer b.close()
	b.await()
	o := &outbox{}
	b.session(o, 4000)
	fs.fail()
	for n := range 1000 {
		if _, err = b.do(op(0, create(fmt.Sprintf("/%d", n), "", jute.Persistent)), nil); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrUncertain) || !errors.Is(err, errBroken) {
		t.Fatalf("the write under way: %v", err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for b.Status().Failed == nil && time.Now().Before(deadline) { // the status is that of the last whole step, in which the write was answered
		time.Sleep(time.Millisecond)
	}
	for what, err := range map[string]error{
		"Failed": b.Failed(), "View": b.View(func(*znode.Tree, *Watches) {}), "a connection": o.death(), "status": b.Status().Failed,
	} {
		if !errors.Is(err, ErrFailed) || !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := b.do(op(0, create("/z", "", jute.Persistent)), nil); !errors.Is(err, ErrFailed) {
		t.Errorf("a later write: %v", err)
	}
}

var errBroken = errors.New("input/output error")

// brokenDir fails directory flushes once told to.
type brokenDir struct {
	vfs.FS
	mu     sync.Mutex
	broken bool
}

func (f *brokenDir) fail() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = true
}

func (f *brokenDir) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken {
		return errBroken
	}
	return f.FS.SyncDir(dir)
}

func TestSnapshotsWhileWriting(t *testing.T) {
	dir := tempDir(t)
	cfg := Config{Dir: dir, Limits: smallLimits()}
	b := openThreads(t, cfg)
	b.must(op(0, create("/n", "", jute.Persistent)))
	for n := range 500 {
		b.must(op(0, create(fmt.Sprintf("/n/%d", n), strings.Repeat("d", n), jute.Persistent)))
		if n%3 == 0 {
			b.must(op(0, jute.Op{Type: jute.OpDelete, Path: fmt.Sprintf("/n/%d", n), Version: -1}))
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for b.Status().Snapshot.Index == 0 {
		if time.Now().After(deadline) {
			t.Fatal("no snapshot was written")
		}
		b.must(op(0, set("/n", "again")))
	}
	var digest uint64
	_ = b.View(func(t *znode.Tree, _ *Watches) { digest = t.Digest() })
	count := len(b.log.Snapshots())
	b.close()
	b = openThreads(t, cfg)
	if count == 0 || b.Status().Snapshot.Index == 0 {
		t.Fatalf("started from snapshot %d, %d were there", b.Status().Snapshot.Index, count)
	}
	_ = b.View(func(tr *znode.Tree, _ *Watches) {
		if tr.Digest() != digest {
			t.Error("the restored tree differs")
		}
	})
}

// A snapshot that cannot be written harms nothing, is shown, and is tried again.
func TestASnapshotThatFailsIsTriedAgain(t *testing.T) {
	fs := &fullDisk{FS: vfs.OS()}
	fs.failures.Store(2)
	rt := mailbox.NewThreads(clock.System())
	s := syncer.New(rt, syncer.Config{})
	e, err := Open(Config{Dir: tempDir(t), Limits: smallLimits()}, Deps{Runtime: rt, FS: fs, Syncer: s, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, Ensemble: e, syncer: s}
	defer b.close()
	b.await()
	b.must(op(0, create("/n", "", jute.Persistent)))
	failed := false
	deadline := time.Now().Add(10 * time.Second)
	for b.Status().Snapshot.Index == 0 {
		failed = failed || errors.Is(b.Status().Snapshot.Err, vfs.ErrNoSpace)
		if time.Now().After(deadline) {
			t.Fatalf("no snapshot: %+v", b.Status().Snapshot)
		}
		b.must(op(0, set("/n", "x")))
	}
	if !failed || b.Status().Snapshot.Err != nil {
		t.Fatalf("a failure was shown: %v; now %v", failed, b.Status().Snapshot.Err)
	}
}

// fullDisk refuses to make the first few snapshots.
type fullDisk struct {
	vfs.FS
	failures atomic.Int32
}

func (f *fullDisk) Open(name string, mode vfs.Mode) (vfs.File, error) {
	if strings.HasSuffix(name, ".snap.tmp") && f.failures.Add(-1) >= 0 {
		return nil, vfs.ErrNoSpace
	}
	return f.FS.Open(name, mode)
}

func TestWhatCouldNotBeAppliedIsNotProposed(t *testing.T) {
	dir := tempDir(t)
	b := openThreads(t, Config{Dir: dir})
	for _, e := range []znode.Entry{
		{Kind: 0}, {Kind: 200}, {Kind: znode.KindOp, Flags: 1 << 30},
		{Kind: znode.KindMulti, Flags: znode.FlagInternal, Ops: make([]jute.Op, jute.MultiOpsMax+1)},
	} {
		if _, err := b.do(e, nil); err == nil {
			t.Errorf("kind %d, flags %x, %d ops: no error", e.Kind, e.Flags, len(e.Ops))
		}
	}
	b.must(op(0, create("/a", "", jute.Persistent)))
	b.close()
	b = openThreads(t, Config{Dir: dir})
	if _, _, ok := b.get("/a"); !ok {
		t.Fatal("the box does not go on")
	}
}

func TestTheOriginDoesNotMixProcesses(t *testing.T) {
	o := origin{7, 8, 9}
	e := op(3, create("/a", "b", jute.Persistent))
	got, entry, err := decodeProposal(e.Marshal(o.append(nil)))
	if err != nil || got != o || entry.Session != 3 || entry.Ops[0].Path != "/a" || !bytes.Equal(entry.Ops[0].Data, []byte("b")) {
		t.Fatalf("%+v %+v %v", got, entry, err)
	}
	for n := range originBytes + 2 {
		if _, _, err := decodeProposal(make([]byte, n)); err == nil {
			t.Fatalf("%d zero bytes decode", n)
		}
	}
}
