//go:build race

package sim

// seedsDefault is less under the race detector, which takes ten times as long. Nothing is replayed: the runtime shuffles goroutines there
// that become runnable in one step, as those do that a dying process leaves behind.
const (
	seedsDefault = 3
	replayed     = 0
)
