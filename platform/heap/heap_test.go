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
	for live, want := range map[uint64]int{0: 100, 1 << 20: 100, bound: 100, 2 * bound: 50, 4 * bound: 25, 5 * bound: 20, 100 * bound: 20} {
		if got := percentFor(live, bound, percentMin); got != want {
			t.Errorf("%d MiB alive: %d %%, want %d", live>>20, got, want)
		}
	}
}

// A heap that grows large is collected more often, and one that is small again less often.
func TestKeepFollowsWhatIsAlive(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	k := Keep(1 << 20)
	defer k.Stop()
	held := make([]byte, 64<<20)
	awaitPercent(t, percentBuilding)
	k.Built()
	awaitPercent(t, percentMin)
	runtime.KeepAlive(held)
	held = nil
	// What the test itself keeps alive is some hundred KiB: the bound is above it.
	awaitPercent(t, percentMax)
}

func TestStopLeavesThePace(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	k := Keep(1 << 20)
	awaitPercent(t, percentMax)
	k.Stop()
	held := make([]byte, 64<<20)
	for range 5 {
		runtime.GC()
	}
	if got := percent(); got != percentMax {
		t.Fatalf("after Stop GOGC is %d", got)
	}
	runtime.KeepAlive(held)
}

// awaitPercent collects until the finalizer has set a pace.
func awaitPercent(t *testing.T, want int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for percent() != want {
		if time.Now().After(deadline) {
			t.Fatalf("GOGC is %d, want %d", percent(), want)
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
