package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ContextSwitches is how often the threads of a process have been put on a processor, because they had waited for something
// or because another's turn was over. Threads that have ended are not counted; Go ends none while it can use them again.
func ContextSwitches(pid int) (uint64, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	if len(tasks) == 0 {
		return 0, fmt.Errorf("process %d has no threads", pid)
	}
	var sum uint64
	for _, task := range tasks {
		raw, err := os.ReadFile(task)
		if os.IsNotExist(err) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return 0, err
		}
		for _, name := range []string{"voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"} {
			n, err := field(string(raw), name)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", task, err)
			}
			sum += n
		}
	}
	return sum, nil
}

// OpenBelow counts the descriptors and mappings of a process on files whose path has the given part.
func OpenBelow(pid int, part string) (count int, err error) {
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return 0, err
	}
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && strings.Contains(path, part) { // it may be closed meanwhile
			count++
		}
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, part) {
			count++
		}
	}
	return count, nil
}
