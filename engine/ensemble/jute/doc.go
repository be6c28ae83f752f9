// Package jute is the vocabulary of the ZooKeeper protocol: the primitives of the jute encoding, the records of
// zookeeper.jute that a server and a small client need, and the numbers that travel in them (op codes, error codes,
// permissions, create modes, events, states, watcher types).
//
// Decoders borrow: a []byte that a Reader returns points into the frame; strings are copies. Every length and every
// vector count is checked against the bytes that remain before anything is allocated from it, so that a frame costs
// O(its size). Encoders append to the caller's buffer. The package holds no state, starts no goroutine and does no I/O;
// it must not know what a request means.
package jute
