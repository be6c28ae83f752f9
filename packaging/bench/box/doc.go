// Package box starts, kills and restarts one cairn process for the bench and for the kill suite, on a data directory and
// on loopback ports that stay the same over restarts, so that clients find it again.
//
// It ends only the process that it started, by its id; a process whose parent dies is killed by the kernel. The caller
// owns the Box and calls it from one goroutine.
package box
