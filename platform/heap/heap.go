package heap

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// The percentages between which GOGC is kept. Below percentMin a heap of small objects would be marked too often: what a
// collection costs depends on all that is alive. percentMax is the runtime's own default, passed only as far as garbageMin
// allows. While a heap is built the least is percentBuilding: that is done once, and the garbage comes on top of what is read
// to build it.
const (
	percentMin      = 20
	percentBuilding = 10
	percentMax      = 100
)

// garbageMin is how much garbage may gather however little is alive, in bytes, within the Keeper's bound: the 4 MiB that are
// alive in a server of small requests would be collected ten times a second under load, which is a tenth of its processor time.
const garbageMin = 16 << 20

// liveMetric is what the last collection has found alive, in bytes.
const liveMetric = "/gc/heap/live:bytes"

// Keeper sets the pace until it is stopped.
type Keeper struct {
	garbageMax uint64
	percent    int // that was set last; of the finalizer goroutine, and of Keep before it
	stopped    atomic.Bool
	built      atomic.Bool
	rest       *time.Timer // runs restAfter from the last collection on
	restAfter  time.Duration
	settled    atomic.Bool // the next collection found is one of the rest's own, after which there is none
}

// restAfter is how long there is no collection in a process at rest: it allocates less than garbageMin in that time.
const restAfter = 30 * time.Second

// Keep sets the pace from the next collection on so that at most about garbageMax bytes of garbage gather, or a fifth of what
// is alive where that is more; half of both until Built. Of a small heap a few megabytes may gather. There must be one Keeper at a time: GOGC is the process's.
//
// A process at rest, for half a minute, gives its garbage back, once until it collects again.
func Keep(garbageMax uint64) *Keeper { return keep(garbageMax, restAfter) }

func keep(garbageMax uint64, restAfter time.Duration) *Keeper {
	k := &Keeper{garbageMax: garbageMax, restAfter: restAfter}
	k.rest = time.AfterFunc(restAfter, k.atRest)
	k.collected()
	return k
}

// atRest is run when there was no collection for restAfter.
func (k *Keeper) atRest() {
	if k.stopped.Load() {
		return
	}
	k.settled.Store(true)
	if !Settle() {
		k.settled.Store(false)
	}
}

// Built says that the heap has been built, and what is added from now on is little beside it. A nil Keeper keeps no pace.
func (k *Keeper) Built() {
	if k != nil {
		k.built.Store(true)
	}
}

// Stop leaves the pace as it is.
func (k *Keeper) Stop() {
	k.stopped.Store(true)
	k.rest.Stop()
}

// sentinel is garbage from the start: that it is found says that a collection has taken place.
type sentinel struct{ keeper *Keeper }

// collected adapts the pace to what is alive, and waits for the next collection.
func (k *Keeper) collected() {
	if k.stopped.Load() {
		return
	}
	garbageMax, least := k.garbageMax, percentMin
	if !k.built.Load() {
		garbageMax, least = garbageMax/2, percentBuilding
	}
	if percent := percentFor(live(), garbageMax, least); percent != k.percent {
		k.percent = percent
		debug.SetGCPercent(percent)
	}
	if !k.settled.CompareAndSwap(true, false) {
		k.rest.Reset(k.restAfter)
	}
	runtime.SetFinalizer(&sentinel{k}, func(s *sentinel) { s.keeper.collected() })
}

// percentFor is GOGC for a heap of which so many bytes are alive.
func percentFor(live, garbageMax uint64, least int) int {
	if live == 0 {
		return percentMax
	}
	percent := max(percentMax, 100*garbageMin/live)
	return max(int(min(100*garbageMax/live, percent)), least)
}

func live() uint64 {
	sample := []metrics.Sample{{Name: liveMetric}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0 // a runtime that does not say it keeps its own pace
	}
	return sample[0].Value.Uint64()
}

// settleMin is how much unused memory is worth a collection, in bytes.
const settleMin = 4 << 20

// Settle collects once and gives the system back what is unused then, if it is much, and says whether it was: a start builds
// large things from pieces that are garbage when it is done, and the runtime would keep their place for long. A quarter of
// what is alive is not much: a collection costs by that.
func Settle() bool {
	live := live()
	if inUse() <= live+max(settleMin, live/4) {
		return false
	}
	debug.FreeOSMemory()
	return true
}

// inUse is the memory that the heap holds of the system, used or not, in bytes.
func inUse() uint64 {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	var sum uint64
	for i := range samples {
		if samples[i].Value.Kind() == metrics.KindUint64 {
			sum += samples[i].Value.Uint64()
		}
	}
	return sum
}
