//go:build race

package sim

// seedsDefault is less under the race detector, which takes ten times as long.
const seedsDefault = 3
