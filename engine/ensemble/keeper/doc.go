// Package keeper is what the leader of the ensemble keeps in order besides what clients ask: it expires sessions that
// were silent, ends the registrations of boxes whose lease ran out, and reaps containers and TTL nodes. It only proposes
// entries, which are validated again when they are applied; a proposal that is lost is made again.
//
// It is pure rules: the owner (the ensemble) tells it the time and what happened, and takes from Step what is to be
// proposed, a bounded number at a time. Nothing in it starts a goroutine, reads a clock or shows the order of a map. It
// must not change the tree.
package keeper
