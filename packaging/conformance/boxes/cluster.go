package boxes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"cairn/packaging/bench/fleet"
)

const (
	// WholeMax is how long it may take until all boxes serve, after a start or a heal.
	WholeMax = 30 * time.Second
	// PollPause is between two looks at something that is awaited.
	PollPause   = 5 * time.Millisecond
	wordTimeout = time.Second
	stopMax     = 15 * time.Second
)

// Process is one box.
type Process struct {
	box    int
	cmd    *exec.Cmd
	ended  chan struct{}
	exit   error // valid once ended is closed
	halted bool  // by SIGSTOP
}

// Cluster is the three processes. The main goroutine owns it.
type Cluster struct {
	Network *Network
	// Flags are given to a box's `cairn start` beside its zoo.cfg; nil for none.
	Flags   func(box int) []string
	binary  string
	dir     string
	process [Count + 1]*Process
}

// NewCluster writes the boxes' configurations into dir and starts nothing.
func NewCluster(network *Network, binary, dir string) (*Cluster, error) {
	c := &Cluster{Network: network, binary: binary, dir: dir}
	for box := 1; box <= Count; box++ {
		data := c.Data(box)
		if err := os.MkdirAll(data, 0o755); err != nil {
			return nil, err
		}
		// All sessions may come to one box, and all from one address.
		text := fmt.Sprintf("dataDir=%s\nclientPort=2181\ntickTime=2000\ninitLimit=10\nsyncLimit=5\nmaxClientCnxns=0\n4lw.commands.whitelist=*\n", data)
		for other := 1; other <= Count; other++ {
			text += fmt.Sprintf("server.%d=%s:2888:3888\n", other, network.PeerAddress(other))
		}
		if err := os.WriteFile(filepath.Join(data, "zoo.cfg"), []byte(text), 0o644); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(data, "myid"), fmt.Appendf(nil, "%d\n", box), 0o644); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Data is a box's dataDir: what cairn keeps is below it.
func (c *Cluster) Data(box int) string { return filepath.Join(c.dir, fmt.Sprintf("box%d", box)) }

// Address is where clients find a box.
func (c *Cluster) Address(box int) string { return c.Network.ClientAddress(box) + ":2181" }

// Start starts a box's process and does not wait for it to serve.
func (c *Cluster) Start(box int) error {
	log, err := os.OpenFile(filepath.Join(c.dir, fmt.Sprintf("box%d.log", box)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"netns", "exec", c.Network.Namespace(box), c.binary, "start", "--zoo-cfg", filepath.Join(c.Data(box), "zoo.cfg")}
	if c.Flags != nil {
		args = append(args, c.Flags(box)...)
	}
	cmd := exec.Command("ip", args...)
	cmd.Stdout, cmd.Stderr = log, log
	// Its death comes with ours, which survives ip's exec; a signal to our group, as timeout sends it, is for us to judge.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start box %d: %w", box, err)
	}
	p := &Process{box: box, cmd: cmd, ended: make(chan struct{})}
	c.process[box] = p
	go func() {
		p.exit = cmd.Wait()
		close(p.ended)
	}()
	return nil
}

// Kill ends a box's process with SIGKILL and waits for its end.
func (c *Cluster) Kill(box int) {
	p := c.process[box]
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
	c.process[box] = nil
}

// KillAll ends several boxes with SIGKILL at the same instant.
func (c *Cluster) KillAll(boxes ...int) {
	for _, box := range boxes {
		if p := c.process[box]; p != nil {
			_ = p.cmd.Process.Kill() // it may have ended
		}
	}
	for _, box := range boxes {
		c.Kill(box)
	}
}

// Ended reports whether a box that was started has ended by itself.
func (c *Cluster) Ended(box int) bool {
	p := c.process[box]
	if p == nil {
		return false
	}
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// PID is the id of a box's process, 0 when it was not started. Its mount namespace is its own.
func (c *Cluster) PID(box int) int {
	if p := c.process[box]; p != nil {
		return p.cmd.Process.Pid
	}
	return 0
}

// Halt stops a box's process (SIGSTOP) and Resume lets it go on.
func (c *Cluster) Halt(box int) error { return c.signal(box, syscall.SIGSTOP, true) }

// Resume is the end of Halt.
func (c *Cluster) Resume(box int) error { return c.signal(box, syscall.SIGCONT, false) }

func (c *Cluster) signal(box int, s syscall.Signal, halted bool) error {
	p := c.process[box]
	if p == nil {
		return fmt.Errorf("box %d does not run", box)
	}
	p.halted = halted
	return p.cmd.Process.Signal(s)
}

// Crashed names a box whose process ended by itself.
func (c *Cluster) Crashed() error {
	for _, p := range c.process[1:] {
		if p == nil {
			continue
		}
		select {
		case <-p.ended:
			return fmt.Errorf("box %d ended by itself: %v; its log is %s", p.box, p.exit, filepath.Join(c.dir, fmt.Sprintf("box%d.log", p.box)))
		default:
		}
	}
	return nil
}

// Close asks all processes to end, and kills those that do not. It names those, and those that ended with a failure.
func (c *Cluster) Close() error {
	for _, p := range c.process[1:] {
		if p == nil {
			continue
		}
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
	}
	var failures []error
	deadline := time.After(stopMax)
	for box := 1; box <= Count; box++ {
		p := c.process[box]
		if p == nil {
			continue
		}
		select {
		case <-p.ended:
			if p.exit != nil {
				failures = append(failures, fmt.Errorf("box %d ended with %w", box, p.exit))
			}
		case <-deadline:
			failures = append(failures, fmt.Errorf("box %d has not ended %v after SIGTERM", box, stopMax))
		}
		c.Kill(box)
	}
	return errors.Join(failures...)
}

// Leader is the box that says that it leads, 0 when none does. Where two do, after a fault, the caller asks again.
func (c *Cluster) Leader() int {
	leader := 0
	for box := 1; box <= Count; box++ {
		if fleet.Mode(c.Address(box), wordTimeout) == "leader" {
			if leader != 0 {
				return 0
			}
			leader = box
		}
	}
	return leader
}

// Whole waits until one box leads and the others follow it.
func (c *Cluster) Whole(ctx context.Context) (leader int, err error) {
	ctx, cancel := context.WithTimeout(ctx, WholeMax)
	defer cancel()
	for {
		modes := map[string]int{}
		for box := 1; box <= Count; box++ {
			m := fleet.Mode(c.Address(box), wordTimeout)
			modes[m]++
			if m == "leader" {
				leader = box
			}
		}
		if modes["leader"] == 1 && modes["follower"] == Count-1 {
			return leader, nil
		}
		if err := c.Crashed(); err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("the boxes are not one ensemble after %v: %v", WholeMax, modes)
		case <-time.After(PollPause):
		}
	}
}
