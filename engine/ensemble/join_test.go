package ensemble

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/znode"
)

func serverLine(id uint64) quorum.Server {
	return quorum.Server{ID: int64(id), Host: fmt.Sprint("b", id), PeerPort: 2888, ElectionPort: 3888}
}

// ask is one box's Deps.Ask.
func (p port) ask(to uint64, question []byte, done func([]byte, error)) {
	n := p.net
	n.s.Spawn("question", func() {}, func() {
		b := n.boxes[to]
		if b == nil || n.cut[p.from] || n.cut[to] {
			done(nil, errors.New("not reached"))
			return
		}
		b.Answer(p.from, question, func(answer []byte) {
			if n.slow {
				n.answers = append(n.answers, func() { done(answer, nil) })
				return
			}
			n.s.Spawn("answer", func() {}, func() { done(answer, nil) })
		})
	})
}

// asking is a network of boxes that ask before they begin, and their directories.
type asking struct {
	*network
	t    *testing.T
	dirs map[uint64]string
}

func newAsking(t *testing.T, seed uint64, voters ...uint64) *asking {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seed)
	a := &asking{network: newNetwork(scheduler(seed), voters...), t: t, dirs: map[uint64]string{}}
	a.asks = true
	t.Cleanup(func() {
		for _, b := range a.boxes {
			b.close()
		}
	})
	return a
}

// leader waits for a box that leads.
func (a *asking) leader(t *testing.T) *box {
	t.Helper()
	var found *box
	a.until("somebody leads", func() bool {
		for _, id := range slices.Sorted(maps.Keys(a.boxes)) {
			if b := a.boxes[id]; b.Serving() && b.Status().Role == "leader" {
				found = b
			}
		}
		return found != nil
	})
	return found
}

func (a *asking) start(ids ...uint64) {
	a.t.Helper()
	for _, id := range ids {
		if a.dirs[id] == "" {
			a.dirs[id] = tempDir(a.t)
		}
		a.boxes[id] = a.open(a.t, id, a.dirs[id])
	}
}

// begin starts boxes and waits until they serve.
func (a *asking) begin(ids ...uint64) {
	a.t.Helper()
	a.start(ids...)
	a.serving(ids...)
}

func (a *asking) stop(ids ...uint64) {
	for _, id := range ids {
		a.boxes[id].close()
		delete(a.boxes, id)
	}
}

// lose empties a box's directory.
func (a *asking) lose(id uint64) { a.dirs[id] = tempDir(a.t) }

func (a *asking) until(what string, f func() bool) {
	a.t.Helper()
	if a.s.RunUntil(60*time.Second, f) {
		return
	}
	for id, b := range a.boxes {
		a.t.Logf("box %d: %+v", id, b.Status())
	}
	a.t.Fatalf("it does not come to pass: %s", what)
}

func (a *asking) serving(ids ...uint64) {
	a.t.Helper()
	a.until(fmt.Sprint("boxes serve: ", ids), func() bool {
		return !slices.ContainsFunc(ids, func(id uint64) bool { return !a.boxes[id].Serving() })
	})
}

// put writes through some box that serves.
func (a *asking) put(path string) { a.t.Helper(); a.putBytes(path, 1) }

func (a *asking) putBytes(path string, size int) {
	a.t.Helper()
	done := false
	a.until("a write goes through", func() bool {
		for _, b := range a.boxes {
			if !done && b.Serving() && b.Status().Role == "leader" {
				b.Propose(Write{Entry: op(0, create(path, strings.Repeat("x", size), jute.Persistent))}, func(out znode.Outcome, err error) {
					done = done || err == nil && (out.Err == jute.OK || out.Err == jute.NodeExists)
				})
			}
		}
		a.s.RunFor(20 * time.Millisecond)
		return done
	})
}

func (a *asking) has(id uint64, path string) {
	a.t.Helper()
	a.until(fmt.Sprintf("box %d shows %s", id, path), func() bool {
		_, _, ok := a.boxes[id].get(path)
		return ok
	})
}

