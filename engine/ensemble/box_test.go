package ensemble

import (
	"crypto/rand"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"strings"
	"sync"
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

// box is one box with what it is given.
type box struct {
	t testing.TB
	*Ensemble
	syncer *syncer.Syncer
}

// smallLimits are limits that tests reach.
func smallLimits() limits.ZooKeeper {
	l := limits.Derive(0).ZooKeeper
	l.LogSegmentBytes = 4 << 10
	l.SnapshotEntries = 50
	return l
}

func openOn(t testing.TB, rt mailbox.Runtime, random io.Reader, cfg Config) *box {
	t.Helper()
	return openTransport(t, rt, random, cfg, nil)
}

func openTransport(t testing.TB, rt mailbox.Runtime, random io.Reader, cfg Config, transport Transport) *box {
	t.Helper()
	return openDeps(t, cfg, Deps{Runtime: rt, Random: random, Transport: transport})
}

// openDeps opens on what it is given, a real file system and a syncer of its own.
func openDeps(t testing.TB, cfg Config, deps Deps) *box {
	t.Helper()
	s := syncer.New(deps.Runtime, syncer.Config{Name: "test"})
	deps.FS, deps.Syncer = vfs.OS(), s
	e, err := Open(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	return &box{t: t, Ensemble: e, syncer: s}
}

// openThreads opens on real goroutines and waits until the box serves.
func openThreads(t testing.TB, cfg Config) *box {
	t.Helper()
	b := openOn(t, mailbox.NewThreads(clock.System()), rand.Reader, cfg)
	b.await()
	t.Cleanup(b.close)
	return b
}

func (b *box) close() {
	if err := b.Close(); err != nil {
		b.t.Error(err)
	}
	b.syncer.Close()
}

// await waits until the box serves: a read index, and for a new tree its secret.
func (b *box) await() {
	b.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !b.Serving() {
		if time.Now().After(deadline) {
			b.t.Fatalf("does not serve: %+v", b.Status())
		}
		done := make(chan error, 1)
		b.ReadIndex(func(_ uint64, err error) { done <- err })
		if err := <-done; err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *box) do(e znode.Entry, from Outbox) (znode.Outcome, error) {
	type answer struct {
		out znode.Outcome
		err error
	}
	c := make(chan answer, 1)
	b.Propose(Write{Entry: e, From: from}, func(out znode.Outcome, err error) { c <- answer{out, err} })
	a := <-c
	return a.out, a.err
}

func (b *box) must(e znode.Entry) znode.Outcome {
	b.t.Helper()
	out, err := b.do(e, nil)
	if err != nil || out.Err != jute.OK {
		b.t.Fatalf("entry of kind %d: %v, %v", e.Kind, err, out.Err)
	}
	return out
}

func (b *box) session(out Outbox, timeoutMs int32) Grant {
	b.t.Helper()
	c := make(chan Grant, 1)
	b.CreateSession(timeoutMs, out, func(g Grant, err error) {
		if err != nil {
			b.t.Error(err)
		}
		c <- g
	})
	return <-c
}

func (b *box) get(path string) (data string, stat jute.Stat, ok bool) {
	b.t.Helper()
	err := b.View(func(t *znode.Tree, _ *Watches) {
		var d []byte
		d, stat, ok = t.Peek(path)
		data = string(d)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return data, stat, ok
}

func create(path, data string, mode jute.CreateMode) jute.Op {
	return jute.Op{Type: jute.OpCreate, Path: path, Data: []byte(data), ACL: jute.OpenACL(), Flags: int32(mode)}
}

// op is a write of a session, or of the box itself.
func op(session int64, op jute.Op) znode.Entry {
	if session == 0 {
		return znode.Entry{Kind: znode.KindOp, Flags: znode.FlagInternal, Ops: []jute.Op{op}}
	}
	return znode.Entry{Kind: znode.KindOp, Session: session, Ops: []jute.Op{op}}
}

func set(path, data string) jute.Op {
	return jute.Op{Type: jute.OpSetData, Path: path, Data: []byte(data), Version: -1}
}

// outbox is a connection that remembers.
type outbox struct {
	mu     sync.Mutex
	lines  []string
	killed error
	ids    []jute.ID
	full   bool
}

func (o *outbox) Event(e Event) bool {
	o.say(fmt.Sprintf("%v %s", e.Type, e.Path))
	return !o.full
}

func (o *outbox) Access() znode.Access { return znode.Access{IDs: o.ids} }

func (o *outbox) Kill(reason error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.killed = reason
}

func (o *outbox) say(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, line)
}

func (o *outbox) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := strings.Join(o.lines, ", ")
	o.lines = nil
	return s
}

func (o *outbox) death() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.killed
}

// seeded is randomness for boxes under the scheduler.
func seeded(seed uint64) io.Reader { return mrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}) }
