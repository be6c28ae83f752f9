// Package measure reads what the bench compares: processor time and memory of a process, bytes that a device has written,
// the machine's facts; and makes medians and spreads of them.
//
// It reads /proc and /sys and holds no goroutine and no state. A file that says something else than expected is an error,
// not a zero.
package measure
