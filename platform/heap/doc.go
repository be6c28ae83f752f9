// Package heap keeps the garbage of this process within a bound. The collector's own pace lets the heap grow to twice what
// is alive before it collects again, which is little for a small heap and hundreds of megabytes for a large tree, most of
// which nobody changes.
//
// It sets the process's GOGC after each collection, on the runtime's finalizer goroutine, and has no goroutine of its own but
// for the moment when a process that has come to rest gives its garbage back.
// It knows nothing of what is in the heap.
package heap
