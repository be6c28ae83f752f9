package ensemble

import (
	"testing"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
)

const ms = time.Millisecond

// put gathers a write of each session, and tells how long they would wait.
func (g *gathering) put(now time.Duration, sessions ...int64) time.Duration {
	for _, s := range sessions {
		g.add(now, 0, s, 100)
	}
	return g.until(now) - now
}

func TestWhoWritesAloneNeverWaits(t *testing.T) {
	g := gathering{delay: ms}
	for i := range 100 {
		if wait := g.put(time.Duration(i)*300*time.Microsecond, 7); wait != 0 {
			t.Fatalf("write %d waits for %v", i, wait)
		}
		g.handed()
	}
}

func TestAWriteWaitsForWhoWroteLately(t *testing.T) {
	g := gathering{delay: ms}
	g.put(0, 1, 2)
	g.handed()
	if wait := g.put(5*ms, 1); wait != ms {
		t.Fatalf("session 2 wrote 5 ms ago: wait %v", wait)
	}
	if at := g.until(5*ms + ms/2); at != 6*ms {
		t.Fatalf("half a wait later: until %v", at)
	}
	if wait := g.put(5*ms+ms/2, 2); wait != 0 {
		t.Fatalf("both are here: wait %v", wait)
	}
	g.handed()
	if wait := g.put(5*ms+ms/2+writerLately, 1); wait != 0 {
		t.Fatalf("session 2 has not written for long: wait %v", wait)
	}
}

// A wait ends with the reason for it, however long the setting is.
func TestAWaitEndsWithItsReason(t *testing.T) {
	g := gathering{delay: time.Minute}
	g.put(0, 1, 2)
	g.handed()
	if wait := g.put(3*ms, 1); wait != writerLately-3*ms {
		t.Fatalf("session 2 wrote 3 ms ago: wait %v", wait)
	}
}

// A session that writes again within its own wait has not joined it.
func TestNobodyJoinsItself(t *testing.T) {
	g := gathering{delay: ms}
	now := time.Duration(0)
	g.put(now, 2)
	g.handed()
	for range vainMax {
		if now += ms / 2; g.put(now, 1) == 0 {
			t.Fatal("no wait")
		}
		g.put(now+ms/2, 1)
		g.handed()
	}
	if now += ms; g.put(now, 1) != 0 {
		t.Fatal("it waits on though nobody else came")
	}
}

func TestManyAreNotKeptWaiting(t *testing.T) {
	g := gathering{delay: ms}
	for s := int64(1); s <= 100; s++ {
		g.add(0, 0, s, 100)
	}
	g.handed()
	for s := int64(1); s < gatherEntriesMax; s++ {
		if wait := g.put(ms, 1); wait != ms {
			t.Fatalf("%d entries: wait %v", s, wait)
		}
	}
	if wait := g.put(ms, 1); wait != 0 {
		t.Fatalf("%d entries: wait %v", gatherEntriesMax, wait)
	}
	g.handed()
	g.add(2*ms, 0, 1, gatherBytesMax)
	if wait := g.until(2*ms) - 2*ms; wait != 0 {
		t.Fatalf("%d bytes: wait %v", gatherBytesMax, wait)
	}
	g.handed()
	if wait := g.put(3*ms, 1, 0); wait != 0 {
		t.Fatalf("with a write of the box's own: wait %v", wait)
	}
}

// What has waited on the box that hands it over does not wait again, and that is no wait in vain.
func TestAWriteWaitsOnce(t *testing.T) {
	g := gathering{delay: ms}
	g.put(0, 1, 2)
	g.handed()
	for i := range vainMax + 1 {
		now := ms + time.Duration(i)*ms
		g.add(now, ms, 1, 100)
		if wait := g.until(now) - now; wait != 0 {
			t.Fatalf("it waits %v more", wait)
		}
		g.handed()
	}
	if wait := g.put(8*ms, 1); wait != ms {
		t.Fatalf("session 2 wrote 8 ms ago: wait %v", wait)
	}
}

// Two sessions that answer one another never write at once: waits for them are given up, but for a trial now and then.
func TestWaitsInVainAreGivenUp(t *testing.T) {
	g := gathering{delay: ms}
	waits, now := 0, time.Duration(0)
	const writes = 1000
	for i := range int64(writes) {
		if wait := g.put(now, 1+i%2); wait > 0 {
			waits++
			now += wait
		}
		g.handed()
		now += 300 * time.Microsecond
	}
	if waits < writes/(vainPause+1)-1 || waits > writes/(vainPause+1)+vainMax+1 {
		t.Fatalf("%d waits in %d writes", waits, writes)
	}
	// From the first wait that somebody joins on, they wait again.
	for g.put(now, 1) == 0 {
		g.handed()
		now += 300 * time.Microsecond
		g.put(now, 2)
		g.handed()
		now += 300 * time.Microsecond
	}
	g.put(now+ms/2, 3)
	g.handed()
	if now += 2 * ms; g.put(now, 1) != ms {
		t.Fatal("nobody waits though the last wait was joined")
	}
}

func TestWithoutADelayNobodyWaits(t *testing.T) {
	var g gathering
	g.put(0, 1, 2, 3)
	g.handed()
	if wait := g.put(ms, 1); wait != 0 {
		t.Fatalf("wait %v", wait)
	}
}