// reconfig changes the configuration.
func (a *asking) reconfig(joining, leaving string) {
	a.t.Helper()
	var code jute.Code
	var fault error
	answered := false
	a.leader(a.t).Reconfigure(jute.ReconfigRequest{Joining: joining, Leaving: leaving, CurConfigID: -1}, func(out znode.Outcome, err error) {
		code, fault, answered = out.Err, err, true
	})
	a.until("the change is answered", func() bool { return answered })
	if code != jute.OK || fault != nil {
		a.t.Fatal(code, fault)
	}
}

// observe starts a server beside the others and makes it an observer.
func (a *asking) observe(id uint64) {
	a.t.Helper()
	a.voters = append(slices.Clone(a.voters), id)
	a.start(id)
	a.s.RunFor(2 * time.Second)
	a.place(id, true)
}

// A change that removes the leader is answered by the box that was asked, though the next leader's word is quicker than
// that of what was decided.
func TestTheLeaderIsRemovedThroughAnother(t *testing.T) {
	a := newAsking(t, 9, 1, 2, 3)
	a.begin(1, 2, 3)
	a.put("/a")
	a.s.RunFor(3 * time.Second)
	leader, follower, _ := a.followers(t)
	a.slowBulk = 20 * time.Millisecond
	var fault error
	answered := false
	follower.Reconfigure(jute.ReconfigRequest{Leaving: fmt.Sprint(leader.cfg.Box), CurConfigID: -1}, func(out znode.Outcome, err error) {
		if fault, answered = err, true; err == nil && out.Err != jute.OK {
			fault = out.Err
		}
	})
	a.until("the change is answered", func() bool { return answered })
	if fault != nil {
		t.Fatal(fault)
	}
	a.until("another leads", func() bool { return follower.Status().Leader != leader.cfg.Box && follower.Status().Leader != 0 })
}

// place says whether a server is to observe or to vote.
func (a *asking) place(id uint64, observer bool) {
	a.t.Helper()
	line := serverLine(id)
	line.Observer = observer
	a.reconfig(fmt.Sprintf("server.%d=%s", id, line.Text()), "")
}

