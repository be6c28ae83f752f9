// Package frames makes the bytes that the bench's clients send and its floor programs answer: whole Kafka and ZooKeeper
// frames, encoded once, in which only a correlation id, an offset or an xid changes from request to request. A client
// that encodes nothing leaves the machine to the server that is measured.
//
// It holds no goroutine and does no I/O. It is not a codec: what it does not send it cannot read.
package frames
