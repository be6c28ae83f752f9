// Package link carries bytes between the boxes of a cluster. It is dumb: it knows boxes by number and address, and rooms by
// a protocol number; what the bytes mean is theirs. node registers one Handler for each protocol.
//
// Each box dials its peers, on lanes: a connection of its own for urgent messages, which must not queue behind others, and
// one for the rest, per protocol and peer. A lane carries messages one way, in order; what does not fit in its bounded
// queue, or was under way when the connection broke, is lost and reported (Handler.Lost). Something large travels as a
// stream on a connection of its own, and rooms that have a protocol of their own are given a connection, a pipe. Lanes'
// connections are probed, the urgent ones so often that one that was cut silently, one
// way or both, is found within the time of an election, and not when TCP gives up; it is reset, so that the other box, where
// it still hears this one, knows at once.
//
// It owns the goroutines of its connections: one that dials and writes each lane, one that reads its answers, one that dials
// another connection while it is not answered, one that reads each connection that came in. It must not retry, reorder or
// store anything, and must not know what a raft message is.
//
// Connections are plain TCP. Deps.Listen and Deps.Dial are where TLS is put between.
package link
