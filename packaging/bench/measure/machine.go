package measure

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// Machine returns the facts that a figure needs beside it, one to a line.
func Machine(dir string) []string {
	facts := []string{
		fmt.Sprintf("processors: %d x %s (%s)", runtime.NumCPU(), lineValue("/proc/cpuinfo", "model name", "Model", "Hardware"), runtime.GOARCH),
		"memory: " + lineValue("/proc/meminfo", "MemTotal"),
		"kernel: " + firstLine("/proc/sys/kernel/ostype") + " " + firstLine("/proc/sys/kernel/osrelease"),
		"disk: " + mountOf(dir),
		"go: " + runtime.Version(),
		"load before: " + firstLine("/proc/loadavg"),
	}
	if governor := firstLine("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"); governor != "" {
		facts = append(facts, "governor: "+governor)
	}
	if out, err := exec.Command("git", "describe", "--always", "--dirty", "--tags").Output(); err == nil {
		facts = append(facts, "commit: "+strings.TrimSpace(string(out)))
	}
	return facts
}

// Ticks is the processor time of the whole machine, and the part of it that a hypervisor took away.
func Ticks() (total, stolen uint64) {
	var kind string
	var user, nice, system, idle, wait, irq, soft, steal uint64
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	if _, err := fmt.Sscan(string(raw), &kind, &user, &nice, &system, &idle, &wait, &irq, &soft, &steal); err != nil {
		return 0, 0
	}
	return user + nice + system + idle + wait + irq + soft + steal, steal
}

// mountOf describes the file system that holds dir.
func mountOf(dir string) string {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return err.Error()
	}
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err.Error()
	}
	best := "unknown"
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		var at syscall.Stat_t
		if len(f) >= 4 && syscall.Stat(f[1], &at) == nil && at.Dev == st.Dev {
			best = fmt.Sprintf("%s, %s (%s)", f[0], f[2], f[3])
		}
	}
	return best
}

func firstLine(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	return line
}

// lineValue returns what stands behind the colon of the first line that begins with one of the names.
func lineValue(path string, names ...string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for _, name := range names {
		for line := range strings.Lines(string(raw)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
				return strings.TrimSpace(value)
			}
		}
	}
	return "unknown"
}
