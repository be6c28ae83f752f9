package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTimerSlackReachesEveryThread(t *testing.T) {
	proc := t.TempDir()
	for _, thread := range []string{"7", "9"} {
		write(t, filepath.Join(proc, "self/task", thread, "comm"), "x\n")
		write(t, filepath.Join(proc, thread, "timerslack_ns"), "50000\n")
	}
	write(t, filepath.Join(proc, "self/task/11/comm"), "x\n") // has ended: there is nothing else of it
	if err := timerSlack(proc, 500*time.Microsecond); err != nil {
		t.Fatal(err)
	}
	for _, thread := range []string{"7", "9"} {
		got, err := os.ReadFile(filepath.Join(proc, thread, "timerslack_ns"))
		if err != nil || string(got) != "500000" {
			t.Errorf("thread %s: %q, %v", thread, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(proc, "11")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made of the thread that has ended: %v", err)
	}
}

// On the machine itself it is set, or it is said that it may not be.
func TestTimerSlackOfThisProcess(t *testing.T) {
	before, err := os.ReadFile("/proc/self/timerslack_ns")
	if err != nil {
		t.Skip(err)
	}
	was, err := strconv.ParseInt(strings.TrimSpace(string(before)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	err = TimerSlack(time.Duration(was + 1))
	if errors.Is(err, fs.ErrPermission) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer TimerSlack(time.Duration(was)) //nolint:errcheck // as it was set the first time
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		got, err := os.ReadFile("/proc/" + thread.Name() + "/timerslack_ns")
		if want := strconv.FormatInt(was+1, 10); err == nil && strings.TrimSpace(string(got)) != want {
			t.Errorf("thread %s has %q, want %s", thread.Name(), got, want)
		}
	}
}
