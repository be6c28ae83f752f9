package ensemble

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/keeper"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
)

// rot is a bad bit: the boxes in it keep other data than they were told, once, in the node at the path.
type rot struct {
	boxes map[uint64]string // box → what it keeps instead
	path  string
}

func (r *rot) apply(box uint64, t *znode.Tree, e *znode.Entry) znode.Outcome {
	if instead, ok := r.boxes[box]; ok && len(e.Ops) == 1 && e.Ops[0].Path == r.path {
		delete(r.boxes, box)
		e.Ops[0].Data = []byte(instead)
	}
	return t.Apply(e)
}

// rotten opens boxes 1 to n, of which the last is an observer if there are four.
func rotten(t *testing.T, seed, n uint64, l limits.ZooKeeper) (*network, *rot) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seed)
	r := &rot{path: "/victim", boxes: map[uint64]string{}}
	net := newNetwork(scheduler(seed), 1, 2, 3)
	net.limits = l
	if n < 3 {
		net.voters = net.voters[:n]
	}
	net.configure = func(c *Config) {
		if n == 4 {
			c.Learners = []uint64{4}
		}
		box := c.Box
		c.apply = func(t *znode.Tree, e *znode.Entry) znode.Outcome { return r.apply(box, t, e) }
	}
	for id := uint64(1); id <= n; id++ {
		net.boxes[id] = net.open(t, id, tempDir(t))
	}
	t.Cleanup(func() {
		for _, b := range net.boxes {
			b.close()
		}
	})
	net.allServe(t)
	return net, r
}

// leads waits for a box that leads and serves.
func (n *network) leads(t *testing.T) *box {
	t.Helper()
	var found *box
	if !n.s.RunUntil(30*time.Second, func() bool {
		for _, b := range n.boxes {
			if b.Serving() && b.Status().Role == "leader" {
				found = b
				return true
			}
		}
		return false
	}) {
		t.Fatal("nobody leads")
	}
	return found
}

// writes lets the log grow by so many entries, through any box that takes them.
func (n *network) writes(t *testing.T, count int) {
	t.Helper()
	for done := 0; done < count; {
		b := n.leads(t)
		waiting := 0
		for range min(100, count-done) {
			waiting++
			b.Propose(Write{Entry: op(0, set("/load", fmt.Sprint(n.s.Rand().IntN(1000))))}, func(out znode.Outcome, err error) {
				waiting--
				if err == nil && out.Err == jute.OK {
					done++
				}
			})
		}
		if !n.s.RunUntil(30*time.Second, func() bool { return waiting == 0 }) {
			t.Fatal("writes without an answer")
		}
	}
}

func mismatches(b *box) uint64 { return b.metrics.mismatches.Get() }

// same checks that all boxes have one tree, and what it holds.
func (n *network) same(t *testing.T, victim string) {
	t.Helper()
	n.allServe(t)
	n.writes(t, 1)
	n.agree(t, znode.RulesVersion)
	for id, b := range n.boxes {
		if data, _, ok := b.get("/victim"); !ok || data != victim {
			t.Errorf("box %d has %q, want %q", id, data, victim)
		}
	}
}

