package heap

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	const bound = 48 << 20
	for live, want := range map[uint64]int{0: 100, 1 << 20: 1600, 4 << 20: 400, 15 << 20: 106, 17 << 20: 100, bound: 100, 2 * bound: 50, 4 * bound: 25, 5 * bound: 20, 100 * bound: 20} {
		if got := percentFor(live, bound, percentMin); got != want {
			t.Errorf("%d MiB alive: %d %%, want %d", live>>20, got, want)
		}
	}
	if got := percentFor(4<<20, 8<<20, percentMin); got != 200 {
		t.Errorf("4 MiB alive, a bound of 8: %d %%", got)
	}
}

// A heap that grows large is collected more often, and one that is small again less often.
func TestKeepFollowsWhatIsAlive(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	k := Keep(1 << 20)
	defer k.Stop()
	held := make([]byte, 64<<20)
	awaitPercent(t, func(p int) bool { return p == percentBuilding })
	k.Built()
	awaitPercent(t, func(p int) bool { return p == percentMin })
	runtime.KeepAlive(held)
	held = nil
	// What the test itself keeps alive is some hundred KiB: the bound is above it.
	awaitPercent(t, func(p int) bool { return p >= percentMax })
}

func TestStopLeavesThePace(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	k := Keep(1 << 20)
	awaitPercent(t, func(p int) bool { return p >= percentMax })
	k.Stop()
	runtime.GC() // the last that is followed may be under way
	before := percent()
	held := make([]byte, 64<<20)
	for range 5 {
		runtime.GC()
	}
	if got := percent(); got != before {
		t.Fatalf("after Stop GOGC is %d, before %d", got, before)
	}
	runtime.KeepAlive(held)
}

// awaitPercent collects until the finalizer has set a pace.
func awaitPercent(t *testing.T, want func(percent int) bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !want(percent()) {
		if time.Now().After(deadline) {
			t.Fatalf("GOGC is %d", percent())
		}
		runtime.GC()
		runtime.Gosched()
	}
}

func percent() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}

func TestSettleGivesBack(t *testing.T) {
	pieces := make([][]byte, 64)
	for i := range pieces {
		pieces[i] = make([]byte, 1<<20)
	}
	runtime.KeepAlive(pieces)
	before := inUse()
	if before < 64<<20 {
		t.Fatalf("%d bytes in use", before)
	}
	Settle()
	if after := inUse(); after > before-56<<20 {
		t.Fatalf("%d bytes in use before, %d after", before, after)
	}
}

// What a burst leaves behind is given back some time after it, and nothing more is collected then.
func TestRestGivesBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	k := keep(256<<20, 50*time.Millisecond)
	defer k.Stop()
	pieces := make([][]byte, 64)
	for i := range pieces {
		pieces[i] = make([]byte, 1<<20)
	}
	runtime.KeepAlive(pieces)
	before := inUse()
	deadline := time.Now().Add(10 * time.Second)
	for inUse() > before-56<<20 {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes in use before, %d after", before, inUse())
		}
		time.Sleep(5 * time.Millisecond)
	}
	// Half a second is ten times of what would be a rest again.
	from, passed := collections(), time.Now()
	for time.Since(passed) < 500*time.Millisecond {
		time.Sleep(5 * time.Millisecond)
	}
	if n := collections() - from; n > 1 { // a cycle that was under way
		t.Fatalf("%d collections of a process at rest", n)
	}
}

func collections() uint32 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.NumGC
}
