package main

import (
	"fmt"
	"time"

	"cairn/packaging/bench/load"
	"cairn/packaging/bench/measure"
	"cairn/packaging/bench/table"
)

const (
	turnTime = 5 * time.Second // of which the first is not measured
	turnsMax = 40              // of each kind
	restRate = 1               // bytes a second of a move that rests
)

// takeTurns lets the move go at its rate and rest, in turns, under the same load, and compares the two kinds. What others do on the
// machine meanwhile is in both.
func (b *bench) takeTurns(c *cluster, rate float64) ([]table.Row, error) {
	if err := c.throttle(b.ctx, moveTopic, restRate, moveFrom, moveTo); err != nil {
		return nil, err
	}
	if err := c.reassign(b.ctx, moveTopic, moveTo); err != nil {
		return nil, err
	}
	turn := func(throttle int64) (load.Result, error) {
		if err := c.throttle(b.ctx, moveTopic, throttle, moveFrom, moveTo); err != nil {
			return load.Result{}, err
		}
		plan := b.produce(c, rate, turnTime-time.Second)
		plan.WarmUp = time.Second
		return load.Run(b.ctx, plan)
	}
	var rests, goes, restsHalf, goesHalf, ratios measure.Figures
	bytes, took := int64(0), time.Duration(0)
	ms := func(d time.Duration) float64 { return 1e3 * d.Seconds() }
	for range turnsMax {
		rest, err := turn(restRate)
		if err != nil {
			return nil, err
		}
		before, err := logBytes(c.data[receiver-1], moveTopic)
		if err != nil {
			return nil, err
		}
		begin := time.Now()
		run, err := turn(b.rate)
		if err != nil {
			return nil, err
		}
		moving, err := c.moving(b.ctx, moveTopic, len(moveTo))
		if err != nil {
			return nil, err
		}
		if !moving {
			break // it has ended within the turn
		}
		after, err := logBytes(c.data[receiver-1], moveTopic)
		if err != nil {
			return nil, err
		}
		bytes, took = bytes+after-before, took+time.Since(begin)
		rests, goes = append(rests, ms(rest.P99)), append(goes, ms(run.P99))
		restsHalf, goesHalf = append(restsHalf, ms(rest.P50)), append(goesHalf, ms(run.P50))
		ratios = append(ratios, run.P99.Seconds()/rest.P99.Seconds())
		progress("rests: p50 %v, p99 %v; goes: p50 %v, p99 %v", rest.P50, rest.P99, run.P50, run.P99)
	}
	if len(ratios) == 0 {
		return nil, fmt.Errorf("what moves is too little for a turn of %v", turnTime)
	}
	name := fmt.Sprintf("%d boxes, a move that goes at %.0f MB/s and rests in turns of %v while %.0f %% of the most is produced", boxCount, float64(b.rate)/1e6, turnTime, 100*b.part)
	return []table.Row{
		{Name: name + ": bytes moved, mean of the turns", Value: float64(bytes) / 1e6 / took.Seconds(), Unit: "MB/s", Target: float64(b.rate) / 1e6, Promise: table.AtMost},
		{Name: name + ": p99 of the requests while it goes beside while it rests, median of the pairs", Value: ratios.Median(), Unit: "times", Target: latenessMax, Promise: table.AtMost,
			Note: fmt.Sprintf("%d pairs, %v; p99 %v ms beside %v ms, p50 %v ms beside %v ms; %s/s offered", len(ratios), ratios, goes, rests, goesHalf, restsHalf, measure.Number(rate))},
	}, nil
}
