// Package load is the bench's client: connections that keep a number of requests in flight and count what was answered.
// The same client drives cairn and the floor program beside it, so that its own cost is in both figures.
//
// Every connection is one goroutine that belongs to Run; all of them have ended when Run returns. It retries nothing: the
// first error ends the run.
package load
