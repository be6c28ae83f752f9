package ensemble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
)

// three opens three boxes and waits until all of them serve.
func three(t *testing.T, seed uint64, limits limits.ZooKeeper) *network {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seed)
	net := newNetwork(scheduler(seed), 1, 2, 3)
	net.limits = limits
	for _, id := range net.voters {
		net.boxes[id] = net.open(t, id, tempDir(t))
	}
	net.served(t)
	t.Cleanup(func() {
		for _, b := range net.boxes {
			b.close()
		}
	})
	return net
}

func (n *network) served(t *testing.T) {
	t.Helper()
	if !n.s.RunUntil(30*time.Second, func() bool { return n.boxes[1].Serving() && n.boxes[2].Serving() && n.boxes[3].Serving() }) {
		t.Fatalf("not served: %+v, %+v, %+v", n.boxes[1].Status(), n.boxes[2].Status(), n.boxes[3].Status())
	}
}

// followers are the boxes that do not lead.
func (n *network) followers(t *testing.T) (leader, a, b *box) {
	t.Helper()
	leader = n.leader(t)
	var others []*box
	for _, id := range n.voters {
		if n.boxes[id] != leader {
			others = append(others, n.boxes[id])
		}
	}
	return leader, others[0], others[1]
}

// until runs the boxes until a completion has come.
func (n *network) until(t *testing.T, what string, done *bool) {
	t.Helper()
	if !n.s.RunUntil(60*time.Second, func() bool { return *done }) {
		t.Fatalf("%s: no answer", what)
	}
}

func (n *network) openSession(t *testing.T, b *box, out Outbox) (grant Grant) {
	t.Helper()
	done := false
	for range 100 {
		var failed error
		b.CreateSession(4000, out, func(g Grant, err error) { grant, failed, done = g, err, true })
		n.until(t, "create a session", &done)
		if failed == nil {
			return grant
		}
		done = false
		n.s.RunFor(100 * time.Millisecond) // a message was lost, or there is no leader: a client tries again
	}
	t.Fatal("no session")
	return grant
}

func (n *network) moveSession(t *testing.T, b *box, g Grant, out Outbox) (err error) {
	t.Helper()
	done := false
	b.Reattach(g.Session, g.Password[:], 4000, out, func(_ Grant, e error) { err, done = e, true })
	n.until(t, "reattach", &done)
	return err
}

func (n *network) write(t *testing.T, b *box, e znode.Entry, from Outbox) (out znode.Outcome, err error) {
	t.Helper()
	done := false
	b.Propose(Write{Entry: e, From: from}, func(o znode.Outcome, e error) { out, err, done = o, e, true })
	n.until(t, "a write", &done)
	return out, err
}

// A session lives on a follower: its writes are proposed by the leader, its own reads see them, its client's word keeps
// it open, and its silence ends it.
// semantics 22: the follower reports it.
func TestASessionOnAFollower(t *testing.T) {
	net := three(t, 3, limits.ZooKeeper{})
	_, follower, other := net.followers(t)
	o := &outbox{}
	g := net.openSession(t, follower, o)
	if out, err := net.write(t, follower, op(g.Session, create("/e", "1", jute.Ephemeral)), o); err != nil || out.Err != jute.OK {
		t.Fatalf("create: %v, %v", out.Err, err)
	}
	if data, _, ok := follower.get("/e"); !ok || data != "1" {
		t.Fatalf("its own write: %q, %v", data, ok)
	}
	for range 20 {
		follower.Touch(g.Session)
		net.s.RunFor(time.Second)
	}
	if o.death() != nil {
		t.Fatalf("a session that was heard from is over: %v", o.death())
	}
	if _, _, ok := other.get("/e"); !ok {
		t.Fatal("the ephemeral went though its session was heard from")
	}
	if !net.s.RunUntil(10*time.Second, func() bool { return o.death() != nil }) || !errors.Is(o.death(), ErrSessionExpired) {
		t.Fatalf("a silent session: %v", o.death())
	}
	net.s.RunFor(time.Second)
	if _, _, ok := other.get("/e"); ok {
		t.Fatal("the ephemeral outlived its session")
	}
}

