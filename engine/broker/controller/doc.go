// Package controller changes the catalog: topics, partitions, settings, leaders, producer ids. It runs on every box and
// works on the one that leads the ensemble, which is the cluster's controller.
//
// Two halves. The plan is pure: from a catalog snapshot and a request it makes the tree operations and the answer
// (plan.go and its siblings), and from a snapshot alone the elections that are due (election.go). Operations that were
// planned are projected onto the snapshot at once, so that hundreds of requests are planned one on top of the other and
// go out in one multi. The owner (owner.go) is a mailbox and a Step: it waits for leadership and a read index, takes the
// controller epoch, and then has at most one multi under way, each with a check of the controller epoch's version, so
// that a controller that was replaced writes nothing any more.
//
// It chooses the log directory of each replica, or is told it by the box (directories.go): none is in sync of which the catalog does
// not say where it is.
//
// Beside requests it plans what nobody asks for: leaders and ISRs as boxes come and go (election.go), replicas that follow the
// cluster (plan_heal.go), and leadership that goes back to preferred replicas (plan_balance.go).
//
// A box that starts leads nothing until this package has written, for its new registration, a leader epoch above every
// epoch in its log, which it asks the box for. A request is answered when this box's catalog shows its result.
//
// The package must not touch logs or sockets, and nothing in it waits.
package controller
