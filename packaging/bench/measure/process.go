package measure

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc, USER_HZ, which is 100 on every architecture that cairn runs on.
const tick = 10 * time.Millisecond

// CPU is the processor time, user and system, that all threads of a process have used.
func CPU(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name, in parentheses, may contain spaces: fields are counted after it. utime and stime are the 14th and
	// the 15th of all, the 12th and 13th after the name.
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	var ticks uint64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseUint(string(field), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// Memory is what a process has resident, in bytes.
type Memory struct {
	RSS, Anon, File uint64
	PSS             uint64 // as RSS, pages that several processes share counted in parts
	Peak            uint64 // the highest RSS so far
}

// ResidentMemory reads VmRSS, RssAnon, RssFile, VmHWM, and Pss.
func ResidentMemory(pid int) (Memory, error) {
	var m Memory
	err := kibibytes(fmt.Sprintf("/proc/%d/status", pid),
		map[string]*uint64{"VmRSS:": &m.RSS, "RssAnon:": &m.Anon, "RssFile:": &m.File, "VmHWM:": &m.Peak})
	if err == nil {
		err = kibibytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid), map[string]*uint64{"Pss:": &m.PSS})
	}
	return m, err
}

// kibibytes reads lines of a file that says kB and means KiB.
func kibibytes(path string, values map[string]*uint64) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for name, value := range values {
		if *value, err = field(string(raw), name); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		*value <<= 10
	}
	return nil
}

// WriteBytes is what a process has sent towards devices, by the kernel's account of pages that it made dirty. A file
// system's journal is not in it.
func WriteBytes(pid int) (uint64, error) {
	return account(pid, "write_bytes:")
}

// Calls is how many read and write calls a process has made, of files and of sockets alike. Go's runtime makes none of its own but
// to wake its poller, so that they tell what a process does from how its threads take turns at it.
func Calls(pid int) (uint64, error) {
	reads, err := account(pid, "syscr:")
	if err != nil {
		return 0, err
	}
	writes, err := account(pid, "syscw:")
	return reads + writes, err
}

// account is a line of the kernel's account of a process's input and output.
func account(pid int, name string) (uint64, error) {
	path := fmt.Sprintf("/proc/%d/io", pid)
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := field(string(raw), name)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// field returns the number that follows a name at the beginning of a line.
func field(text, name string) (uint64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			if words := strings.Fields(rest); len(words) > 0 {
				return strconv.ParseUint(words[0], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("no line %q", name)
}
