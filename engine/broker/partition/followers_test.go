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
