// Package history is what clients of a ZooKeeper ensemble did and saw, and the rules that it must keep.
//
// A Recorder takes the operations and events of all clients, from any goroutines, while a test runs. Check then judges the
// whole: linearizability of writes and of reads behind a sync (porcupine), sessions that never go back in time, the order
// of pipelined requests, sequential names, locks, watches that come before the state they tell of, sessions that expired
// though their client was heard, and Final what must be there at the end. A broken rule is a Violation, whose text tells
// the operations involved in their order.
//
// The rules compare zxids, which the server puts into every reply: a read's header says as of which transaction the tree
// was read, a write's which transaction it was. Nothing here knows a server, a socket, a clock or package testing: the
// simulation and the suites that run real processes record into it alike. It starts no goroutine of its own.
package history
