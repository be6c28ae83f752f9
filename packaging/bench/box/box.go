package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"cairn/packaging/bench/process"
	"cairn/platform/loopback"
)

// pollPause is the time between two looks at a box that is starting. It bounds how precisely a start is measured.
const pollPause = 2 * time.Millisecond

// Config says what to run.
type Config struct {
	Binary string   // cairn's binary
	Data   string   // its data directory; made by cairn if missing
	Log    string   // file that gets its output, appended over restarts
	Prefix []string // command that runs cairn (strace and its flags); empty: none
	Flags  []string // further flags of `cairn start`
}

// Box is one cairn process, or the place where it was.
type Box struct {
	Kafka     string // host:port, the same over restarts
	ZooKeeper string
	HTTP      string

	cfg     Config
	client  *http.Client
	process process.Process
}

// New picks three free loopback ports and starts nothing.
func New(cfg Config) (*Box, error) {
	b := &Box{cfg: cfg, client: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	for _, address := range []*string{&b.Kafka, &b.ZooKeeper, &b.HTTP} {
		free, err := loopback.Address()
		if err != nil {
			return nil, err
		}
		*address = free
	}
	return b, nil
}

// Spawn starts the process and does not wait for it to serve.
func (b *Box) Spawn() error {
	args := append([]string{}, b.cfg.Prefix...)
	args = append(args, b.cfg.Binary, "start", "--data", b.cfg.Data,
		"--kafka-listen", b.Kafka, "--zookeeper-listen", b.ZooKeeper, "--http-listen", b.HTTP)
	return b.process.Start(b.cfg.Log, nil, append(args, b.cfg.Flags...)...)
}

// Start spawns the process and waits until it is ready.
func (b *Box) Start(ctx context.Context) error {
	if err := b.Spawn(); err != nil {
		return err
	}
	return b.Ready(ctx)
}

// Ready waits until /readyz answers 200. It fails when ctx ends or the process does.
func (b *Box) Ready(ctx context.Context) error {
	for {
		if b.ready() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the box is not ready: %w (see %s)", ctx.Err(), b.cfg.Log)
		case <-b.process.Ended():
			return fmt.Errorf("the box ended while starting: %w", b.process.Exit())
		case <-time.After(pollPause):
		}
	}
}

func (b *Box) ready() bool {
	response, err := b.client.Get("http://" + b.HTTP + "/readyz")
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Get returns the body of a page of the box's HTTP port.
func (b *Box) Get(path string) ([]byte, error) {
	response, err := b.client.Get("http://" + b.HTTP + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return io.ReadAll(response.Body)
}

// PID is the process that Spawn has started: cairn's, or the Prefix's.
func (b *Box) PID() int { return b.process.PID() }

// Running says whether the process is there.
func (b *Box) Running() bool { return b.process.Running() }

// Kill ends the process as a power cut would end it, save for what the kernel has cached, and waits for its end.
func (b *Box) Kill() { b.process.Kill() }

// Stop asks the process to end (SIGTERM) and waits. A process that does not end in time is killed and reported.
func (b *Box) Stop(patience time.Duration) error {
	if !b.Running() {
		return errors.New("the box ended by itself")
	}
	return b.StopProcess(b.PID(), patience)
}

// StopProcess is Stop for a box under a Prefix, whose own id is pid.
func (b *Box) StopProcess(pid int, patience time.Duration) error {
	if err := b.process.Stop(pid, patience); err != nil {
		return fmt.Errorf("stop the box: %w", err)
	}
	return nil
}
