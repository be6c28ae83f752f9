package main

import (
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"

	"cairn/packaging/bench/box"
	"cairn/packaging/bench/frames"
	"cairn/packaging/bench/load"
	"cairn/packaging/bench/measure"
)

const (
	getDataTarget = 0.5
	znodePath     = "/bench"
	znodeBytes    = 128
)

// measureGetData: sessions that read one znode, one request in flight each, beside a TCP echo of frames of the same sizes.
func measureGetData(b *bench) ([]row, error) {
	dir, err := b.clear("getdata")
	if err != nil {
		return nil, err
	}
	cairn, err := b.startBox(dir)
	if err != nil {
		return nil, err
	}
	defer cairn.Kill()
	if err := createZnode(cairn); err != nil {
		return nil, err
	}
	floor, err := b.startFloor("echo", "-reply", fmt.Sprint(frames.GetDataReplyBytes(znodeBytes)))
	if err != nil {
		return nil, err
	}
	defer floor.stop()
	request := frames.GetData(znodePath)
	plan := func(address string, sessions int, echo bool) load.Plan {
		return load.Plan{Address: address, Connections: sessions, Window: 1, WarmUp: b.seconds(0.5), Measure: b.seconds(3),
			Talker: func(int) load.Talker { return &load.Getter{Request: request, Data: znodeBytes, Echo: echo} }}
	}
	var rows []row
	for _, sessions := range []int{64, 1} {
		var ours, floors, oursCPU, floorsCPU measure.Figures
		for range b.runs {
			got, err := b.run(cairn.PID(), plan(cairn.ZooKeeper, sessions, false))
			if err != nil {
				return rows, err
			}
			beside, err := b.run(floor.cmd.Process.Pid, plan(floor.address, sessions, true))
			if err != nil {
				return rows, fmt.Errorf("floor: %w", err)
			}
			ours, floors = append(ours, got.PerSecond()), append(floors, beside.PerSecond())
			oursCPU, floorsCPU = append(oursCPU, got.cpuPerRequest()), append(floorsCPU, beside.cpuPerRequest())
		}
		name := fmt.Sprintf("ZooKeeper getData of %d bytes, %d sessions", znodeBytes, sessions)
		if sessions == 1 {
			name = name[:len(name)-1]
		}
		r := row{name: name, unit: "requests/s", cairn: ours, floor: floors, durable: "reads only"}
		rows = append(rows, r.ratio(getDataTarget, true),
			row{name: name + ": server's processor time", unit: "µs/request", cairn: oursCPU, floor: floorsCPU, durable: "reads only"})
	}
	return rows, nil
}

// createZnode makes the znode that is read.
func createZnode(cairn *box.Box) error {
	conn, _, err := zk.Connect([]string{cairn.ZooKeeper}, 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Create(znodePath, make([]byte, znodeBytes), 0, zk.WorldACL(zk.PermAll)); err != nil {
		return fmt.Errorf("create %s: %w", znodePath, err)
	}
	return nil
}