// A box whose tree differs, voter or observer, is found out by the next comparison: its clients are sent away, it is brought
// the leader's tree while writes go on, and serves again. A restart starts from the right tree, and the others never stopped.
func TestABoxThatDiffersRejoins(t *testing.T) {
	l := smallLimits()
	l.SnapshotEntries = 300
	for _, which := range []string{"a voter", "an observer"} {
		for seed := uint64(1); seed <= 4; seed++ {
			t.Run(fmt.Sprintf("%s seed %d", which, seed), func(t *testing.T) {
				net, r := rotten(t, seed, 4, l)
				net.createOn(t, 1, "/load", "")
				leader, wrong, _ := net.followers(t)
				if which == "an observer" {
					wrong = net.boxes[4]
				}
				id := wrong.cfg.Box
				o, initial := &outbox{}, 0
				net.openSession(t, wrong, o)
				if _, err := wrong.Subscribe("/victim", func(b Batch) {
					if b.Initial {
						initial++
					}
				}); err != nil {
					t.Fatal(err)
				}
				r.boxes[id] = "rotten"
				net.createOn(t, leader.cfg.Box, "/victim", "sound")
				net.writes(t, 600)
				if data, _, _ := wrong.get("/victim"); data != "rotten" || wrong.Status().Snapshot.Index == 0 {
					t.Fatalf("%q, %+v: the test shows nothing", data, wrong.Status().Snapshot)
				}
				for !wrong.Status().Differs {
					if leader.Status().Applied > 3*keeper.DigestEvery {
						t.Fatal("nobody finds out")
					}
					net.writes(t, 50)
				}
				if mismatches(wrong) != 1 || wrong.Serving() || !errors.Is(o.death(), errDiffers) {
					t.Errorf("%d mismatches, serves %v, its connection: %v", mismatches(wrong), wrong.Serving(), o.death())
				}
				if seed%2 == 0 {
					net.writes(t, 200)
				}
				net.same(t, "sound")
				for other, b := range net.boxes {
					if other != id && mismatches(b) != 0 {
						t.Errorf("box %d differs too", other)
					}
				}
				if initial != 2 {
					t.Errorf("the subscriber was told everything %d times, want twice", initial)
				}
				if got := net.leads(t); got != leader {
					t.Errorf("box %d leads, it was box %d", got.cfg.Box, leader.cfg.Box)
				}
				net.replace(t, id)
				net.same(t, "sound")
				net.writes(t, 2*keeper.DigestEvery)
				net.same(t, "sound")
				if mismatches(net.boxes[id]) != 0 {
					t.Error("it differs again")
				}
			})
		}
	}
}

// foundOut is a network one of whose followers has a wrong tree, which was found out; no snapshot is brought to it yet.
func foundOut(t *testing.T, seed uint64, l limits.ZooKeeper) (net *network, id uint64) {
	t.Helper()
	net, r := rotten(t, seed, 3, l)
	net.createOn(t, 1, "/load", "")
	leader, wrong, _ := net.followers(t)
	id = wrong.cfg.Box
	r.boxes[id] = "rotten"
	net.createOn(t, leader.cfg.Box, "/victim", "sound")
	net.hold = true
	net.writes(t, keeper.DigestEvery+100)
	net.s.RunFor(time.Second)
	if !wrong.Status().Differs {
		t.Fatal("nobody finds out")
	}
	return net, id
}

// A box that goes down before it was brought the right tree knows when it comes back that its own is wrong.
func TestABoxThatDiffersIsRestartedInTheMiddle(t *testing.T) {
	l := smallLimits()
	l.SnapshotEntries = 300
	for seed := uint64(1); seed <= 3; seed++ {
		net, id := foundOut(t, seed, l)
		for range 2 {
			net.replace(t, id)
			net.s.RunFor(10 * time.Second)
			if b := net.boxes[id]; b.Serving() || !b.Status().Differs {
				t.Fatalf("seed %d: it serves a tree that it knows to be wrong: %+v", seed, b.Status())
			}
			if _, err := net.write(t, net.boxes[id], op(0, set("/load", "")), nil); !errors.Is(err, ErrNoQuorum) {
				t.Fatalf("seed %d: it takes a write: %v", seed, err)
			}
			net.writes(t, 100)
		}
		net.hold = false
		net.same(t, "sound")
		brought := net.snapshots
		net.replace(t, id)
		net.same(t, "sound")
		if net.snapshots != brought || net.boxes[id].log.Snapshots()[0].Index < keeper.DigestEvery {
			t.Errorf("seed %d: started once more it is brought another tree, or has kept a wrong one: %v", seed, net.boxes[id].log.Snapshots())
		}
	}
}

// Where the leader's tree differs from that of most voters, it is the leader that is wrong: another leads, and the wrong
// tree goes.
func TestALeaderThatDiffersHandsOver(t *testing.T) {
	l := smallLimits()
	l.SnapshotEntries = 300
	for seed := uint64(1); seed <= 4; seed++ {
		net, r := rotten(t, seed, 4, l)
		net.createOn(t, 1, "/load", "")
		wrong := net.leads(t)
		r.boxes[wrong.cfg.Box] = "rotten"
		net.createOn(t, wrong.cfg.Box, "/victim", "sound")
		net.writes(t, 2*keeper.DigestEvery)
		net.same(t, "sound")
		if mismatches(wrong) != 1 || wrong.Status().Role == "leader" {
			t.Errorf("seed %d: %d mismatches, a %s", seed, mismatches(wrong), wrong.Status().Role)
		}
	}
}

