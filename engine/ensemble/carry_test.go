package ensemble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
)

// frames gives the payloads of a backup's frames, as ReadFrames of the box that restores does.
func frames(stream []byte) func() ([]byte, error) {
	b := stream[len(znode.BackupMagic):]
	return func() ([]byte, error) {
		if len(b) == 0 {
			return nil, io.EOF
		}
		n := int(binary.LittleEndian.Uint32(b))
		payload := slices.Clone(b[8 : 8+n])
		b = b[8+n:]
		return payload, nil
	}
}

// users are the nodes of the users, with all that is stored of them, as text.
func (b *box) users() string {
	var lines []string
	if err := b.View(func(t *znode.Tree, _ *Watches) {
		t.Walk("/", func(path string, data []byte, stat jute.Stat) bool {
			if path != "/" && !strings.HasPrefix(path, "/cairn") && path != "/zookeeper/config" && stat.EphemeralOwner == 0 {
				lines = append(lines, fmt.Sprintf("%s %q %+v %v", path, data, stat, t.NodeACL(path)))
			}
			return true
		})
	}); err != nil {
		return err.Error()
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// backUp takes a backup in the simulation.
func (n *network) backUp(t *testing.T, b *box) ([]byte, BackupInfo) {
	t.Helper()
	var stream bytes.Buffer
	var info BackupInfo
	var failed error
	done := false
	b.Backup(&stream, func(i BackupInfo, err error) { info, failed, done = i, err, true })
	n.until(t, "a backup", &done)
	if failed != nil {
		t.Fatal(failed)
	}
	if info.Bytes != int64(stream.Len()) {
		t.Errorf("%+v, written %d", info, stream.Len())
	}
	return stream.Bytes(), info
}

// source is a backup of many frames.
func source(t *testing.T, nodes int) []byte {
	t.Helper()
	b := znode.NewBackup(1<<40, 0)
	add := func(n znode.Node) {
		t.Helper()
		if err := b.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	add(znode.Node{Path: "/", Kind: znode.Persistent})
	add(znode.Node{Path: "/restored", Kind: znode.Persistent, Czxid: 5, Cversion: int32(nodes)})
	for i := range nodes {
		add(znode.Node{Path: fmt.Sprintf("/restored/%d", i), Kind: znode.Persistent, Czxid: 6, Data: []byte(strings.Repeat("x", 100))})
	}
	cut, err := b.Cut()
	if err != nil {
		t.Fatal(err)
	}
	var stream []byte
	for more := true; more; {
		stream, more = cut.Next(stream, 500)
	}
	return stream
}

// What was backed up while clients write is what was acknowledged before, and comes back as it was, on every box. The
// sessions of all clients end, and what was written since is gone.
// semantics 32: zxids go on above all that were given.
func TestBackupAndRestoreOfThree(t *testing.T) {
	net := three(t, 31, limits.ZooKeeper{})
	leader, a, b := net.followers(t)
	out := &outbox{}
	g := net.openSession(t, a, out)
	for i := range 50 {
		if o, err := net.write(t, a, op(g.Session, create(fmt.Sprintf("/n%d", i), "data", jute.Persistent)), out); err != nil || o.Err != jute.OK {
			t.Fatal(o.Err, err)
		}
	}
	if o, err := net.write(t, a, op(g.Session, create("/here", "", jute.Ephemeral)), out); err != nil || o.Err != jute.OK {
		t.Fatal(o.Err, err)
	}
	// The backup is asked of another box than wrote: it has all that was acknowledged.
	stream, info := net.backUp(t, b)
	want := b.users()
	if info.Ephemerals != 1 || info.Nodes < 53 {
		t.Errorf("%+v", info)
	}
	if o, err := net.write(t, a, op(g.Session, create("/later", "", jute.Persistent)), out); err != nil || o.Err != jute.OK {
		t.Fatal(o.Err, err)
	}
	if o, err := net.write(t, a, op(g.Session, jute.Op{Type: jute.OpSetData, Path: "/n1", Data: []byte("later"), Version: -1}), out); err != nil || o.Err != jute.OK {
		t.Fatal(o.Err, err)
	}
	var told []string
	cancel, err := b.Subscribe("/", func(batch Batch) {
		if batch.Initial {
			told = nil
		}
		for _, c := range batch.Changes {
			told = append(told, c.Path)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	local := &outbox{}
	b.mu.Lock()
	if _, err := b.createLocal(30000, local); err != nil {
		t.Error(err)
	}
	b.mu.Unlock()
	_, before := a.Applied()
	var zxid int64
	var failed error
	done := false
	a.Restore(frames(stream), func(z int64, err error) { zxid, failed, done = z, err, true })
	net.until(t, "a restore", &done)
	if failed != nil || zxid < before+1<<32 {
		t.Fatalf("zxid %#x after %#x, %v", zxid, before, failed)
	}
	net.s.RunFor(2 * time.Second)
	for _, box := range []*box{leader, a, b} {
		if got := box.users(); got != want {
			t.Errorf("box %d has\n%s\nwant\n%s", box.cfg.Box, got, want)
		}
	}
	if !errors.Is(out.death(), ErrSessionExpired) {
		t.Errorf("the client's session: %v", out.death())
	}
	if !errors.Is(local.death(), ErrSessionExpired) || b.LocalSessions() != 0 {
		t.Errorf("a local session: %v", local.death())
	}
	if slices.Contains(told, "/later") || !slices.Contains(told, "/n1") || slices.Contains(told, "/here") {
		t.Errorf("the subscriber knows %v", told)
	}
	net.alike(t)
}

// alike compares the boxes' trees.
func (n *network) alike(t *testing.T) {
	t.Helper()
	digests := map[uint64]bool{}
	for _, id := range n.voters {
		_ = n.boxes[id].View(func(tr *znode.Tree, _ *Watches) { digests[tr.Digest()] = true })
	}
	if len(digests) != 1 {
		t.Errorf("digests %v", digests)
	}
}

// Leaders come and go while a restore is under way, messages are lost and boxes restart from their logs and snapshots: it
// comes to pass on all boxes or on none, and says which.
func TestRestoreThroughElections(t *testing.T) {
	const nodes = 600
	stream := source(t, nodes)
	disturbed := 0
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			small := smallLimits()
			net := three(t, 100+seed, small)
			net.loss = 2
			_, follower, _ := net.followers(t)
			var failed error
			done := false
			follower.Restore(frames(stream), func(_ int64, err error) { failed, done = err, true })
			for round := 0; !done && round < 40; round++ {
				net.s.RunFor(time.Duration(1+net.s.Rand().IntN(100)) * time.Millisecond)
				if done {
					break
				}
				disturbed++
				victim := net.voters[net.s.Rand().IntN(3)]
				if b := net.boxes[victim]; b != follower && round%2 == 0 {
					b.close()
					net.boxes[victim] = net.open(t, victim, b.cfg.Dir)
				} else {
					net.cut[victim] = true
					net.s.RunFor(time.Duration(net.s.Rand().IntN(1500)) * time.Millisecond)
					delete(net.cut, victim)
				}
			}
			net.loss = 0
			net.until(t, "a restore", &done)
			net.served(t)
			net.s.RunFor(3 * time.Second)
			net.alike(t)
			for _, id := range net.voters {
				n := strings.Count(net.boxes[id].users(), "/restored/")
				switch {
				case n != 0 && n != nodes,
					failed == nil && n != nodes,
					failed != nil && !errors.Is(failed, ErrUncertain) && n != 0:
					t.Errorf("box %d has %d of %d nodes after %v", id, n, nodes, failed)
				}
				_ = net.boxes[id].View(func(tr *znode.Tree, _ *Watches) {
					if staged, parts := tr.Staged(); failed == nil && staged != 0 {
						t.Errorf("box %d still has %d parts staged", id, parts)
					}
				})
			}
			if failed != nil { // every disturbance is over within its patience
				t.Error(failed)
			}
		})
	}
	if disturbed < 12 {
		t.Errorf("the restores were disturbed %d times: nothing is tested", disturbed)
	}
}

// The box that restores loses the others before it hears of the swap, which they have made: it finds out.
func TestRestoreFindsItsSwap(t *testing.T) {
	stream := source(t, 50)
	net := three(t, 55, limits.ZooKeeper{})
	leader, follower, _ := net.followers(t)
	var failed error
	done := false
	follower.Restore(frames(stream), func(_ int64, err error) { failed, done = err, true })
	swapped := func() (yes bool) {
		_ = leader.View(func(tr *znode.Tree, _ *Watches) { yes = tr.Restored() != 0 })
		return yes
	}
	if !net.s.RunUntil(10*time.Second, swapped) || done {
		t.Fatalf("swapped %v, done %v", swapped(), done)
	}
	net.cut[follower.cfg.Box] = true
	net.s.RunFor(8 * time.Second)
	delete(net.cut, follower.cfg.Box)
	net.until(t, "a restore", &done)
	if failed != nil {
		t.Error(failed)
	}
	net.served(t)
	net.alike(t)
}

// A backup that cannot begin, since this box has lost the others, is given up; so is one that waits for another's end.
func TestBackupWithoutAMajority(t *testing.T) {
	net := three(t, 66, limits.ZooKeeper{})
	leader := net.leader(t)
	for _, id := range net.voters {
		net.cut[id] = true
	}
	net.s.RunFor(10 * time.Second)
	var failed error
	done := false
	leader.Backup(io.Discard, func(_ BackupInfo, err error) { failed, done = err, true })
	net.s.RunFor(30 * time.Second)
	if done {
		t.Fatalf("it did not wait: %v", failed)
	}
	net.until(t, "a backup", &done)
	if !errors.Is(failed, ErrNoQuorum) {
		t.Error(failed)
	}
	clear(net.cut)
	net.served(t)
	if _, info := net.backUp(t, leader); info.Nodes == 0 {
		t.Error("no backup once the others are back")
	}
}

// A box that lags and is brought a snapshot from behind a restore ends its local sessions too, which the restore ended.
func TestLocalSessionsOfABoxThatMissesTheRestore(t *testing.T) {
	small := smallLimits()
	small.CatchUpEntries = 10
	net := three(t, 67, small)
	leader, follower, _ := net.followers(t)
	out := &outbox{}
	follower.mu.Lock()
	if _, err := follower.createLocal(1<<30, out); err != nil {
		t.Fatal(err)
	}
	follower.mu.Unlock()
	net.cut[follower.cfg.Box] = true
	done := false
	leader.Restore(frames(source(t, 20)), func(_ int64, err error) {
		if err != nil {
			t.Error(err)
		}
		done = true
	})
	net.until(t, "a restore", &done)
	for i := range 3000 {
		net.write(t, leader, op(0, create(fmt.Sprintf("/x%d", i), "", jute.Persistent)), nil)
	}
	delete(net.cut, follower.cfg.Box)
	net.served(t)
	net.s.RunFor(5 * time.Second)
	if net.snapshots == 0 {
		t.Fatal("it was brought no snapshot")
	}
	if !errors.Is(out.death(), ErrSessionExpired) && follower.LocalSessions() != 0 {
		t.Errorf("%d local sessions are left, the connection: %v", follower.LocalSessions(), out.death())
	}
	net.alike(t)
}

// A box that is alone is killed at any point of a restore: it has the old tree or the new one.
func TestRestoreThroughRestart(t *testing.T) {
	stream := source(t, 60)
	olds, news := 0, 0
	for steps := 5; steps < 400; steps += 13 {
		cryptotest.SetGlobalRandom(t, 3)
		s := scheduler(uint64(steps))
		net := newNetwork(s, 1)
		net.limits = smallLimits()
		dir := tempDir(t)
		net.boxes[1] = net.open(t, 1, dir)
		b := net.boxes[1]
		s.RunUntil(10*time.Second, b.Serving)
		if o, err := net.write(t, b, op(0, create("/old", "", jute.Persistent)), nil); err != nil || o.Err != jute.OK {
			t.Fatal(o.Err, err)
		}
		var failed error
		done := false
		b.Restore(frames(stream), func(_ int64, err error) { failed, done = err, true })
		for range steps {
			s.Step()
		}
		b.close()
		if !done {
			t.Fatal("a box that is closed has not answered")
		}
		b = net.open(t, 1, dir)
		net.boxes[1] = b
		s.RunUntil(10*time.Second, b.Serving)
		old, n := strings.Contains(b.users(), "/old"), strings.Count(b.users(), "/restored/")
		if old == (n > 0) || n != 0 && n != 60 || failed == nil && n != 60 || failed != nil && !errors.Is(failed, ErrUncertain) && n != 0 {
			t.Errorf("after %d steps: old %v, %d of 60 nodes, %v", steps, old, n, failed)
		}
		if old {
			olds++
		} else {
			news++
		}
		b.close()
	}
	if olds < 5 || news < 5 {
		t.Errorf("killed %d times before the swap and %d times after it: not both are tested", olds, news)
	}
}

func TestRestoreRefusals(t *testing.T) {
	stream := source(t, 300)
	small := smallLimits()
	small.TreeBytesMax = 32 << 10
	net := three(t, 77, small)
	_, follower, _ := net.followers(t)
	before := follower.users()
	restore := func(next func() ([]byte, error)) (failed error) {
		t.Helper()
		done := false
		follower.Restore(next, func(_ int64, err error) { failed, done = err, true })
		net.until(t, "a restore", &done)
		net.s.RunFor(time.Second)
		_ = follower.View(func(tr *znode.Tree, _ *Watches) {
			if id, parts := tr.Staged(); id != 0 {
				t.Errorf("%d parts are left staged", parts)
			}
		})
		return failed
	}
	if err := restore(frames(stream)); !errors.Is(err, ErrTreeFull) {
		t.Errorf("a backup beyond the budget: %v", err)
	}
	broken := errors.New("the disk is gone")
	n := 0
	if err := restore(func() ([]byte, error) {
		if n++; n > 1 {
			return nil, broken
		}
		return frames(stream)()
	}); !errors.Is(err, broken) {
		t.Errorf("a source that fails: %v", err)
	}
	if err := restore(func() ([]byte, error) { return []byte("garbage"), nil }); !errors.Is(err, ErrNoBackup) {
		t.Errorf("garbage: %v", err)
	}
	if err := restore(func() ([]byte, error) { return make([]byte, small.ProposalBytesMax), nil }); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a frame beyond all bounds: %v", err)
	}
	// Two restores at two boxes: the later one wins, and the earlier one is told.
	block := frames(source(t, 5))
	var first, second error
	done1, done2 := false, false
	held := func() ([]byte, error) { return block() }
	follower.Restore(held, func(_ int64, err error) { first, done1 = err, true })
	follower.Restore(held, func(_ int64, err error) {
		if !errors.Is(err, ErrFull) {
			t.Errorf("a second restore at the same box: %v", err)
		}
	})
	leader := net.leader(t)
	leader.Restore(frames(source(t, 5)), func(_ int64, err error) { second, done2 = err, true })
	net.until(t, "one restore", &done1)
	net.until(t, "another restore", &done2)
	if first != nil && second != nil || first != nil && !errors.Is(first, ErrOvertaken) || second != nil && !errors.Is(second, ErrOvertaken) {
		t.Errorf("%v, %v", first, second)
	}
	net.s.RunFor(time.Second)
	if strings.Count(follower.users(), "/restored/") != 5 {
		t.Errorf("%s\nbefore\n%s", follower.users(), before)
	}
	net.alike(t)
}

// A backup while snapshots are written waits for them, and the other way round.
func TestBackupsAndSnapshotsTakeTurns(t *testing.T) {
	small := smallLimits()
	small.SnapshotEntries = 3
	net := three(t, 41, small)
	leader, follower, _ := net.followers(t)
	for round := range 40 {
		for i := range 3 {
			net.write(t, leader, op(0, create(fmt.Sprintf("/r%d-%d", round, i), "data", jute.Persistent)), nil)
		}
		want := leader.users()
		// The follower may not have applied the last write yet: it waits for it.
		for _, b := range []*box{follower, leader} {
			stream, _ := net.backUp(t, b)
			back, err := znode.ReadBackup(bytes.NewReader(stream), 0)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(want, "\n") + 2; back.Nodes() != n { // the root is none of the lines
				t.Errorf("%d nodes, want %d", back.Nodes(), n)
			}
		}
	}
	for round := range 40 { // the snapshot falls due while the backup is asked for
		for i := range 3 {
			leader.Propose(Write{Entry: op(0, create(fmt.Sprintf("/s%d-%d", round, i), "data", jute.Persistent))}, func(znode.Outcome, error) {})
		}
		for range round {
			net.s.Step()
		}
		net.backUp(t, leader)
	}
	if leader.Status().Snapshot.Index == 0 {
		t.Error("no snapshot was written")
	}
	var refused error
	var first bytes.Buffer
	done := false
	leader.Backup(&first, func(_ BackupInfo, err error) { done = true })
	leader.Backup(&first, func(_ BackupInfo, err error) { refused = err })
	net.until(t, "a backup", &done)
	if !errors.Is(refused, ErrFull) {
		t.Errorf("a second backup: %v", refused)
	}
	done = false
	leader.Backup(failingWriter{}, func(_ BackupInfo, err error) {
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		done = true
	})
	net.until(t, "a backup to a full disk", &done)
	if _, info := net.backUp(t, leader); info.Bytes == 0 {
		t.Error("no backup after one that failed")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