// submit proposes without waiting.
func submit(b *box, session int64, path string, acked *int) {
	b.Propose(Write{Entry: op(session, set(path, ""))}, func(out znode.Outcome, err error) {
		if err != nil || out.Err != jute.OK {
			b.t.Errorf("write of session 0x%x: %v, %v", session, out.Err, err)
		}
		*acked++
	})
}

// company is an ensemble with two sessions on its leader, or on another box, that have just written.
func company(t *testing.T, seed uint64, leads bool) (net *network, b *box, sessions [2]int64) {
	net = three(t, seed, limits.ZooKeeper{})
	b = net.leader(t)
	if out, err := net.write(t, b, op(0, create("/g", "", jute.Persistent)), nil); err != nil || out.Err != jute.OK {
		t.Fatal(out.Err, err)
	}
	if !leads {
		b = net.boxes[b.cfg.Box%3+1]
	}
	for i := range sessions {
		sessions[i] = net.openSession(t, b, &outbox{}).Session
	}
	acked := 0
	for _, session := range sessions {
		submit(b, session, "/g", &acked)
	}
	if !net.s.RunUntil(time.Second, func() bool { return acked == 2 }) {
		t.Fatal("no answers")
	}
	net.s.RunFor(writerLately / 4) // what is under way on the slowest box ends
	return net, b, sessions
}

func TestWritesHandedOverShareAMessage(t *testing.T) {
	net, follower, sessions := company(t, 61, false)
	acked := 0
	submit(follower, sessions[0], "/g", &acked)
	submit(follower, sessions[1], "/g", &acked)
	net.s.RunFor(3 * ms) // they are on their way
	messages, writes := 0, 0
	net.loses = func(from, _ uint64, message []byte) bool {
		if f, err := decodePeer(message); err == nil && from == follower.cfg.Box && f.kind == frameForward {
			messages, writes = messages+1, writes+len(f.writes)
		}
		return false
	}
	submit(follower, sessions[0], "/g", &acked)
	net.s.RunFor(ms / 2)
	submit(follower, sessions[1], "/g", &acked)
	if !net.s.RunUntil(50*ms, func() bool { return acked == 4 }) {
		t.Fatalf("%d writes answered", acked)
	}
	if messages != 1 || writes != 2 {
		t.Fatalf("%d messages, %d writes", messages, writes)
	}
}

// What another box hands over has waited there: the leader appends it as it comes, though a session of its own wrote lately.
func TestAWriteThatIsHandedOverDoesNotWaitAgain(t *testing.T) {
	net, leader, _ := company(t, 63, true)
	follower := net.boxes[leader.cfg.Box%3+1]
	session := net.openSession(t, follower, &outbox{}).Session
	own := net.openSession(t, leader, &outbox{}).Session
	acked := 0
	submit(leader, own, "/g", &acked)
	net.s.RunFor(2 * ms)
	var came, appended time.Duration
	net.heard = func(_, to uint64, message []byte) {
		if to == leader.cfg.Box && message[0] == frameForward {
			came = net.s.Clock().Now().Mono
		}
	}
	net.loses = func(from, to uint64, message []byte) bool {
		if came > 0 && appended == 0 && from == leader.cfg.Box && message[0] == frameRaft {
			if m, err := net.boxes[to].decodeRaft(from, message[1:]); err == nil && len(m.GetEntries()) > 0 {
				appended = net.s.Clock().Now().Mono
			}
		}
		return false
	}
	submit(follower, session, "/g", &acked)
	if !net.s.RunUntil(50*ms, func() bool { return acked == 2 }) {
		t.Fatalf("%d writes answered", acked)
	}
	if came == 0 || appended != came {
		t.Fatalf("it came at %v and was appended at %v", came, appended)
	}
}

func TestWritesShareAFlush(t *testing.T) {
	net, leader, sessions := company(t, 41, true)
	var before [4]uint64
	for id, b := range net.boxes {
		before[id] = b.flushes()
	}
	acked := 0
	submit(leader, sessions[0], "/g", &acked)
	net.s.RunFor(ms / 2)
	submit(leader, sessions[1], "/g", &acked)
	if !net.s.RunUntil(20*ms, func() bool { return acked == 2 }) {
		t.Fatalf("%d writes answered", acked)
	}
	net.s.RunFor(20 * ms)
	for id, b := range net.boxes {
		if n := b.flushes() - before[id]; n != 1 {
			t.Errorf("box %d: %d flushes", id, n)
		}
	}
	submit(leader, sessions[0], "/g", &acked)
	submit(leader, sessions[1], "/g", &acked)
	net.s.RunUntil(20*ms, func() bool { return acked == 4 })
	began := net.s.Clock().Now().Mono
	submit(leader, sessions[0], "/g", &acked)
	if !net.s.RunUntil(20*ms, func() bool { return acked == 5 }) || net.s.Clock().Now().Mono-began < ms {
		t.Fatalf("answered %d after %v, though session 2 did not join within %v", acked, net.s.Clock().Now().Mono-began, ms)
	}
}

// What waits when a leader hands over goes before, and is not refused.
func TestWhatWaitsGoesBeforeALeaderHandsOver(t *testing.T) {
	for seed := uint64(51); seed < 55; seed++ {
		net, leader, sessions := company(t, seed, true)
		acked, resigned := 0, false
		submit(leader, sessions[0], "/g", &acked)
		net.s.RunFor(ms / 4)
		leader.Resign(func() { resigned = true })
		net.until(t, "resign", &resigned)
		if acked != 1 {
			t.Errorf("seed %d: %d writes answered", seed, acked)
		}
	}
}
