// Package sim runs N whole boxes of an ensemble, and their clients, in one process under one seed: the shipped code of
// ensemble, raftlog and zkserver, on a virtual clock, with the network, the disks' mishaps and the clients' own doings
// chosen by the seed. It is made of tests alone.
//
// One goroutine takes every step: an owner's, a message's arrival, a frame's, a client's turn, a fault. All owners are
// driven by mailbox.Scheduler. The connections of zkserver have goroutines of their own; the whole runs in a bubble of
// testing/synctest, and after each step they are waited for until all of them are still again. Only one of them is woken
// by a step, or several whose order nobody sees; and they do not run while a step is taken (TestMain gives them one
// processor and collects garbage between steps only). So a seed replays, byte for byte.
//
// What is not the shipped code: the link between boxes, in whose place world has one that loses, holds and delays by the
// seed but keeps the order of each lane as link does; the wiring of node; and the clients, which speak the protocol's
// frames and record what they see in a history.
//
// A box that is killed leaves its directory as it was written, and goes on from a copy; one whose power is cut loses what
// was not flushed (raftlog/powercut). What remains of the dead process is then closed out of everybody's sight.
//
//	go test ./engine/sim                                        the short form, a part of make test
//	go test ./engine/sim -run TestSeeds -sim.seeds=500 -sim.from=1 -sim.seconds=20
package sim
