package ensemble

import (
	"os"
	"testing"
)

// tempDir is a directory in memory where there is one: the tests flush thousands of logs, and it is not the device that
// is tested.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ensemble")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
