//go:build !race

package sim

const (
	seedsDefault = 20
	replayed     = 3
)
