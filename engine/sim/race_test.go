//go:build race

package sim

// seedsDefault and replayed are less under the race detector, which takes ten times as long.
const (
	seedsDefault = 3
	replayed     = 1
)