// Where there is no majority to ask, the leader's tree counts.
func TestTheLeadersTreeCountsAmongTwo(t *testing.T) {
	net, r := rotten(t, 2, 2, smallLimits())
	net.createOn(t, 1, "/load", "")
	leader := net.leads(t)
	other := net.boxes[3-leader.cfg.Box]
	r.boxes[other.cfg.Box] = "rotten"
	net.createOn(t, leader.cfg.Box, "/victim", "sound")
	net.writes(t, 2*keeper.DigestEvery)
	net.same(t, "sound")
	if mismatches(other) != 1 || mismatches(leader) != 0 {
		t.Errorf("%d and %d mismatches", mismatches(other), mismatches(leader))
	}
}

// A box whose tree differs and that lags so far that raft brings it a snapshot needs no other.
func TestABoxThatDiffersIsBroughtRaftsSnapshot(t *testing.T) {
	l := smallLimits()
	l.CatchUpEntries, l.SnapshotEntries, l.SnapshotLogBytes = 20, 200, 16<<10
	net, id := foundOut(t, 3, l)
	leader := net.leader(t)
	net.cut[id] = true
	big := strings.Repeat("x", 8000)
	for n := range 300 {
		net.createOn(t, leader.cfg.Box, fmt.Sprintf("/n%d", n), big)
	}
	net.hold = false
	clear(net.cut)
	net.same(t, "sound")
	net.replace(t, id)
	net.same(t, "sound")
}

// The log in memory goes back to where a tree that is to come is continued, within bounds; beyond them another tree is asked
// for.
func TestTheLogIsHeldForATreeThatIsToCome(t *testing.T) {
	for _, row := range []struct {
		logBytes int64 // of the box whose tree is wrong
		brought  int
	}{{1 << 20, 1}, {16 << 10, 2}} {
		l := smallLimits()
		l.CatchUpEntries, l.SnapshotEntries, l.SnapshotLogBytes = 20, 100_000, 1<<20
		net, r := rotten(t, 6, 3, l)
		net.createOn(t, 1, "/load", "")
		leader, _, _ := net.followers(t)
		id := leader.cfg.Box%3 + 1
		net.limits.SnapshotLogBytes = row.logBytes
		net.replace(t, id)
		net.allServe(t)
		wrong := net.boxes[id]
		r.boxes[id] = "rotten"
		net.createOn(t, leader.cfg.Box, "/victim", "sound")
		net.hold = true
		net.writes(t, keeper.DigestEvery+5)
		net.s.RunFor(2 * time.Second)
		if !wrong.Status().Differs || leader.Status().Snapshot.Index == 0 {
			t.Fatalf("%v, %+v: the test shows nothing", wrong.Status().Differs, leader.Status().Snapshot)
		}
		net.writes(t, 3000)
		net.hold = false
		net.same(t, "sound")
		if net.snapshots != row.brought {
			t.Errorf("with %d bytes of log, %d trees were brought, want %d", row.logBytes, net.snapshots, row.brought)
		}
	}
}

