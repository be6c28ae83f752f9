//go:build !race

package sim

const seedsDefault = 20
