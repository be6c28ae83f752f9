// Package sim runs N whole boxes, and their clients, in one process under one seed: the shipped code, by the constructor that the
// binary calls, on a virtual clock, with the network, the disks' mishaps and the clients' own doings chosen by the seed. It is made of
// tests alone.
//
// There are two kinds of run. TestSeeds: boxes without a broker, ZooKeeper's clients, whose histories are judged (sim/history).
// TestBrokers: boxes with a broker, idempotent producers, consumers that commit where they are, and an admin that moves partitions
// about; kafkatruth_test.go says what must hold.
//
// One goroutine takes every step: an owner's, a message's arrival, a frame's, a client's turn, a fault. All owners are
// driven by mailbox.Scheduler. Connections, and whoever waits for another box, have goroutines of their own; the whole runs in a bubble
// of testing/synctest, and after each step they are waited for until all of them are still again. Only one of them is woken
// by a step, or several whose order nobody sees; and they do not run while a step is taken (TestMain gives them one
// processor and collects garbage between steps only). So a seed replays, byte for byte.
//
// What is not the shipped code: the link between boxes (link_test.go), which loses, holds and delays by the seed but keeps
// link.Link's promises; and the clients, which speak the protocols' frames and note what they see. The raft log lies on files of the
// operating system, everything else on a file system in memory (disks_test.go).
//
// A box that is killed leaves its disk as it was written, and goes on from a copy; one whose power is cut loses what
// was not flushed (raftlog/powercut, vfs.Mem). What remains of the dead process is then closed, and reaches nobody.
//
//	go test ./engine/sim                                        the short form, a part of make test
//	go test ./engine/sim -run TestSeeds -sim.seeds=500 -sim.from=1 -sim.seconds=20
//	packaging/check/sim 1000 60                                 TestBrokers on all processors: make sim-long
package sim