// Any box's tree goes wrong, again and again, while messages are lost, boxes are cut off and missed, and writes go on. In
// the end all have one tree, and the one that the log makes.
func TestTreesThatGoWrongAtRandom(t *testing.T) {
	l := smallLimits()
	l.SnapshotEntries, l.CatchUpEntries = 150, 100
	outvoted := 0
	for seed := uint64(1); seed <= 4; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			net, r := rotten(t, seed, 4, l)
			net.createOn(t, 1, "/load", "")
			net.createOn(t, 1, "/victim", "")
			rng := net.s.Rand()
			found := uint64(0)
			missed := false
			for round := range 8 {
				which := uint64(1 + rng.IntN(4))
				clear(r.boxes)
				r.boxes[which] = "rotten"
				sound := fmt.Sprint("sound ", round)
				for tries := 0; ; tries++ {
					if out, err := net.write(t, net.leads(t), op(0, set("/victim", sound)), nil); err == nil && out.Err == jute.OK {
						break
					}
					if tries > 100 {
						t.Fatal("no write goes through")
					}
				}
				net.loss = rng.IntN(8)
				for range 1 + rng.IntN(6) {
					net.writes(t, 300)
					switch other := uint64(1 + rng.IntN(4)); rng.IntN(4) {
					case 0:
						found += mismatches(net.boxes[other])
						net.replace(t, other)
						missed = true
					case 1:
						missed = true
						net.cut[other] = true
						net.s.RunFor(time.Duration(rng.IntN(3000)) * time.Millisecond)
						clear(net.cut)
					}
				}
				clear(net.cut)
				net.loss = 0
				if round%3 == 2 {
					net.allServe(t)
					net.writes(t, keeper.DigestEvery) // whatever differs is found
					net.s.RunFor(2 * keeper.PollWait)
					if data, _, _ := net.leads(t).get("/victim"); missed && data == "rotten" {
						sound = data // a box that was away or restarted could not say that the leader's was wrong
						outvoted++
					}
					net.same(t, sound)
					missed = false
				}
			}
			for _, b := range net.boxes {
				found += mismatches(b)
			}
			if found == 0 {
				t.Errorf("%d trees were found to differ: the test shows little", found)
			}
		})
	}
	if outvoted > 6 {
		t.Errorf("the wrong tree won %d times", outvoted)
	}
}

// A tree that is ahead of what the box has applied waits for the log.
func TestATreeThatIsAheadWaits(t *testing.T) {
	l := smallLimits()
	l.SnapshotEntries = 150
	net, r := rotten(t, 7, 3, l)
	net.createOn(t, 1, "/load", "")
	leader, wrong, _ := net.followers(t)
	r.boxes[wrong.cfg.Box] = "rotten"
	net.createOn(t, leader.cfg.Box, "/victim", "sound")
	net.hold = true
	net.writes(t, keeper.DigestEvery+5)
	net.s.RunFor(2 * time.Second)
	net.mute = wrong.cfg.Box
	net.writes(t, 400)
	net.hold = false
	net.s.RunFor(3 * time.Second)
	st := wrong.Status()
	if net.snapshots != 1 || !st.Differs || wrong.Serving() || st.Applied+100 > leader.Status().Snapshot.Index {
		t.Fatalf("%d trees were brought; %+v", net.snapshots, st)
	}
	net.mute = 0
	net.same(t, "sound")
	if net.snapshots != 1 {
		t.Errorf("%d trees were brought", net.snapshots)
	}
}

// A box whose tree is wrong says nothing about who belongs to the ensemble: that stands in the tree.
func TestABoxThatDiffersDoesNotVouchForOthers(t *testing.T) {
	a := newAsking(t, 3, 1, 2, 3)
	r := &rot{path: "/victim", boxes: map[uint64]string{}}
	a.configure = func(c *Config) {
		box := c.Box
		c.apply = func(t *znode.Tree, e *znode.Entry) znode.Outcome { return r.apply(box, t, e) }
	}
	a.start(1, 2, 3)
	a.serving(1, 2, 3)
	a.createOn(t, 1, "/load", "")
	_, wrong, right := a.followers(t)
	standing := func(b *box) (s string) {
		b.Answer(9, []byte(`{"server":9,"disk":"x"}`), func(answer []byte) { s = string(answer) })
		a.until("an answer", func() bool { return s != "" })
		return s
	}
	r.boxes[wrong.cfg.Box] = "rotten"
	a.createOn(t, right.cfg.Box, "/victim", "sound")
	a.hold = true
	a.writes(t, keeper.DigestEvery)
	a.s.RunFor(2 * time.Second)
	if !wrong.Status().Differs {
		t.Fatal("nobody finds out")
	}
	if got := standing(right); !strings.Contains(got, string(standingStranger)) {
		t.Errorf("the one that is right says %s", got)
	}
	if got := standing(wrong); !strings.Contains(got, string(standingWait)) || strings.Contains(got, "servers") {
		t.Errorf("the one that is wrong says %s", got)
	}
	a.hold = false
	a.same(t, "sound")
	if got := standing(wrong); !strings.Contains(got, string(standingStranger)) {
		t.Errorf("put right, it says %s", got)
	}
}

