// Command brokerfaults is the suite that breaks three real cairn processes, which replicate their partitions, in the ways that a
// LAN of edge boxes knows: one, two or all boxes killed, a process stopped for seconds, links cut one way, both ways or
// flapping, a disk filled up, a log directory wiped or unmounted, and several of that in a row. It asks whether an acknowledged
// record was lost, doubled or came out of order, whether a committed offset of a group went back, whether each group was given
// every record, and whether the files of all replicas hold the same bytes. It measures how long no record of a partition is
// acknowledged.
//
// Package boxes owns the processes and their network namespaces, Disks the boxes' own file systems. Idempotent producers, members
// of groups, the Prober with its raw connections and stock franz-go write what they were told into the Ledger; the main
// goroutine injects the faults, lets all come to rest after each, and judges. A record says its key and its number among
// those of the key, so that a partition's log must hold each number once and in order; a probe may come more than once.
//
// Kafka's own Java producer has topics of its own beside that (java.go), where the values of a partition must rise.
//
// What a run has made and what was acknowledged is kept beside the boxes' data (state.go): another run on the same directory
// goes on where it has ended. Everything that a round decides comes from its seed. The program ends only what it has started
// and removes namespaces and mounts again; the script gives it a mount namespace of its own, so that a mount ends with it.
//
// kill -9 leaves the kernel's page cache: what a power cut would take is not shown here, but in the simulation.
package main