// Every report of who was heard is lost: it is repeated, for as long as the loss of it may have gone unnoticed, and the
// session lives. It ends when its client is silent, however often reports are lost.
// semantics 22: the follower reports it.
func TestALostReportIsRepeated(t *testing.T) {
	net := three(t, 3, limits.ZooKeeper{})
	_, follower, _ := net.followers(t)
	o := &outbox{}
	g := net.openSession(t, follower, o)
	reports := 0
	net.loses = func(from, _ uint64, message []byte) bool {
		if message[0] != frameTouched || from != follower.cfg.Box {
			return false
		}
		reports++
		return reports%2 == 1
	}
	for range 10 {
		follower.Touch(g.Session)
		net.s.RunFor(2 * time.Second)
	}
	if o.death() != nil || reports < 20 {
		t.Fatalf("%d reports; a session that was heard from: %v", reports, o.death())
	}
	others := 0
	net.loses = func(from, _ uint64, message []byte) bool { // reports arrive now, and something else is lost again and again
		if from != follower.cfg.Box || message[0] != frameRaft {
			return false
		}
		others++
		return others%3 == 0
	}
	if !net.s.RunUntil(10*time.Second, func() bool { return o.death() != nil }) || !errors.Is(o.death(), ErrSessionExpired) {
		t.Fatalf("a silent session: %v", o.death())
	}
}

// A session moves from box to box with its password. The box that had it ends its connection, and takes no more of its
// writes.
// semantics 21.
func TestASessionMovesBetweenBoxes(t *testing.T) {
	net := three(t, 5, limits.ZooKeeper{})
	leader, a, b := net.followers(t)
	outs := []*outbox{{}, {}, {}, {}}
	g := net.openSession(t, a, outs[0])
	for i, to := range []*box{b, leader, a} {
		if err := net.moveSession(t, to, Grant{Session: g.Session}, outs[i+1]); !errors.Is(err, ErrSessionExpired) {
			t.Fatalf("move %d with a wrong password: %v", i, err)
		}
		if err := net.moveSession(t, to, g, outs[i+1]); err != nil {
			t.Fatalf("move %d: %v", i, err)
		}
		net.s.RunFor(time.Second)
		if !errors.Is(outs[i].death(), ErrSessionMoved) {
			t.Fatalf("move %d: the old connection: %v", i, outs[i].death())
		}
		old := []*box{a, b, leader}[i]
		if out, err := net.write(t, old, op(g.Session, create("/x", "", jute.Persistent)), nil); err != nil || out.Err != jute.SessionMoved {
			t.Fatalf("move %d: a write through the old box: %v, %v", i, out.Err, err)
		}
		if out, err := net.write(t, to, op(g.Session, create(fmt.Sprintf("/y%d", i), "", jute.Ephemeral)), outs[i+1]); err != nil || out.Err != jute.OK {
			t.Fatalf("move %d: a write through the new box: %v, %v", i, out.Err, err)
		}
	}
}

// The writes of a session that are under way together are applied in their order, though messages are lost and leaders
// change; what is applied behind a gap would be wrong.
func TestForwardedWritesKeepTheirOrder(t *testing.T) {
	const pipeline = 10
	for seed := uint64(1); seed <= 12; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			net := three(t, seed, limits.ZooKeeper{})
			_, follower, _ := net.followers(t)
			if out, err := net.write(t, follower, op(0, create("/log", "", jute.Persistent)), nil); err != nil || out.Err != jute.OK {
				t.Fatal(out.Err, err)
			}
			net.loss = 3
			grant := net.openSession(t, follower, &outbox{})
			acked, failed, sent := []int{}, 0, 0
			for round := range 30 {
				o := &outbox{}
				for tries := 0; ; tries++ {
					err := net.moveSession(t, follower, grant, o)
					if err == nil {
						break
					}
					if errors.Is(err, ErrSessionExpired) {
						grant = net.openSession(t, follower, &outbox{})
					}
					if tries > 100 {
						t.Fatal(err)
					}
					net.s.RunFor(100 * time.Millisecond)
				}
				for range pipeline {
					n := sent
					sent++
					e := op(grant.Session, create(fmt.Sprintf("/log/%06d-", n), "", jute.PersistentSequential))
					follower.Propose(Write{Entry: e, From: o}, func(out znode.Outcome, err error) {
						if err != nil || out.Err != jute.OK {
							failed++
							return
						}
						acked = append(acked, n)
					})
					if n%3 == 0 {
						net.s.RunFor(time.Millisecond)
					}
				}
				if round%10 == 9 {
					net.cut[net.leader(t).cfg.Box] = true
					net.s.RunFor(5 * time.Second)
					clear(net.cut)
				}
				if !net.s.RunUntil(60*time.Second, func() bool { return len(acked)+failed == sent }) {
					t.Fatalf("round %d: %d sent, %d acknowledged, %d failed", round, sent, len(acked), failed)
				}
			}
			net.loss = 0
			net.served(t)
			if len(acked) < sent/5 {
				t.Fatalf("only %d of %d were acknowledged", len(acked), sent)
			}
			applied := map[int]int{} // write → its place
			_ = net.leader(t).View(func(tr *znode.Tree, _ *Watches) {
				tr.Walk("/log", func(path string, _ []byte, _ jute.Stat) bool {
					var n, place int
					if _, err := fmt.Sscanf(strings.TrimPrefix(path, "/log/"), "%06d-%010d", &n, &place); err == nil {
						applied[n] = place
					}
					return true
				})
			})
			last := -1
			for n := range sent {
				if place, ok := applied[n]; ok {
					if place < last {
						t.Fatalf("write %d is at %d, before an earlier one at %d", n, place, last)
					}
					if n%pipeline != 0 {
						if _, ok := applied[n-1]; !ok {
							t.Errorf("write %d was applied, and the one before it on the same connection was not", n)
						}
					}
					last = place
				}
			}
			for _, n := range acked {
				if _, ok := applied[n]; !ok {
					t.Errorf("write %d was acknowledged and is not there", n)
				}
			}
		})
	}
}

