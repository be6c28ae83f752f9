package measure

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const fadviseDontNeed = 4 // POSIX_FADV_DONTNEED

// DropCache takes the files below the paths out of the page cache, and says how: the whole machine's cache where that is
// permitted, these files one by one where it is not. What is dirty is written first.
func DropCache(paths ...string) (how string, err error) {
	syscall.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0); err == nil {
		return "page cache dropped (drop_caches=3)", nil
	}
	for _, path := range paths {
		err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			return dropFile(name)
		})
		if err != nil {
			return "", fmt.Errorf("drop the page cache of %s: %w", path, err)
		}
	}
	return "drop_caches not permitted: the files' pages dropped by fadvise, inodes and directories stay cached", nil
}

// dropFile needs no right but to read. It does nothing where the architecture numbers the call otherwise.
func dropFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if fadviseCall == 0 {
		return fmt.Errorf("no fadvise on this architecture")
	}
	if _, _, errno := syscall.Syscall6(fadviseCall, f.Fd(), 0, 0, fadviseDontNeed, 0, 0); errno != 0 {
		return fmt.Errorf("fadvise %s: %w", name, errno)
	}
	return nil
}
