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

// upperCase is a build whose rules version 2 keeps data in capitals: a box that goes on with version 1 has another tree.
func upperCase(t *znode.Tree, e *znode.Entry) znode.Outcome {
	if t.Rules() >= 2 {
		for i := range e.Ops {
			e.Ops[i].Data = []byte(strings.ToUpper(string(e.Ops[i].Data)))
		}
	}
	return t.Apply(e)
}

// mixed is an ensemble of builds: rules[id] is what box id can run. Box 4 is an observer.
func mixed(t *testing.T, seed uint64, rules map[uint64]uint32) *network {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seed)
	net := newNetwork(scheduler(seed), 1, 2, 3)
	net.configure = func(c *Config) {
		c.Learners = []uint64{4}
		if c.Rules = rules[c.Box]; c.Rules >= 2 {
			c.apply = upperCase
		}
		c.Build = fmt.Sprintf("build-%d", c.Rules)
	}
	for id := range uint64(4) {
		net.boxes[id+1] = net.open(t, id+1, tempDir(t))
	}
	t.Cleanup(func() {
		for _, b := range net.boxes {
			b.close()
		}
	})
	net.allServe(t)
	return net
}

func (n *network) allServe(t *testing.T) {
	t.Helper()
	if !n.s.RunUntil(60*time.Second, func() bool {
		for _, b := range n.boxes {
			if !b.Serving() {
				return false
			}
		}
		return true
	}) {
		for _, b := range n.boxes {
			t.Errorf("%+v", b.Status())
		}
		t.Fatal("not served")
	}
}

// replace ends a box and starts another build on its directory.
func (n *network) replace(t *testing.T, id uint64) {
	t.Helper()
	dir := n.boxes[id].cfg.Dir
	n.boxes[id].close()
	n.boxes[id] = n.open(t, id, dir)
}

// agree waits until all boxes have applied the same and compares their trees.
func (n *network) agree(t *testing.T, rules uint32) {
	t.Helper()
	same := func() bool {
		var zxids []int64
		for _, b := range n.boxes {
			zxids = append(zxids, b.Status().Zxid)
		}
		slices.Sort(zxids)
		return zxids[0] == zxids[len(zxids)-1]
	}
	if !n.s.RunUntil(30*time.Second, same) {
		t.Fatal("the boxes do not apply the same")
	}
	digests := map[uint64]uint64{}
	for id, b := range n.boxes {
		if got := b.Status().Rules; got != rules || b.Failed() != nil {
			t.Fatalf("box %d: rules %d, want %d; failed: %v", id, got, rules, b.Failed())
		}
		if err := b.View(func(tr *znode.Tree, _ *Watches) { digests[id] = tr.Digest() }); err != nil {
			t.Fatal(err)
		}
	}
	for _, digest := range digests {
		if digest != digests[1] {
			t.Fatalf("digests %x", digests)
		}
	}
}

func (n *network) createOn(t *testing.T, id uint64, path, data string) {
	t.Helper()
	if out, err := n.write(t, n.boxes[id], op(0, create(path, data, jute.Persistent)), nil); err != nil || out.Err != jute.OK {
		t.Fatalf("%s on box %d: %v, %v", path, id, out.Err, err)
	}
}

// While one box, voter or observer, runs an older build, the rules stay; all trees are the same. When it is replaced they
// rise, and what the new rules do happens on every box.
func TestRulesRiseWhenEveryMemberCanRunThem(t *testing.T) {
	for _, old := range []uint64{2, 4} {
		for seed := uint64(1); seed <= 3; seed++ {
			t.Run(fmt.Sprintf("box %d seed %d", old, seed), func(t *testing.T) {
				rules := map[uint64]uint32{1: 2, 2: 2, 3: 2, 4: 2}
				rules[old] = 1
				net := mixed(t, seed, rules)
				for id := range net.boxes {
					net.createOn(t, id, fmt.Sprintf("/a%d", id), "data")
				}
				net.s.RunFor(20 * time.Second)
				net.createOn(t, 1, "/b", "data")
				net.agree(t, 1)

				// Another leader asks anew.
				gone := net.leader(t)
				net.cut[gone.cfg.Box] = true
				net.s.RunFor(5 * time.Second)
				clear(net.cut)
				net.allServe(t)
				net.s.RunFor(10 * time.Second)
				net.agree(t, 1)

				// While it is away nobody knows what it will be when it comes back.
				net.cut[old] = true
				net.s.RunFor(30 * time.Second)
				if got := net.leader(t).Status().Rules; got != 1 {
					t.Fatalf("the rules rose to %d without a member", got)
				}
				clear(net.cut)
				net.allServe(t)

				rules[old] = 3
				net.replace(t, old)
				net.allServe(t)
				if !net.s.RunUntil(20*time.Second, func() bool { return net.boxes[old].Status().Rules == 2 }) {
					t.Fatalf("the rules stay: %+v", net.leader(t).Status())
				}
				for id := range net.boxes {
					net.createOn(t, id, fmt.Sprintf("/c%d", id), "data")
				}
				net.agree(t, 2)
				if data, _, _ := net.boxes[old].get("/c1"); data != "DATA" {
					t.Errorf("the new rules do not show: %q", data)
				}
			})
		}
	}
}