// A box that was away for longer than the log in memory goes back is brought a snapshot, while the others write on; its
// clients are sent away, its subscribers are told everything anew, and after a restart it is still there.
func TestALaggingBoxIsBroughtASnapshot(t *testing.T) {
	l := smallLimits()
	l.CatchUpEntries, l.SnapshotEntries = 20, 200
	l.SnapshotLogBytes = 16 << 10
	for seed := uint64(1); seed <= 6; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			net := three(t, seed, l)
			leader, lagging, _ := net.followers(t)
			initial := 0
			if _, err := lagging.Subscribe("/n", func(b Batch) {
				if b.Initial {
					initial++
				}
			}); err != nil {
				t.Fatal(err)
			}
			o := &outbox{}
			net.openSession(t, lagging, o)
			net.cut[lagging.cfg.Box] = true
			big := strings.Repeat("x", 8000)
			for n := range 300 {
				if out, err := net.write(t, leader, op(0, create(fmt.Sprintf("/n%d", n), big, jute.Persistent)), nil); err != nil || out.Err != jute.OK {
					t.Fatal(n, out.Err, err)
				}
			}
			clear(net.cut)
			if !net.s.RunUntil(60*time.Second, func() bool {
				return lagging.Serving() && lagging.Status().Zxid >= leader.Status().Zxid
			}) {
				t.Fatalf("it does not catch up: %+v; the leader: %+v", lagging.Status(), leader.Status())
			}
			if net.snapshots == 0 {
				t.Fatal("no snapshot was brought: the test shows nothing")
			}
			if initial != 2 {
				t.Errorf("the subscriber was told everything %d times, want twice", initial)
			}
			if o.death() == nil {
				t.Error("the connection of a box that went on from a snapshot is still there")
			}
			if _, _, ok := lagging.get("/n299"); !ok {
				t.Fatal("the newest node is missing")
			}
			dir := lagging.cfg.Dir
			lagging.close()
			net.boxes[lagging.cfg.Box] = net.open(t, lagging.cfg.Box, dir)
			net.served(t)
			net.s.RunFor(2 * time.Second)
			var digests []uint64
			for _, b := range net.boxes {
				_ = b.View(func(tr *znode.Tree, _ *Watches) { digests = append(digests, tr.Digest()) })
			}
			if len(digests) != 3 || digests[0] != digests[1] || digests[1] != digests[2] {
				t.Fatalf("digests %x", digests)
			}
		})
	}
}

// A box whose directory was lost says so, instead of voting as if it had never promised anything, and the others go on.
func TestABoxThatForgotStops(t *testing.T) {
	net := three(t, 9, limits.ZooKeeper{})
	leader, forgetful, _ := net.followers(t)
	for n := range 20 {
		if out, err := net.write(t, leader, op(0, create(fmt.Sprintf("/n%d", n), "", jute.Persistent)), nil); err != nil || out.Err != jute.OK {
			t.Fatal(out.Err, err)
		}
	}
	net.s.RunFor(time.Second)
	id := forgetful.cfg.Box
	forgetful.close()
	net.boxes[id] = net.open(t, id, tempDir(t))
	if !net.s.RunUntil(20*time.Second, func() bool { return net.boxes[id].Failed() != nil }) || !errors.Is(net.boxes[id].Failed(), ErrForgot) {
		t.Fatalf("a box that forgot: %v, %+v", net.boxes[id].Failed(), net.boxes[id].Status())
	}
	if out, err := net.write(t, net.leader(t), op(0, create("/after", "", jute.Persistent)), nil); err != nil || out.Err != jute.OK {
		t.Fatal(out.Err, err)
	}
}

