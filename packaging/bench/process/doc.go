// Package process runs one program for the bench: starts it with its output in a file, says whether it is there, and ends
// it by its id. A program whose parent dies is killed by the kernel.
//
// The caller owns a Process and calls it from one goroutine.
package process