// A box that comes back as an older build, after the rules rose, stops with a word that says what to do: from its log, from
// its snapshot, and from the leader's snapshot. The others go on.
func TestAnOlderBuildStops(t *testing.T) {
	l := smallLimits()
	l.CatchUpEntries, l.SnapshotEntries, l.SnapshotLogBytes = 20, 60, 16<<10
	rules := map[uint64]uint32{1: 1, 2: 1, 3: 1, 4: 1}
	net := mixed(t, 7, rules)
	net.limits = l
	for id := range uint64(4) {
		rules[id+1] = 2
		if id+1 != 3 {
			net.replace(t, id+1)
		}
	}
	net.allServe(t)
	net.agree(t, 1)
	// Box 4 has said that it can run them; it is cut off just before they rise, and comes back as an older build, so far
	// behind that it is brought a snapshot before it can apply the entry.
	net.s.RunFor(2 * time.Second)
	if net.leader(t).cfg.Box == 3 {
		t.Fatal("box 3 leads: what box 4 has said counts no more when it goes; the test wants another seed")
	}
	net.cut[4] = true
	net.replace(t, 3)
	if !net.s.RunUntil(3*time.Second, func() bool { return net.boxes[3].Status().Rules == 2 }) {
		t.Fatal("the rules stay")
	}
	rules[3], rules[4] = 1, 1
	net.replace(t, 3)
	net.older(t, 3)
	rules[3] = 2
	net.replace(t, 3)
	net.replace(t, 4)
	big := strings.Repeat("x", 8000)
	for n := range 200 {
		net.createOn(t, net.leader(t).cfg.Box, fmt.Sprintf("/n%d", n), big)
	}
	brought := net.snapshots
	clear(net.cut)
	net.older(t, 4)
	if got := net.boxes[4].Status().Rules; got != 1 {
		t.Fatalf("it took over a tree under rules %d", got)
	}
	if net.snapshots == brought {
		t.Fatal("no snapshot was brought: the test shows nothing")
	}

	net.s.RunFor(time.Second)
	if net.boxes[3].Status().Snapshot.Index == 0 {
		t.Fatal("box 3 has no snapshot: the test shows nothing")
	}
	for _, id := range []uint64{3, 4} {
		cfg := net.boxes[id].cfg
		net.boxes[id].close()
		cfg.Rules, cfg.Build = 1, "build-1"
		if _, err := Open(cfg, net.boxes[id].deps); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), cfg.Dir) {
			t.Fatalf("box %d, from its snapshot: %v", id, err)
		}
	}
	net.createOn(t, net.leader(t).cfg.Box, "/on", "")
}

// older waits until the box has stopped because its build is too old.
func (n *network) older(t *testing.T, id uint64) {
	t.Helper()
	b := n.boxes[id]
	if !n.s.RunUntil(20*time.Second, func() bool { return b.Failed() != nil }) {
		t.Fatalf("box %d of an older build goes on: %+v", id, b.Status())
	}
	if err := b.Failed(); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "build-1") {
		t.Fatalf("box %d: %v", id, err)
	}
}

// What a member has said counts while it is there: when it comes back it may be another build.
func TestTheWordOfASilentMemberEnds(t *testing.T) {
	rules := map[uint64]uint32{1: 2, 2: 2, 3: 1, 4: 2}
	net := mixed(t, 4, rules)
	net.s.RunFor(5 * time.Second)
	leader := net.leader(t)
	if leader.cfg.Box == 3 {
		t.Fatal("another term would begin with the new build: the test shows nothing")
	}
	net.cut[4] = true
	net.s.RunFor(10 * time.Second)
	rules[3] = 2
	net.replace(t, 3)
	net.s.RunFor(10 * time.Second)
	if got := leader.Status().Rules; got != 1 {
		t.Fatalf("the rules rose to %d on the word of a box that is away", got)
	}
	clear(net.cut)
	net.allServe(t)
	if !net.s.RunUntil(20*time.Second, func() bool { return net.boxes[4].Status().Rules == 2 }) {
		t.Fatal("the rules stay")
	}
	net.agree(t, 2)
}

// A box that is alone has nobody to wait for.
func TestRulesRiseAtOnceAlone(t *testing.T) {
	b := openThreads(t, Config{Dir: tempDir(t), Rules: 2, apply: upperCase})
	b.must(op(0, create("/a", "", jute.Persistent)))
	if got := b.Status().Rules; got != 2 {
		t.Fatalf("rules %d", got)
	}
}

// The state of a box is read as it was written, and nothing else is taken for one.
func TestStateFrames(t *testing.T) {
	frame := func(term uint64, rules uint32, build string) []byte {
		b := binary.BigEndian.AppendUint64([]byte{frameState}, term)
		return append(binary.BigEndian.AppendUint32(b, rules), build...)
	}
	f, err := decodePeer(frame(7, 3, "x"))
	if err != nil || f.term != 7 || f.rules != 3 || f.build != "x" {
		t.Fatalf("%+v, %v", f, err)
	}
	for _, b := range [][]byte{frame(1, 1, "")[:12], {frameState}, frame(1, 1, strings.Repeat("x", buildBytesMax+1))} {
		if _, err := decodePeer(b); !errors.Is(err, errPeerFrame) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

// Only the leader, who has asked, raises the rules: another box's entry is refused.
func TestRulesAreNotRaisedForOthers(t *testing.T) {
	net := three(t, 6, limits.ZooKeeper{})
	_, follower, _ := net.followers(t)
	if out, err := net.write(t, follower, znode.Entry{Kind: znode.KindSetRules, Rules: 9, Flags: znode.FlagInternal}, nil); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("%v, %v", out.Err, err)
	}
	net.s.RunFor(time.Second)
	if follower.Failed() != nil || follower.Status().Rules != znode.RulesVersion {
		t.Fatalf("%+v", follower.Status())
	}
}
