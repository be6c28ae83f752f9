package partition

import (
	"testing"
	"time"
)

// A follower that had everything is in sync after any time in which nothing came; it is late once it has lacked something for
// longer than it may, also where it says now and then that it is a little further.
func TestAQuietTimeMakesNobodyLate(t *testing.T) {
	const lagMax = 30 * time.Second
	a, b := Member{2, 7}, Member{3, 8}
	m := Membership{Epoch: 1, Replicas: []Member{a, b}, InSync: []int32{1, 2, 3}, InSyncMin: 2}
	var s State
	s.Open(0, 0, -1, 0)
	if err := s.Lead(0, m, 0); err != nil {
		t.Fatal(err)
	}
	vouch := func(m Member, offset int64, now time.Duration) {
		t.Helper()
		if _, err := s.Vouch(m, 0, offset, now); err != nil {
			t.Fatal(err)
		}
	}
	inSync := func(now time.Duration, when string) {
		t.Helper()
		if isr, ok := s.ProposeInSync(now, lagMax); ok {
			t.Fatalf("%s: only %v are to stay in sync", when, isr)
		}
	}
	s.Appended(10, time.Second)
	vouch(a, 10, 2*time.Second)
	vouch(b, 10, 2*time.Second)
	inSync(time.Hour, "when nothing comes")
	s.Appended(20, time.Hour)
	inSync(time.Hour, "when the first records come after an hour")
	s.Appended(30, time.Hour+time.Second)
	vouch(a, 20, time.Hour+2*time.Second)
	inSync(time.Hour+2*time.Second, "when the first has some of them")
	inSync(time.Hour+lagMax, "as long as they may lack them")
	vouch(a, 30, time.Hour+lagMax)
	isr, ok := s.ProposeInSync(time.Hour+lagMax+time.Millisecond, lagMax)
	if !ok || len(isr) != 1 || isr[0] != a {
		t.Fatalf("%v are to stay in sync (%v), though the other one has said nothing for longer than it may", isr, ok)
	}
}

// A leader waits for every replica in sync until it has vouched, in this epoch, for all that the log holds, and not while a change is on its way.
func TestALeaderWaitsForWhoIsInSync(t *testing.T) {
	const lagMax = 30 * time.Second
	a, b := Member{2, 7}, Member{3, 8}
	m := Membership{Epoch: 1, Replicas: []Member{a, b}, InSync: []int32{1, 2}, InSyncMin: 1}
	var s State
	s.Open(0, 10, 0, 10)
	waits := func(want bool, when string) {
		t.Helper()
		if s.Waits() != want {
			t.Fatalf("%s: waits %v", when, !want)
		}
	}
	waits(false, "before it leads")
	if err := s.Lead(1, m, 0); err != nil {
		t.Fatal(err)
	}
	waits(true, "before the first word")
	if _, err := s.Vouch(a, 1, 9, 0); err != nil {
		t.Fatal(err)
	}
	waits(true, "as long as one record is missing")
	if _, err := s.Vouch(a, 1, 10, 0); err != nil {
		t.Fatal(err)
	}
	waits(false, "for who is not in sync")
	s.Appended(11, time.Second)
	waits(true, "after an append")
	if isr, ok := s.ProposeInSync(time.Minute, lagMax); !ok || len(isr) != 0 {
		t.Fatalf("%v are to stay, %v", isr, ok)
	}
	waits(false, "while it has asked for its leaving")
	s.InSyncRefused()
	waits(true, "after that was refused")
	if isr, ok := s.ProposeInSync(time.Minute, lagMax); !ok || len(isr) != 0 {
		t.Fatalf("%v are to stay, %v", isr, ok)
	}
	m.Epoch, m.InSync = 2, []int32{1}
	if err := s.Lead(1, m, time.Minute); err != nil {
		t.Fatal(err)
	}
	waits(false, "when it has left")
	m.Epoch, m.InSync = 3, []int32{1, 3}
	if err := s.Lead(1, m, time.Minute); err != nil {
		t.Fatal(err)
	}
	waits(true, "for one that has joined without a word")
	s.Resign(2)
	waits(false, "when it leads no more")
}
