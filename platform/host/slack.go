package host

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// TimerSlack lets the kernel end the sleeps of this process's threads, and of those that they start from now on, as much
// as d later than asked (timerslack_ns in proc(5); 50 µs where nobody sets it). Needs CAP_SYS_NICE, without which it
// changes at most the thread that it runs on and returns an error that is os.ErrPermission. A kernel without the file is
// left as it is. A service manager can give the same at birth (TimerSlackNSec= in systemd.exec(5)).
//
// It is for the monitor thread of Go's scheduler (sysmon in runtime/proc.go), which sleeps 20 µs at a time as long as some
// thread was found in a long system call, such as a flush, a short while ago. Each wake-up is two switches and, on a virtual
// machine, an interrupt that the hypervisor has to bring: more than anything else that a steady load of small requests costs.
func TimerSlack(d time.Duration) error {
	return timerSlack("/proc", d)
}

// slackPasses is how often the list of threads is read: one that has no slack yet may start another meanwhile.
const slackPasses = 4

func timerSlack(proc string, d time.Duration) error {
	want := strconv.FormatInt(d.Nanoseconds(), 10)
	for range slackPasses {
		threads, err := os.ReadDir(path.Join(proc, "self/task"))
		if err != nil {
			return fmt.Errorf("list the process's threads: %w", err)
		}
		changed := false
		for _, thread := range threads {
			name := path.Join(proc, thread.Name(), "timerslack_ns")
			has, err := os.ReadFile(name)
			if err == nil && strings.TrimSpace(string(has)) != want {
				err = os.WriteFile(name, []byte(want), 0)
				changed = true
			}
			if err != nil && !ended(err) {
				return fmt.Errorf("set the timer slack: %w", err)
			}
		}
		if !changed {
			return nil
		}
	}
	return nil
}

// ended tells whether an error of a thread's file says that the thread is no more.
func ended(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) }