// A leader that stops hands over first: the writes that came meanwhile, on any box, are applied by the next leader, and no
// box is without a leader for the length of an election.
func TestALeaderHandsOver(t *testing.T) {
	for seed := uint64(1); seed <= 8; seed++ {
		net := three(t, seed, limits.ZooKeeper{})
		leader, _, _ := net.followers(t)
		began := net.s.Clock().Now().Mono
		done, acked := false, 0
		leader.Resign(func() { done = true })
		for id, b := range net.boxes {
			b.Propose(Write{Entry: op(0, create(fmt.Sprintf("/w%d", id), "", jute.Persistent))}, func(out znode.Outcome, err error) {
				if err == nil && out.Err == jute.OK {
					acked++
				} else if !errors.Is(err, ErrUncertain) && !errors.Is(err, ErrNotLeader) {
					t.Errorf("seed %d: %v, %v", seed, out.Err, err)
				}
			})
		}
		net.until(t, "resign", &done)
		if leader.Status().Role == "leader" {
			t.Fatalf("seed %d: it leads on", seed)
		}
		if took := net.s.Clock().Now().Mono - began; took > 200*time.Millisecond {
			t.Errorf("seed %d: handing over took %v", seed, took)
		}
		next := net.leader(t)
		if next == leader {
			t.Fatalf("seed %d: the same box leads", seed)
		}
		if _, _, ok := leader.get(fmt.Sprintf("/w%d", leader.cfg.Box)); !ok {
			net.s.RunFor(time.Second)
			if _, _, ok := leader.get(fmt.Sprintf("/w%d", leader.cfg.Box)); !ok {
				t.Errorf("seed %d: the write that waited on the old leader is lost; %d acknowledged", seed, acked)
			}
		}
	}
}

// Nobody takes over when nobody is there: the leader says so after its time, and leads on.
func TestALeaderWithoutASuccessorLeadsOn(t *testing.T) {
	net := three(t, 4, limits.ZooKeeper{})
	leader, a, b := net.followers(t)
	net.cut[a.cfg.Box], net.cut[b.cfg.Box] = true, true
	done := false
	leader.Resign(func() { done = true })
	net.until(t, "resign", &done)
	clear(net.cut)
	if out, err := net.write(t, net.leader(t), op(0, create("/on", "", jute.Persistent)), nil); err != nil || out.Err != jute.OK {
		t.Fatal(out.Err, err)
	}
	alone := openThreads(t, Config{Dir: tempDir(t)})
	resigned := make(chan struct{})
	alone.Resign(func() { close(resigned) })
	<-resigned
	alone.must(op(0, create("/a", "", jute.Persistent)))
}

// A session that was just opened through a follower is known to the leader, though its own disk may not have taken the entry
// yet that the others have committed.
func TestASessionMovesToALeaderThatIsBehind(t *testing.T) {
	behind := 0
	for seed := uint64(1); seed <= 60; seed++ {
		net := three(t, seed, limits.ZooKeeper{})
		leader, follower, _ := net.followers(t)
		net.slowDisk = map[uint64]time.Duration{leader.cfg.Box: 5 * time.Millisecond}
		for n := range 60 {
			first, second := &outbox{}, &outbox{}
			grant := net.openSession(t, follower, first)
			_ = leader.View(func(tr *znode.Tree, _ *Watches) {
				if _, open := tr.Session(grant.Session); !open {
					behind++
				}
			})
			if err := net.moveSession(t, leader, grant, second); err != nil {
				t.Fatalf("seed %d, session %d: %v", seed, n, err)
			}
		}
	}
	if behind == 0 {
		t.Fatal("the leader was never behind: the test shows nothing")
	}
}

// A client that comes from a leader that has just gone moves its session through a box that does not know yet: the move is
// lost on the way, and made again; the client is not sent away.
func TestAMoveThatIsLostIsMadeAgain(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		net := three(t, seed, limits.ZooKeeper{})
		leader, follower, _ := net.followers(t)
		grant := net.openSession(t, leader, &outbox{})
		lost := 0
		net.loses = func(from, to uint64, message []byte) bool {
			if from == follower.cfg.Box && message[0] == frameForward && lost < 3 {
				lost++
				return true
			}
			return false
		}
		second := &outbox{}
		if err := net.moveSession(t, follower, grant, second); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if lost != 3 {
			t.Fatalf("seed %d: %d messages were lost", seed, lost)
		}
		if out, err := net.write(t, follower, op(grant.Session, create("/moved", "", jute.Ephemeral)), second); err != nil || out.Err != jute.OK {
			t.Fatalf("seed %d: a write after the move: %v, %v", seed, out.Err, err)
		}
	}
}

