// Package wire is the vocabulary of the Kafka protocol: frames, request headers, the check that every request body
// passes before it is decoded, response framing, and the encoder of Fetch responses whose records are file spans.
//
// It exists because kmsg, which decodes the messages, trusts them: seven bytes that claim 2^32 tags cost it a minute of
// CPU, ten MiB that claim as many topics cost it 640 MiB. Prescan walks a body by a schema and refuses what could not
// have been written honestly, in one pass, without allocating; what it accepts decodes in O(size) time into at most
// DecodedFactor times the size plus DecodedSlack of memory.
//
// The schema is generated from kmsg's own decoders (go generate; schemagen.go), and a test compares both on random
// requests of every API and version.
//
// The package is pure apart from reading a frame from an io.Reader that it is given: no goroutine, no clock, no locks
// but those in sync.Pool. It must not know sockets, topics or handlers.
package wire
