package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// lastWords is how much of a failed program's output is shown, in bytes.
const lastWords = 4 << 10

// Process is one running program, or the place where it was. The zero value is ready for Start.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	exit  error         // how cmd ended; valid once ended is closed
}

// Start starts args[0], its output appended to the file log, with env beside this process's own.
func (p *Process) Start(log string, env []string, args ...string) error {
	if p.Running() {
		return fmt.Errorf("%s runs already", args[0])
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", args[0], err)
	}
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", args[0], err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		p.exit = withLastWords(cmd.Wait(), log)
		close(ended)
	}()
	return nil
}

// PID is the id of the program that Start has started.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the program has ended; Exit is then how.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Exit is how the program ended, with the end of its output; nil is with status 0.
func (p *Process) Exit() error { return p.exit }

// withLastWords adds the end of the file log to how a program failed: the file is often gone when somebody asks why.
func withLastWords(failure error, log string) error {
	if failure == nil {
		return nil
	}
	f, err := os.Open(log)
	if err != nil {
		return failure
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return failure
	}
	words, err := io.ReadAll(io.NewSectionReader(f, max(info.Size()-lastWords, 0), lastWords))
	if err != nil || len(words) == 0 {
		return failure
	}
	return fmt.Errorf("%w; the end of its output:\n%s", failure, words)
}

// Running says whether the program is there.
func (p *Process) Running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Kill ends the program as a power cut would end it, save for what the kernel has cached, and waits for its end.
func (p *Process) Kill() {
	if p.Running() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// Stop asks the process pid, the program or one below it, to end (SIGTERM) and waits for the program's end. One that does
// not end in time is killed and reported.
func (p *Process) Stop(pid int, patience time.Duration) error {
	if !p.Running() {
		return errors.New("it ended by itself")
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("ask it to stop: %w", err)
	}
	select {
	case <-p.ended:
		if p.exit != nil {
			return fmt.Errorf("it stopped with: %w", p.exit)
		}
		return nil
	case <-time.After(patience):
		_ = syscall.Kill(pid, syscall.SIGKILL)
		p.Kill()
		return fmt.Errorf("it did not stop within %v", patience)
	}
}
