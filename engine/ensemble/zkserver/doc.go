// Package zkserver serves ZooKeeper's client protocol: it accepts connections, cuts their bytes into frames, opens and
// reopens sessions, hands writes to the ensemble and answers reads from the tree, and answers four-letter words.
//
// A connection has two goroutines. The reader reads frames, proposes writes, and answers a read at once when nothing of
// its session is under way; the writer sends what is queued and answers the reads that had to wait for a socket that was
// slow. A write is answered on the ensemble's goroutine, which only encodes and queues. Every session is a FIFO: the
// requests of a connection take effect and are answered in the order in which they were sent. A reply is queued while the
// ensemble's lock is held, after the watch events of everything that the reply can show.
//
// Nothing grows with what a client does: frames, pipelines, outboxes and connections have maxima, a connection whose
// outbox or pipeline is full is not read, and one that cannot take its events is closed (then its client reconnects and
// asks for its watches again, which is how ZooKeeper's clients live through any lost connection).
//
// What a server must do to be taken for the real one is a list of numbered rules, each with the tests that name it:
// engine/semantics_test.go.
//
// The locks of a connection, in order: the ensemble's, the connection's turn (one answers at a time), the watches' inside
// the ensemble, the connection's queue. The package must not know how the ensemble agrees, and must not touch disks.
package zkserver
