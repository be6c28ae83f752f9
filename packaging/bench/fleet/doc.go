// Package fleet runs one or several ZooKeeper servers on loopback, cairn's or Apache ZooKeeper's, each from a zoo.cfg and a
// myid that it writes, so that both are set up by the same text and driven by the same client.
//
// The caller owns the Fleet and calls it from one goroutine. It ends only the processes that it started.
package fleet
