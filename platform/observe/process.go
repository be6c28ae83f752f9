package observe

import (
	"os"
	"syscall"
)

// OpenFiles are how many files this process has open and may have; -1 where the system does not say.
func OpenFiles() (open, most int64) {
	open, most = -1, -1
	if d, err := os.Open("/proc/self/fd"); err == nil {
		if names, err := d.Readdirnames(-1); err == nil {
			open = int64(len(names)) - 1 // but for the directory itself
		}
		_ = d.Close() // it was only read
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		most = int64(limit.Cur)
	}
	return open, most
}
