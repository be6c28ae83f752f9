package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cairn/packaging/bench/box"
	"cairn/packaging/bench/load"
	"cairn/packaging/bench/measure"
)

// startPatience is how long a box may take to be ready where the time is not what is measured.
const startPatience = 60 * time.Second

// stopPatience is how long a box may take to stop.
const stopPatience = 30 * time.Second

// newBox makes a box with its data in dir and starts nothing.
func (b *bench) newBox(dir string, prefix ...string) (*box.Box, error) {
	return box.New(box.Config{Binary: b.cairn, Data: filepath.Join(dir, "data"), Log: filepath.Join(dir, "cairn.log"), Prefix: prefix})
}

// startBox starts a box and waits until it is ready. The caller kills it.
func (b *bench) startBox(dir string) (*box.Box, error) {
	started, err := b.newBox(dir)
	if err != nil {
		return nil, err
	}
	if err := b.start(started); err != nil {
		started.Kill()
		return nil, err
	}
	return started, nil
}

func (b *bench) start(at *box.Box) error {
	ctx, cancel := context.WithTimeout(b.ctx, startPatience)
	defer cancel()
	return at.Start(ctx)
}

// createTopic makes a topic and waits until its leaders answer.
func (b *bench) createTopic(at *box.Box, topic string, partitions int32) error {
	return b.admin(at, func(ctx context.Context, client *kadm.Client) error {
		if _, err := client.CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
			return fmt.Errorf("create topic %s: %w", topic, err)
		}
		for {
			ends, err := client.ListEndOffsets(ctx, topic)
			if err == nil && ends.Error() == nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("topic %s has no leader: %w", topic, ctx.Err())
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
}

// deleteTopic deletes a topic and has its files written off, so that the next run does not pay for it.
func (b *bench) deleteTopic(at *box.Box, topic string) error {
	return b.admin(at, func(ctx context.Context, client *kadm.Client) error {
		if _, err := client.DeleteTopic(ctx, topic); err != nil {
			return fmt.Errorf("delete topic %s: %w", topic, err)
		}
		return nil
	})
}

// endOffset is the end of a topic's partition 0.
func (b *bench) endOffset(at *box.Box, topic string) (end int64, err error) {
	err = b.admin(at, func(ctx context.Context, client *kadm.Client) error {
		ends, err := client.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		found, ok := ends.Lookup(topic, 0)
		if !ok || found.Err != nil {
			return fmt.Errorf("end of %s: %v", topic, found.Err)
		}
		end = found.Offset
		return nil
	})
	return end, err
}

func (b *bench) admin(at *box.Box, do func(context.Context, *kadm.Client) error) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(at.Kafka))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(b.ctx, startPatience)
	defer cancel()
	return do(ctx, kadm.NewClient(client))
}

// floorProgram is a running floor.
type floorProgram struct {
	address string
	cmd     *exec.Cmd
	stdin   io.Closer
}

// startFloor starts the floor program and returns when it listens.
func (b *bench) startFloor(args ...string) (*floorProgram, error) {
	cmd := exec.Command(b.floor, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the floor: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	f := &floorProgram{address: strings.TrimSpace(line), cmd: cmd, stdin: stdin}
	if err != nil {
		f.stop()
		return nil, fmt.Errorf("the floor %v does not listen: %w", args, err)
	}
	return f, nil
}

// stop ends the floor by closing its input.
func (f *floorProgram) stop() {
	f.stdin.Close()
	_ = f.cmd.Wait()
}

// loaded is one measured run: what the client has seen, and what the server has used for it.
type loaded struct {
	load.Result
	cpu     time.Duration // of the server
	written uint64        // by the server, as the kernel counts it
}

// run drives a plan and measures the process that serves it.
func (b *bench) run(pid int, plan load.Plan) (loaded, error) { return b.runAll([]int{pid}, plan) }

// runAll is run where several processes serve: what they use is summed.
func (b *bench) runAll(pids []int, plan load.Plan) (loaded, error) {
	var got loaded
	var failed error
	plan.Mark = func(begin bool) {
		var cpu time.Duration
		var written uint64
		for _, pid := range pids {
			one, err := measure.CPU(pid)
			if err != nil {
				failed = err
			}
			bytes, err := measure.WriteBytes(pid)
			if err != nil {
				failed = err
			}
			cpu, written = cpu+one, written+bytes
		}
		if begin {
			got.cpu, got.written = cpu, written
		} else {
			got.cpu, got.written = cpu-got.cpu, written-got.written
		}
	}
	result, err := load.Run(b.ctx, plan)
	if err == nil {
		err = failed
	}
	if err == nil && result.Requests == 0 {
		err = fmt.Errorf("no request was answered")
	}
	got.Result = result
	return got, err
}

// cpuPerGB is the server's processor seconds per 10^9 bytes of payload.
func (l loaded) cpuPerGB() float64 { return l.cpu.Seconds() / (float64(l.Payload) / 1e9) }

// cpuPerRequest is the server's processor time per request in microseconds.
func (l loaded) cpuPerRequest() float64 { return l.cpu.Seconds() * 1e6 / float64(l.Requests) }
