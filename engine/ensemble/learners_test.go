package ensemble

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What the leader sees of the others, as they keep up, fall silent and come: a voter, and an observer once it is one.
func TestLearners(t *testing.T) {
	a := newAsking(t, 12, 1, 2, 3)
	a.begin(1, 2, 3)
	leader := a.leader(t)
	sees := func(want ...Learner) {
		t.Helper()
		slices.SortFunc(want, func(x, y Learner) int { return int(x.Server) - int(y.Server) })
		a.until(fmt.Sprintf("the leader sees %+v", want), func() bool { return slices.Equal(leader.Learners(), want) })
	}
	second := leader.cfg.Box%3 + 1
	third := second%3 + 1
	well := func(id uint64) Learner { return Learner{Server: id, Votes: true, Heard: true, Synced: true} }
	sees(well(second), well(third))
	if got := a.boxes[second].Learners(); got != nil {
		t.Errorf("a follower sees %+v", got)
	}
	a.cut[third] = true
	sees(well(second), Learner{Server: third, Votes: true})
	clear(a.cut)
	sees(well(second), well(third))

	a.observe(4)
	sees(well(second), well(third), Learner{Server: 4, Observer: true, Heard: true, Synced: true})
	a.cut[4] = true
	sees(well(second), well(third), Learner{Server: 4, Observer: true})
	a.s.RunFor(3 * time.Second)
	a.place(4, false)
	sees(well(second), well(third), Learner{Server: 4}) // it is to vote, and does not yet
	clear(a.cut)
	sees(well(second), well(third), well(4))
	if since := leader.Status().LeadsSince; since == 0 || a.boxes[second].Status().LeadsSince != 0 {
		t.Errorf("it leads since %v, and a follower since %v", since, a.boxes[second].Status().LeadsSince)
	}

	leader.Transfer(second, func(error) {})
	a.until("another leads", func() bool { return a.boxes[second].Status().LeadsSince != 0 && leader.Status().LeadsSince == 0 })
	a.until("the old leader sees nobody", func() bool { return leader.Learners() == nil })
}

// Who looks for a leader counts it, and how long that took; who is served the log counts what came.
func TestCountsOfAnElection(t *testing.T) {
	a := newAsking(t, 13, 1, 2, 3)
	a.begin(1, 2, 3)
	leader := a.leader(t)
	second := leader.cfg.Box%3 + 1
	third := second%3 + 1
	m := a.boxes[third].metrics
	received, learned, synced := m.received.Get(), m.learned.Get(), m.followSyncs.Span().Count
	if synced != 1 || leader.metrics.followSyncs.Span().Count != 0 {
		t.Errorf("a follower synced %d times before it served, the leader %d times", synced, leader.metrics.followSyncs.Span().Count)
	}
	acks := leader.metrics.acks.Span().Count
	for n := range 10 {
		a.put(fmt.Sprintf("/%d", n))
	}
	a.has(third, "/9")
	if r, l := m.received.Get()-received, m.learned.Get()-learned; r < 10 || l < 10 {
		t.Errorf("of 10 writes a follower received %d and learned that %d are committed", r, l)
	}
	if got := leader.metrics.acks.Span().Count - acks; got < 10 || m.acks.Span().Count != 0 {
		t.Errorf("of 10 writes the leader saw %d acknowledged, and a follower %d", got, m.acks.Span().Count)
	}
	if m.propagation.Span().Count < 10 {
		t.Errorf("a follower timed %+v", m.propagation.Span())
	}

	looked, elections := m.looking.Get(), m.elections.Span()
	a.cut[leader.cfg.Box] = true
	a.until("another leads", func() bool {
		lead := a.boxes[third].Status().Leader
		return lead != 0 && lead != leader.cfg.Box && a.boxes[lead].Status().LeadsSince != 0
	})
	took := m.elections.Span()
	if m.looking.Get() <= looked || took.Count <= elections.Count || took.Sum <= elections.Sum || took.Max > 5000 {
		t.Errorf("it looked %d times, and elections took %+v, %+v before", m.looking.Get()-looked, took, elections)
	}
}

// A box whose build is too old for the tree is told so where it asks to join: it is given no place, and says what to do.
func TestAnOlderBuildIsRefusedWhereItAsks(t *testing.T) {
	a := newAsking(t, 14, 1, 2, 3)
	rules := uint32(2)
	a.configure = func(c *Config) { c.Rules, c.Build = rules, fmt.Sprintf("build-%d", rules) }
	a.begin(1, 2, 3)
	a.until("the rules rise", func() bool { return a.leader(t).Status().Rules == 2 })
	a.s.RunFor(3 * time.Second)
	leader := a.leader(t)
	old := leader.cfg.Box%3 + 1
	cluster := func(b *box) (got Cluster) {
		t.Helper()
		answered := false
		b.Cluster(func(c Cluster, err error) { got, answered = c, err == nil })
		a.until("the ensemble is shown", func() bool { return answered })
		return got
	}
	for _, m := range cluster(leader).Members {
		if m.Build != "build-2" || m.Rules != 2 {
			t.Errorf("server %d runs %q, which knows rules %d", m.Server, m.Build, m.Rules)
		}
	}
	before := cluster(leader).Members
	a.stop(old)
	a.lose(old)
	rules = 1
	a.start(old)
	a.s.RunFor(20 * time.Second)
	after := cluster(leader).Members
	if b := a.boxes[old]; b.Serving() || b.Failed() != nil || after[old-1].RaftID != before[old-1].RaftID {
		t.Fatalf("it serves: %v, failed: %v; it was %+v and is %+v", b.Serving(), b.Failed(), before[old-1], after[old-1])
	}
	want := "the tree's rules are version 2 and this build (build-1) knows up to version 1: start the build that server"
	if got := cluster(a.boxes[old]).Trouble; !strings.Contains(got, want) || !strings.Contains(got, "build-2") {
		t.Errorf("it says %q", got)
	}
	a.stop(old)
	rules = 2
	a.begin(old)
}