// voters waits until a box sees that these servers vote, and no others.
func (a *asking) voting(id uint64, want ...uint64) {
	a.t.Helper()
	a.until(fmt.Sprint("voters are ", want), func() bool {
		got := slices.Clone(a.boxes[id].Status().Voters)
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

// Boxes that are all empty begin together; one that comes late, and was not there at the founding, is given a place.
func TestTheFounding(t *testing.T) {
	a := newAsking(t, 3, 1, 2, 3)
	a.start(1)
	a.s.RunFor(20 * time.Second)
	if a.boxes[1].Serving() || a.boxes[1].Status().Term != 0 {
		t.Fatalf("one of three began alone: %+v", a.boxes[1].Status())
	}
	a.start(2)
	a.serving(1, 2)
	a.put("/a")
	if id := a.boxes[1].RaftID(); id != 1 {
		t.Fatalf("a founder has raft id %x", id)
	}
	a.start(3)
	a.serving(3)
	a.voting(3, 1, 2, 3)
	a.has(3, "/a")
	if id := a.boxes[3].RaftID(); quorum.IncarnationOf(id) == 0 {
		t.Fatalf("a box that was not there at the founding has raft id %x", id)
	}
	a.stop(1)
	a.put("/b") // server 3 votes
	a.has(3, "/b")
}

// Boxes that begin in one moment know different ones of the others as founders. Whom the leader has not met another may have told to
// begin: its place is not given away in that moment.
func TestNoFounderIsSentAway(t *testing.T) {
	for seed := range uint64(40) {
		a := newAsking(t, 2300+seed, 1, 2, 3, 4, 5)
		for id := range uint64(5) {
			a.start((id+seed)%5 + 1)
			a.s.RunFor(time.Duration(a.s.Rand().IntN(4)) * time.Millisecond)
		}
		a.s.RunFor(5 * time.Second)
		for id, b := range a.boxes {
			if !b.Serving() || b.Failed() != nil {
				t.Fatalf("seed %d: box %d has raft id %x: %+v", 2300+seed, id, b.RaftID(), b.Status())
			}
		}
		a.stop(1, 2, 3, 4, 5)
	}
}

// Founders that answered each other are founders, whatever stops them before they have begun.
func TestAFounderThatStopsBeforeItBegins(t *testing.T) {
	for ms := 0; ms < 300; ms += 25 {
		a := newAsking(t, 40+uint64(ms), 1, 2, 3)
		a.start(1, 2, 3)
		a.s.RunFor(time.Duration(ms) * time.Millisecond)
		a.stop(3)
		a.s.RunFor(time.Second)
		a.start(3)
		a.serving(1, 2, 3)
		a.put("/a")
		a.has(3, "/a")
		a.voting(3, 1, 2, 3)
	}
}

// Whoever lost its disk never takes part under the id under which it had acknowledged what is gone. While a majority of
// empty disks could begin anew, one server with data is enough to keep them from it.
func TestEmptyDisksDoNotBeginBesideAnEnsemble(t *testing.T) {
	a := newAsking(t, 5, 1, 2, 3)
	a.begin(1, 2, 3)
	a.put("/a")
	a.has(1, "/a")
	a.s.RunFor(3 * time.Second) // the disks are known
	a.stop(1, 2, 3)
	a.lose(2)
	a.lose(3)
	a.start(1, 2, 3)
	a.s.RunFor(30 * time.Second)
	for id, b := range a.boxes {
		if st := b.Status(); b.Serving() || st.Role == "leader" {
			t.Fatalf("box %d serves from an ensemble that lost most of its disks: %+v", id, st)
		}
	}
	got := make(chan Cluster, 1)
	a.boxes[2].Cluster(func(c Cluster, err error) { got <- c })
	a.s.RunFor(time.Second)
	if c := <-got; c.Trouble == "" {
		t.Fatalf("no trouble is seen: %+v", c)
	}
}

// A wiped voter does not help to elect a leader that lacks what it had acknowledged.
func TestAWipedVoterDoesNotVote(t *testing.T) {
	a := newAsking(t, 6, 1, 2, 3)
	a.begin(1, 2, 3)
	a.s.RunFor(3 * time.Second)
	leader := a.leader(t).cfg.Box
	behind := leader%3 + 1
	third := behind%3 + 1
	a.stop(behind)
	a.put("/a") // on the leader and the third alone
	a.stop(leader, third)
	a.lose(third)
	a.start(behind, third) // neither has it: they must not lead without the old leader
	a.s.RunFor(30 * time.Second)
	if a.boxes[behind].Serving() || a.boxes[third].Serving() {
		t.Fatal("an acknowledged write was lost")
	}
	a.start(leader)
	a.serving(leader, behind, third)
	a.has(behind, "/a")
	a.has(third, "/a")
	a.voting(leader, 1, 2, 3)
}

// A number that another box has, which is alive, is not given to a second one.
func TestTwoBoxesWithOneNumber(t *testing.T) {
	a := newAsking(t, 7, 1, 2, 3)
	a.begin(1, 2, 3)
	a.s.RunFor(3 * time.Second)
	id := a.leader(t).cfg.Box%3 + 1
	before := a.boxes[id].RaftID()
	twin := a.open(t, id, tempDir(t)) // asks as the same server, which goes on
	a.s.RunFor(20 * time.Second)
	a.put("/a")
	a.has(id, "/a")
	if twin.Serving() || !a.boxes[id].Serving() || a.boxes[id].RaftID() != before {
		t.Fatalf("the twin: %+v; the first: %+v", twin.Status(), a.boxes[id].Status())
	}
	twin.close()
}

// An observer that does not hear the leader any more sends its clients away, though it never votes.
func TestAnObserverThatIsCutOff(t *testing.T) {
	a := newAsking(t, 11, 1, 2, 3)
	a.begin(1, 2, 3)
	a.observe(4)
	a.serving(4)
	a.cut[4] = true
	a.until("it stops serving", func() bool { return !a.boxes[4].Serving() })
	a.put("/meanwhile")
	clear(a.cut)
	a.serving(4)
	a.has(4, "/meanwhile")
	a.voting(4, 1, 2, 3)
}

// A directory that was copied back from an older state is noticed when the leader speaks, and its box joins anew.
func TestADirectoryThatWasSetBack(t *testing.T) {
	a := newAsking(t, 8, 1, 2, 3)
	a.begin(1, 2, 3)
	a.put("/a")
	a.s.RunFor(3 * time.Second)
	id := a.leader(t).cfg.Box%3 + 1
	a.stop(id)
	old := tempDir(t)
	if err := os.CopyFS(filepath.Join(old, "copy"), os.DirFS(a.dirs[id])); err != nil {
		t.Fatal(err)
	}
	a.start(id)
	a.serving(id)
	for n := range 20 {
		a.put(fmt.Sprint("/n", n))
	}
	a.has(id, "/n19")
	before := a.boxes[id].RaftID()
	a.stop(id)
	a.dirs[id] = filepath.Join(old, "copy")
	a.start(id)
	a.until("it notices", func() bool { return a.boxes[id].Failed() != nil })
	if err := a.boxes[id].Failed(); !errors.Is(err, ErrRejoin) || !errors.Is(err, ErrForgot) {
		t.Fatal(err)
	}
	a.stop(id)
	a.start(id)
	a.serving(id)
	a.voting(id, 1, 2, 3)
	a.has(id, "/n19")
	if after := a.boxes[id].RaftID(); after == before {
		t.Fatalf("raft id %x again", after)
	}
	if _, err := os.Stat(filepath.Join(a.dirs[id], asideDir, "wal")); err != nil {
		t.Fatalf("the old log was not kept: %v", err)
	}
}

// Of five, three have acknowledged a write: the leader, which dies, one whose directory is then set back, and one more. The
// one that was set back must not make a leader of the two that lack the write.
func TestAVoterThatWasSetBackDoesNotVote(t *testing.T) {
	told := 0
	for seed := uint64(20); seed < 32; seed++ {
		a := newAsking(t, seed, 1, 2, 3, 4, 5)
		a.start(1, 2, 3, 4, 5)
		a.serving(1, 2, 3, 4, 5)
		a.s.RunFor(3 * time.Second)
		leader := a.leader(t).cfg.Box
		next := func(id uint64) uint64 { return id%5 + 1 }
		back := next(leader)
		knows := next(back)
		lack1, lack2 := next(knows), next(next(knows))
		a.stop(back)
		old := filepath.Join(tempDir(t), "copy")
		if err := os.CopyFS(old, os.DirFS(a.dirs[back])); err != nil {
			t.Fatal(err)
		}
		a.start(back)
		a.serving(back)
		a.stop(lack1, lack2)
		a.put("/acknowledged")
		a.has(back, "/acknowledged")
		a.has(knows, "/acknowledged")
		a.s.RunFor(2 * time.Second)
		a.stop(leader, back)
		a.dirs[back] = old
		a.cut[knows] = true
		a.start(lack1, lack2)
		a.s.RunFor(3 * time.Second) // two of five: they stand for election again and again
		clear(a.cut)
		a.slow = seed%2 == 0 // as long as a box waits at most, or not at all
		a.start(back)
		a.s.RunFor(promiseWait - 50*time.Millisecond)
		a.slow = false
		for _, answer := range a.answers {
			answer()
		}
		a.answers = nil
		// It is told, or a leader that has the write has brought it meanwhile.
		a.until("the one that was set back is told", func() bool { return a.boxes[back].Failed() != nil || a.boxes[back].Serving() })
		a.serving(knows, lack1, lack2)
		a.has(lack1, "/acknowledged")
		if err := a.boxes[back].Failed(); err != nil {
			if !errors.Is(err, ErrForgot) || !errors.Is(err, ErrRejoin) {
				t.Fatal(err)
			}
			told++
			a.stop(back)
			a.start(back)
		}
		a.serving(back)
		a.has(back, "/acknowledged")
	}
	if told == 0 {
		t.Error("no box was told: the test shows less")
	}
}

// An answer may come late and tell of what the box has acknowledged since it asked: that is no more than it has.
func TestAnAnswerThatComesLate(t *testing.T) {
	a := newAsking(t, 12, 1, 2, 3)
	a.begin(1, 2, 3)
	a.put("/a")
	a.s.RunFor(3 * time.Second)
	id := a.leader(t).cfg.Box%3 + 1
	a.stop(id)
	a.slow = true
	a.start(id)
	a.serving(id)
	a.put("/b")
	a.has(id, "/b")
	a.s.RunFor(3 * time.Second) // the leader tells of it
	if len(a.answers) == 0 {
		t.Fatal("nobody was asked: the test shows nothing")
	}
	a.slow = false
	for n := range a.answers { // as if it was given now
		a.answers[n]()
	}
	a.late(id)
	a.s.RunFor(time.Second)
	if err := a.boxes[id].Failed(); err != nil {
		t.Fatal(err)
	}
}

// late puts the question of a box that starts once more to the others, and gives it their answers.
func (a *asking) late(id uint64) {
	b := a.boxes[id]
	question, err := json.Marshal(ask{Server: id, Disk: "same", Raft: b.RaftID()})
	if err != nil {
		a.t.Fatal(err)
	}
	for other, from := range a.boxes {
		if other != id {
			from.Answer(id, question, func(answer []byte) {
				b.box.Post(message{kind: msgPromised, box: other, occasion: &occasion{answer: answer}})
			})
		}
	}
}

// What a leader has in its own log, and nobody else, is no promise: the next leader's log may be shorter and take its place.
// A box that restarts with that has forgotten nothing.
func TestALogThatWasOverwrittenIsNotForgotten(t *testing.T) {
	a := newAsking(t, 9, 1, 2, 3)
	a.begin(1, 2, 3)
	leader := a.leader(t).cfg.Box
	a.talks = leader
	for n := range 20 {
		a.boxes[leader].Propose(Write{Entry: op(0, create(fmt.Sprint("/alone", n), "", jute.Persistent))}, func(znode.Outcome, error) {})
	}
	a.s.RunFor(3 * time.Second) // it tells of its log several times
	if _, _, ok := a.boxes[leader].get("/alone0"); ok {
		t.Fatal("a write is committed that nobody else has")
	}
	a.stop(leader)
	a.talks = 0
	a.put("/after")
	a.start(leader)
	a.serving(leader)
	a.has(leader, "/after")
	a.stop(leader)
	a.start(leader)
	a.until("the box serves again, or says why it does not", func() bool { return a.boxes[leader].Serving() || a.boxes[leader].Failed() != nil })
	if err := a.boxes[leader].Failed(); err != nil {
		t.Fatal(err)
	}
}

// A configuration grows from one voter to three and to five, each by one change, under writes, and shrinks again; the raft
// ids of those who left are not used when they come back.
func TestOneBecomesThreeBecomesFive(t *testing.T) {
	a := newAsking(t, 9, 1)
	a.limits = smallLimits()
	a.limits.CatchUpEntries, a.limits.SnapshotEntries, a.limits.SnapshotLogBytes = 20, 200, 16<<10
	a.start(1)
	a.serving(1)
	for n := range 300 { // who joins is brought a snapshot, and the one that there is does not name it
		a.putBytes(fmt.Sprint("/n", n), 8000)
	}
	a.voters = []uint64{1, 2, 3, 4, 5}
	a.start(2, 3, 4, 5)
	a.s.RunFor(2 * time.Second)
	if a.boxes[1].Status().Snapshot.Index == 0 {
		t.Fatal("there is no snapshot: the test shows less")
	}
	a.put("/alone")
	line := func(id uint64) string { return fmt.Sprintf("server.%d=%s", id, serverLine(id).Text()) }
	a.reconfig(line(2)+","+line(3), "")
	a.serving(2, 3)
	a.voting(1, 1, 2, 3)
	a.put("/three")
	a.reconfig(line(4)+","+line(5), "")
	a.serving(4, 5)
	a.voting(1, 1, 2, 3, 4, 5)
	a.put("/five")
	a.stop(2, 3)
	a.put("/two-away")
	a.reconfig("", "2,3")
	a.voting(1, 1, 4, 5)
	old := map[uint64]bool{}
	a.s.RunFor(leaveGrace + 5*time.Second)
	for _, id := range []uint64{1, 4, 5} {
		a.has(id, "/two-away")
		old[a.boxes[id].RaftID()] = true
	}
	a.start(2) // it has its old log, and no place
	a.until("it is told so", func() bool { return errors.Is(a.boxes[2].Failed(), ErrRemoved) })
	a.stop(2)
	a.start(2)
	a.s.RunFor(2 * time.Second)
	a.reconfig(line(2), "")
	a.serving(2)
	a.voting(2, 1, 2, 4, 5)
	a.has(2, "/two-away")
	if id := a.boxes[2].RaftID(); old[id] || quorum.IncarnationOf(id) < 3 {
		t.Fatalf("raft id %x", id)
	}
}
