// Command faults is the suite that breaks an ensemble of three real cairn processes in every way that a LAN of edge boxes
// knows, under a load of writes: the leader killed, links cut one way, both ways, or flapping, a process stopped for seconds.
// It measures how long no write is acknowledged, and asks whether a write was lost or doubled, whether a session expired
// whose client was heard, and whether a box that was cut off answers a sync with an old state.
//
// Package boxes owns the namespaces and the processes, each Session one client with its connection.
// The main goroutine injects the faults and judges; one goroutine for each session writes into the Ledger. Everything
// that a round decides comes from its seed. The program ends only what it has started and removes the namespaces again,
// also those that a killed run of it has left.
package main