// What another box sends of digests and trees is checked before it is believed.
func TestFramesAboutTrees(t *testing.T) {
	for _, b := range [][]byte{
		words(frameDigest, 1), words(frameDiffers, 1, 2, 3), words(frameAsk, 1, 2), words(frameTree, 1, 2), append(words(frameDigest, 1, 2), 0),
	} {
		if _, err := decodePeer(b); !errors.Is(err, errPeerFrame) {
			t.Errorf("%x: %v", b, err)
		}
	}
	if f, err := decodePeer(words(frameAsk, 1, 2, 3)); err != nil || f.index != 1 || f.digest != 2 || f.least != 3 {
		t.Errorf("%+v, %v", f, err)
	}
	net, _ := rotten(t, 1, 3, limits.ZooKeeper{})
	net.createOn(t, 1, "/load", "")
	net.writes(t, keeper.DigestEvery-10)
	leader, follower, other := net.followers(t)
	for leader.Status().Applied < keeper.DigestEvery {
		net.writes(t, 1)
	}
	var own uint64
	if err := leader.View(func(tr *znode.Tree, _ *Watches) { own = tr.Digest() }); err != nil || leader.Status().Applied != keeper.DigestEvery {
		t.Fatalf("applied %d, %v", leader.Status().Applied, err)
	}
	net.writes(t, 10)
	net.s.RunFor(time.Second)
	send := func(from, to *box, b []byte) {
		if err := to.Receive(from.cfg.Box, b); err != nil {
			t.Fatal(err)
		}
	}
	send(other, follower, words(frameDiffers, keeper.DigestEvery, 7))    // not of the leader
	send(leader, follower, words(frameDiffers, 5*keeper.DigestEvery, 7)) // of an index that was not noted
	send(follower, leader, words(frameDigest, 100*keeper.DigestEvery, 7))
	send(follower, leader, words(frameDigest, keeper.DigestEvery+1, 7))
	send(leader, follower, words(frameDiffers, keeper.DigestEvery, own)) // that is what it has
	for range 3 {
		send(follower, leader, words(frameAsk, keeper.DigestEvery, 7, 1)) // wants another tree than the leader's
		net.s.RunFor(2 * time.Second)
	}
	for id, b := range net.boxes {
		if mismatches(b) != 0 || !b.Serving() || b.Failed() != nil {
			t.Errorf("box %d: %+v", id, b.Status())
		}
	}
	if leader.Status().Snapshot.Index != 0 || net.snapshots != 0 {
		t.Error("a snapshot was made for who must not have it")
	}
	if err := follower.ReceiveSnapshot(leader.cfg.Box, words(frameTree, 9, 1), 3, strings.NewReader("abc")); !errors.Is(err, errUnwanted) {
		t.Errorf("a tree that was not asked for: %v", err)
	}
}

// An observer that was cut off for longer than it waits for its leader finds it again, also when the first messages are lost
// and nothing but heartbeats comes then.
func TestAnObserverFindsItsLeaderAgain(t *testing.T) {
	for seed := uint64(1); seed <= 8; seed++ {
		net, _ := rotten(t, seed, 4, limits.ZooKeeper{})
		for range 3 {
			net.cut[4] = true
			net.s.RunFor(8 * time.Second)
			if net.boxes[4].Serving() {
				t.Fatal("it serves without a leader: the test shows nothing")
			}
			clear(net.cut)
			net.loss = 40
			net.s.RunFor(300 * time.Millisecond)
			net.loss = 0
			if !net.s.RunUntil(10*time.Second, net.boxes[4].Serving) {
				t.Fatalf("seed %d: it does not serve: %+v", seed, net.boxes[4].Status())
			}
			net.s.RunFor(5 * time.Second)
			if !net.boxes[4].Serving() {
				t.Fatalf("seed %d: it serves no more: %+v", seed, net.boxes[4].Status())
			}
		}
	}
}
