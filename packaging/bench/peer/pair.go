package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cairn/packaging/bench/fleet"
	"cairn/packaging/bench/frames"
	"cairn/packaging/bench/load"
)

// Both may use as much memory; the rest of their settings is their default.
const (
	heapFlag   = "-Xmx512m"
	memoryFlag = "512MiB"
)

// startPatience is how long an ensemble may take to serve.
const startPatience = 60 * time.Second

// pair is cairn and ZooKeeper, both running, in this order.
type pair [2]*fleet.Fleet

// start starts both and makes the znodes that are read and written.
func (b *bench) start(servers int, name string) (pair, error) {
	var p pair
	programs := [2]fleet.Program{
		fleet.Cairn(b.cairn, "--memory", memoryFlag, "--log-level", "warn"),
		fleet.ZooKeeper(b.classpath, heapFlag),
	}
	for i, program := range programs {
		dir := filepath.Join(b.dir, fmt.Sprintf("%s-%s-%d", name, program.Name, servers))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return p, err
		}
		f, err := fleet.New(fleet.Config{Dir: dir, Servers: servers, Program: program})
		if err == nil {
			p[i] = f
			err = b.ready(f)
		}
		if err != nil {
			p.kill()
			return p, fmt.Errorf("%s: %w", program.Name, err)
		}
	}
	return p, nil
}

func (b *bench) ready(f *fleet.Fleet) error {
	ctx, cancel := context.WithTimeout(b.ctx, startPatience)
	defer cancel()
	if err := f.Start(ctx); err != nil {
		return err
	}
	for _, path := range []string{"/bench", parentOfCreates, fanOutPath} {
		if err := b.once(f, frames.Create(path, make([]byte, dataBytes))); err != nil {
			return fmt.Errorf("create %s: %w", path, err)
		}
	}
	create := frames.Create(frames.Numbered(sessionPrefix), make([]byte, dataBytes))
	plan := load.Plan{Addresses: f.Addresses(), Connections: 1, Window: 16, UntilDone: true,
		Talker: func(int) load.Talker { return &load.Walker{Request: create, Number: load.First(sessionsMax)} }}
	if _, err := load.Run(ctx, plan); err != nil {
		return fmt.Errorf("create the znodes of the sessions: %w", err)
	}
	return nil
}

// once sends one request.
func (b *bench) once(f *fleet.Fleet, request *frames.ZooKeeperRequest) error {
	plan := load.Plan{Addresses: f.Addresses(), Connections: 1, Window: 1, Requests: 1,
		Talker: func(int) load.Talker { return &load.Mixer{Read: request} }}
	_, err := load.Run(b.ctx, plan)
	return err
}

// kill ends both.
func (p pair) kill() {
	for _, f := range p {
		if f != nil {
			f.Kill()
		}
	}
}

// turns are the indexes of both in the order of a round, A B and then B A.
func turns(round int) [2]int {
	if round%2 == 0 {
		return [2]int{0, 1}
	}
	return [2]int{1, 0}
}
