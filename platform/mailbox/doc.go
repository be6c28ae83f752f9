// Package mailbox gives every mutable thing one owner: a bounded queue of messages and a Step that alone touches the
// owner's state. It is the only place with goroutines and timers for owners. In production (Threads) a goroutine drives
// each owner; in tests (Scheduler) one seeded scheduler drives all of them on the caller's goroutine and on a virtual
// clock, so a trace replays exactly.
//
// An owner never blocks on another owner: it sends, and is sent the answer. What must block (a flush, a dial) goes
// through Runtime.Spawn. The package must not know what a message means.
package mailbox