// What waits for company on a box when its leader is lost was not on its way, and goes to the next one.
func TestWhatIsNotOnItsWayIsNotLost(t *testing.T) {
	net, follower, sessions := company(t, 64, false)
	acked := 0
	submit(follower, sessions[0], "/g", &acked)
	submit(follower, sessions[1], "/g", &acked)
	net.s.RunUntil(50*ms, func() bool { return acked == 2 })
	submit(follower, sessions[0], "/g", &acked)
	sent := false
	net.loses = func(from, _ uint64, message []byte) bool {
		sent = sent || from == follower.cfg.Box && message[0] == frameForward
		return false
	}
	net.s.RunFor(ms / 4)
	if sent {
		t.Fatal("it did not wait")
	}
	follower.Unreachable(net.leader(t).cfg.Box)
	if !net.s.RunUntil(time.Second, func() bool { return acked == 3 }) {
		t.Fatalf("%d writes answered", acked)
	}
}

// FuzzPeerFrame: whatever another box sends is a frame within its bounds or an error that says so.
func FuzzPeerFrame(f *testing.F) {
	f.Add(forwardFrame(2))
	f.Add(words(frameRefused, 1, 2))
	f.Add(words(framePromises, 1, 2, 3, 4))
	f.Add(words(frameAsk, 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		if frame, err := decodePeer(b); err == nil && len(frame.writes) > gatherEntriesMax {
			t.Fatalf("%d writes", len(frame.writes))
		}
	})
}

// forwardFrame hands over so many writes.
func forwardFrame(writes int) []byte {
	b := words(frameForward, 1, 2, 3)
	for n := range writes {
		e := op(1, create(fmt.Sprintf("/f%d", n), "", jute.Persistent))
		entry := e.Marshal(nil)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(entry))), entry...)
	}
	return b
}

func TestForwardFrames(t *testing.T) {
	f, err := decodePeer(forwardFrame(3))
	if err != nil || f.stream != 1 || f.sequence != 2 || f.from.incarnation != 3 || len(f.writes) != 3 || f.writes[2].request != 2 {
		t.Fatalf("%+v, %v", f, err)
	}
	if path := f.writes[2].entry.Ops[0].Path; path != "/f2" {
		t.Fatal(path)
	}
	whole, head := forwardFrame(1), len(forwardFrame(0))
	long := slices.Clone(whole)
	binary.BigEndian.PutUint32(long[head+8:], uint32(len(whole)))
	for name, b := range map[string][]byte{"no head": whole[:head-1], "no length": whole[:head+forwardHead-1], "cut": whole[:len(whole)-1], "too long": long, "too many": forwardFrame(gatherEntriesMax + 1)} {
		if _, err := decodePeer(b); !errors.Is(err, errPeerFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decodePeer(forwardFrame(gatherEntriesMax)); err != nil {
		t.Error(err)
	}
}

// What is handed over at once may be more than one message holds.
func TestManyWritesAreHandedOverAtOnce(t *testing.T) {
	net := three(t, 62, limits.ZooKeeper{})
	_, follower, _ := net.followers(t)
	messages, most := 0, 0
	net.loses = func(from, _ uint64, message []byte) bool {
		if from == follower.cfg.Box && message[0] == frameForward {
			messages, most = messages+1, max(most, len(message))
		}
		return false
	}
	var acked []int
	const writes = 2*gatherEntriesMax + 8
	for n := range writes {
		data := ""
		if n >= 2*gatherEntriesMax {
			data = strings.Repeat("x", gatherBytesMax/2)
		}
		follower.Propose(Write{Entry: op(0, create(fmt.Sprintf("/m%d", n), data, jute.Persistent))}, func(out znode.Outcome, err error) {
			if err == nil && out.Err == jute.OK {
				acked = append(acked, n)
			}
		})
	}
	if !net.s.RunUntil(time.Second, func() bool { return len(acked) == writes }) {
		t.Fatalf("%d writes acknowledged", len(acked))
	}
	if !slices.IsSorted(acked) {
		t.Errorf("acknowledged in the order %v", acked)
	}
	if messages < 6 || most > gatherBytesMax+gatherBytesMax/2 {
		t.Errorf("%d messages, the longest of %d bytes", messages, most)
	}
}
