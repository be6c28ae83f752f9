package main

import (
	"time"

	"cairn/packaging/bench/fleet"
	"cairn/packaging/bench/measure"
)

// equalSessions is how many sessions the equal load comes from.
const equalSessions = 64

// equalPart is the offered load as a part of what the slower of both could do.
const equalPart = 0.5

// resident are the figures of memory: of cairn and of ZooKeeper, all servers together.
type resident struct{ pss, rss, peak [2]measure.Figures } // MB

// idleTime is how long both are looked at without a request.
const idleTime = 10 * time.Second

// measureEqual offers both, freshly started, the same load: half of what the slower of them could do. At the end of it
// their memory is read, and then what they use while nobody asks for anything.
func (b *bench) measureEqual(p pair, most []series) (all []series, m resident, idle [2]measure.Figures, err error) {
	for _, s := range most {
		if s.sessions == equalSessions {
			rate := equalPart * min(s.rates[0].Median(), s.rates[1].Median())
			all = append(all, series{workload: s.workload, sessions: equalSessions, rate: rate})
		}
	}
	for round := -b.warmUps(); round < b.rounds; round++ {
		progress("%d servers: equal load, round %d of %d", len(p[0].Servers), round+1, b.rounds)
		for i := range all {
			for _, peer := range turns(max(round, 0)) {
				got, err := b.drive(p[peer], all[i].workload, equalSessions, all[i].rate)
				if err != nil {
					return all, m, idle, err
				}
				if round >= 0 { // before that a JVM still compiles
					all[i].add(peer, got)
				}
			}
		}
	}
	for peer, f := range p {
		if err := m.read(peer, f); err != nil {
			return all, m, idle, err
		}
		begin, err := f.CPU()
		if err != nil {
			return all, m, idle, err
		}
		select {
		case <-time.After(b.seconds(idleTime.Seconds())):
		case <-b.ctx.Done():
			return all, m, idle, b.ctx.Err()
		}
		end, err := f.CPU()
		if err != nil {
			return all, m, idle, err
		}
		idle[peer] = append(idle[peer], 1e3*(end-begin).Seconds()/b.seconds(idleTime.Seconds()).Seconds())
	}
	return all, m, idle, nil
}

// read reads the memory of one of both.
func (m *resident) read(peer int, f *fleet.Fleet) error {
	now, err := f.Memory()
	if err != nil {
		return err
	}
	m.pss[peer] = append(m.pss[peer], float64(now.PSS)/1e6)
	m.rss[peer] = append(m.rss[peer], float64(now.RSS)/1e6)
	m.peak[peer] = append(m.peak[peer], float64(now.Peak)/1e6)
	return nil
}
