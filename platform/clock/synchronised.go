package clock

import "syscall"

// Synchronised reports whether the kernel says that the wall clock is disciplined by NTP or the like (adjtimex(2)).
func Synchronised() bool {
	const stateError = 5 // TIME_ERROR: not synchronised
	var t syscall.Timex
	state, err := syscall.Adjtimex(&t)
	return err == nil && state != stateError
}
