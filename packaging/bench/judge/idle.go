package main

import (
	"fmt"
	"time"

	"cairn/packaging/bench/measure"
)

const (
	idleTopic             = "idle-" // and a number
	idlePartitionTargetKB = 20
	// idleWakesTarget is how many times the context switches of a box with one partition one with many may have, and of boxes of a
	// cluster the calls to read and to write: these beat and answer all the time, and how often Go's threads take turns at that
	// moves by half with the threads that a process has ever needed. One box does next to nothing, so that a call more is a quarter.
	idleWakesTarget = 1.15
	// idleRest is how long partitions are left before they are looked at: half a minute after something happened at them, and up to
	// five seconds, they let go of what they hold, and with thousands that takes a while.
	idleRest = 45 * time.Second
	// idleWatched is how long they are looked at, and idleWatchedShort in the short form, in so many idleWindows. What counts is the
	// middle one: Go collects garbage every two minutes, in one of them at most.
	idleWatched, idleWatchedShort = 20 * time.Second, 5 * time.Second
	idleWindows                   = 5
)

// idleSteps are how many partitions there are, on one box and on three with a replica on each. What more of them cost is told from
// the first step: a box without any has not done yet what a box does once (its threads, its connections to followers). The short
// form leaves out the last: 40,000 directories of partitions take longer to delete than all the rest.
var idleSteps = []int{1, 1000, 10000}

// idled is what boxes cost at one of the steps.
type idled struct {
	anon            float64       // bytes of a box
	switches, calls float64       // of a box, a second
	cpu             float64       // of a box, milliseconds a second
	open            int           // files of logs, of all boxes
	created         time.Duration // until the partitions of this step were led
}

// idleFigures are those of all rounds, for one box or three, by the step.
type idleFigures struct {
	name  string
	boxes int
	steps [][]idled // of each step, of each round
}

// measureIdle: what partitions cost that nobody uses, on one box, and on three with a replica of each on every box. Both are
// looked at at the same time.
func measureIdle(b *bench) ([]row, error) {
	figures := []*idleFigures{{boxes: 1}, {boxes: replicatedBoxes}}
	steps := idleSteps
	if b.short {
		steps = steps[:2]
	}
	for _, f := range figures {
		f.steps = make([][]idled, len(steps))
	}
	for range max(1, b.runs/3) {
		if err := b.idleRound(figures, steps); err != nil {
			return nil, err
		}
	}
	var rows []row
	for _, f := range figures {
		rows = append(rows, f.rows()...)
	}
	return rows, nil
}

// idleRound starts all boxes and takes them through the steps.
func (b *bench) idleRound(figures []*idleFigures, steps []int) error {
	dir, err := b.clear("idle")
	if err != nil {
		return err
	}
	var all []boxes
	defer func() {
		for _, s := range all {
			s.kill()
		}
	}()
	for _, f := range figures {
		started, err := b.startBoxes(dir, f.boxes)
		if err != nil {
			return err
		}
		f.name = started.name()
		all = append(all, started)
	}
	there := 0
	for step, partitions := range steps {
		var created []time.Duration
		for i, s := range all {
			took, err := s.createTopic(b.ctx, fmt.Sprint(idleTopic, partitions), partitions-there)
			if err != nil {
				return fmt.Errorf("%s: %w", figures[i].name, err)
			}
			created = append(created, took)
		}
		there = partitions
		got, err := b.idleLook(all)
		if err != nil {
			return err
		}
		for i, f := range figures {
			got[i].created = created[i]
			f.steps[step] = append(f.steps[step], got[i])
		}
	}
	return nil
}

// idleLook lets the boxes come to rest, and looks at what they do then.
func (b *bench) idleLook(all []boxes) ([]idled, error) {
	rest := func(d time.Duration) error {
		select {
		case <-b.ctx.Done():
			return b.ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
	if err := rest(idleRest); err != nil {
		return nil, err
	}
	look := func() (found []costs, err error) {
		for _, s := range all {
			c, err := s.costs()
			if err != nil {
				return nil, err
			}
			found = append(found, c)
		}
		return found, nil
	}
	watched := idleWatched
	if b.short {
		watched = idleWatchedShort
	}
	var at []time.Time
	var looks [][]costs
	for window := 0; ; window++ {
		found, err := look()
		if err != nil {
			return nil, err
		}
		at, looks = append(at, time.Now()), append(looks, found)
		if window == idleWindows {
			break
		}
		if err := rest(watched / idleWindows); err != nil {
			return nil, err
		}
	}
	first, last := looks[0], looks[idleWindows]
	var got []idled
	for i, s := range all {
		n := float64(len(s))
		var switches, calls measure.Figures
		for w := range idleWindows {
			seconds := at[w+1].Sub(at[w]).Seconds()
			switches = append(switches, float64(looks[w+1][i].switches-looks[w][i].switches)/seconds/n)
			calls = append(calls, float64(looks[w+1][i].calls-looks[w][i].calls)/seconds/n)
		}
		got = append(got, idled{
			anon:     float64(last[i].memory.Anon) / n,
			switches: switches.Median(),
			calls:    calls.Median(),
			cpu:      milliseconds(last[i].cpu-first[i].cpu) / at[idleWindows].Sub(at[0]).Seconds() / n,
			open:     last[i].open,
		})
	}
	return got, nil
}

// rows are what the steps cost beyond the first.
func (f *idleFigures) rows() []row {
	each := func(step int, value func(first, now idled) float64) measure.Figures {
		var all measure.Figures
		for round, now := range f.steps[step] {
			all = append(all, value(f.steps[0][round], now))
		}
		return all
	}
	var rows []row
	for step := 1; step < len(f.steps); step++ {
		more := float64(idleSteps[step] - idleSteps[0])
		name := fmt.Sprintf("%d idle partitions, %s: ", idleSteps[step], f.name)
		memory := row{name: name + "memory each", unit: "KB", durable: "-",
			cairn: each(step, func(first, now idled) float64 { return (now.anon - first.anon) / more / 1000 }),
			note:  "RssAnon more than with one partition, of a box by its replicas"}
		beside := func(what string, value func(idled) float64) row {
			return row{name: name + what, unit: "1/s", durable: "-",
				cairn: each(step, func(_, now idled) float64 { return value(now) }),
				floor: each(step, func(first, _ idled) float64 { return value(first) }), note: "floor: the same boxes with one partition"}
		}
		calls := beside("calls to read and to write", func(i idled) float64 { return i.calls })
		switches := beside("context switches of a box", func(i idled) float64 { return i.switches })
		if f.boxes == 1 {
			switches = switches.ratio(idleWakesTarget, false)
		} else {
			calls = calls.ratio(idleWakesTarget, false)
		}
		cpu := row{name: name + "processor time of a box, more than with one", unit: "ms/s", durable: "-",
			cairn: each(step, func(first, now idled) float64 { return now.cpu - first.cpu })}
		open := row{name: name + "open files and mappings of logs", unit: "files", durable: "-",
			cairn: each(step, func(_, now idled) float64 { return float64(now.open) })}
		created := row{name: fmt.Sprintf("%d partitions more, %s: until all are led", idleSteps[step]-idleSteps[step-1], f.name), unit: "s", durable: "-",
			cairn: each(step, func(_, now idled) float64 { return now.created.Seconds() })}
		rows = append(rows, memory.absolute(idlePartitionTargetKB), calls, switches, cpu, open.absolute(0), created)
	}
	return rows
}
