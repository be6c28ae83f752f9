// Package syncer schedules every flush of one device: an owner that takes all flushes asked for while the last round ran
// and does them in one round, the raft log's first. Nothing lingers: a lone flush starts at once, and many share a round
// (reference: natural batching; group commit). The flushing itself runs off the owner, so that a slow device holds up
// flushes and nothing else. The package must not know what is flushed, and never retries: an error is the last word on
// that job.
package syncer
