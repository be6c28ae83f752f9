// Package node assembles one whole box from a Config and its Deps: it opens the rooms in order, tells each what it needs
// of the others, and stops them in reverse. It is wiring only. It adapts the ensemble to the tree that the broker
// declares (tree.go), and the broker's rooms to what its server declares (kafka.go).
//
// It owns no goroutine but the one that carries the start, which ends when the box is ready, and those that put a question to
// another box, which end with its answer. It must not decide anything that a room could.
package node
