// Package host says what this machine is: how much memory the process may use, how many CPUs there are. It asks the
// operating system at start, changes nothing but the slack of this process's own timers, and starts no goroutine.
package host

import (
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v3/mem"
)

// Facts is what is known of the host.
type Facts struct {
	// MemoryBytes is what the process may use: the cgroup's limit where there is one, otherwise the host's memory.
	MemoryBytes uint64
	// MemoryFrom says where MemoryBytes comes from.
	MemoryFrom string
	CPUs       int
	Hostname   string
}

// Read asks the operating system.
func Read() (Facts, error) {
	vm, err := mem.VirtualMemory()
	if err != nil {
		return Facts{}, fmt.Errorf("read the host's memory: %w", err)
	}
	f := Facts{MemoryBytes: vm.Total, MemoryFrom: "host", CPUs: runtime.GOMAXPROCS(0)}
	if limit, ok := cgroupMemory("/proc/self/cgroup", "/sys/fs/cgroup"); ok && limit < f.MemoryBytes {
		f.MemoryBytes, f.MemoryFrom = limit, "cgroup"
	}
	f.Hostname, _ = os.Hostname()
	return f, nil
}

// cgroupMemory is the smallest memory limit on the process's way up its control groups, of version 2 or 1.
func cgroupMemory(self, root string) (uint64, bool) {
	text, err := os.ReadFile(self)
	if err != nil {
		return 0, false
	}
	var least uint64
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		base, file := root, "memory.max"
		switch {
		case fields[0] == "0" && fields[1] == "":
		case strings.Contains(","+fields[1]+",", ",memory,"):
			base, file = path.Join(root, "memory"), "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := path.Clean("/" + fields[2]); ; dir = path.Dir(dir) {
			if limit, ok := readLimit(path.Join(base, dir, file)); ok && (least == 0 || limit < least) {
				least = limit
			}
			if dir == "/" {
				break
			}
		}
	}
	return least, least > 0
}

func readLimit(name string) (uint64, bool) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil && n > 0 && n < 1<<60 // version 1 writes a huge number for "no limit", version 2 the word max
}
