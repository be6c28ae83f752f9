package ensemble

import (
	"time"

	"cairn/engine/ensemble/keeper"
	"cairn/engine/ensemble/znode"
	"cairn/platform/clock"
)

const (
	// boxLease is how long another box may be silent before its registration ends.
	boxLease = 1500 * time.Millisecond
	// reportInterval is the time between two reports of who was heard. The leader takes a box whose heartbeats come for one
	// that reports.
	reportInterval = 250 * time.Millisecond
)

func newKeeper(c Config) (*keeper.Keeper, error) {
	k := keeper.Default()
	k.Tick, k.SelfBox, k.BoxLease, k.BoxSilence = c.TickTime, c.Box, boxLease, 2*reportInterval
	// A box that hears no leader looks for one before it counts itself leaderless.
	k.BoxAnswers = 2*electionTicks*c.HeartbeatInterval + c.LeaderlessMax
	k.ContainerCheckInterval, k.ContainersPerMinute = c.ReapInterval, c.ReapPerMinuteMax
	k.ContainerNeverUsed = c.ContainerNeverUsedMax
	if err := k.Validate(); err != nil {
		return nil, err
	}
	return keeper.New(k), nil
}

// tend does what a leader owes the tree: a secret, the end of sessions that were silent, the end of containers and TTL
// nodes. All are proposals like any other, judged again when they are applied. It also opens the doors when it may.
func (o *owner) tend() {
	o.reads.ask(o)
	o.unpark()
	o.tendLocals()
	o.learn()
	o.reportTouched()
	o.reportState()
	o.judge()
	o.mend()
	o.snapshotIfDue()
	o.standForDisk()
	o.tellPromises()
	o.backupIfDue()
	o.restoreGoOn()
	o.unstage()
	if o.ready {
		o.ensureSecret()
		o.tendMembers()
		o.raiseRules()
		if o.now.Mono >= o.nextKeep {
			o.keepOrder()
		}
	}
	o.serve()
}

// keepOrder tells the keeper who was heard from, and proposes what it finds due.
func (o *owner) keepOrder() {
	o.e.mu.RLock()
	for id, a := range o.e.attached {
		if a.local {
			continue
		}
		if at := a.touched.Swap(0); at != 0 {
			o.keep.Touch(clock.Now{Mono: time.Duration(at), Wall: o.now.Wall}, id)
		}
	}
	o.e.mu.RUnlock()
	entries, wake := o.keep.Step(o.now, o.e.tree)
	for _, e := range entries {
		if e.Kind == znode.KindExpireSession {
			o.e.metrics.expired.Inc()
			o.e.deps.Observer.Log.Info("session expired", "session", e.Session)
		}
		o.internal(*e, nil) // one that is lost is made again
	}
	o.nextKeep = max(wake, o.now.Mono+time.Millisecond)
}

// keepSession tells the keeper of a session that came to be or changed hands: its time begins anew.
func (o *owner) keepSession(s znode.SessionInfo) {
	if !o.ready {
		return
	}
	o.keep.Opened(o.now, s)
	// No session ends within a tick: asking again then is soon enough, and not once for every session that is opened.
	o.nextKeep = min(o.nextKeep, o.now.Mono+o.e.cfg.TickTime)
}

// Deadlines calls done with the times at which sessions expire if they stay silent, rising, each with the sessions' ids,
// for the four-letter word dump; only the leader knows any. done runs on the ensemble's goroutine and must not block.
func (e *Ensemble) Deadlines(done func(at []time.Time, sessions [][]int64)) {
	if err := e.send(message{kind: msgDeadlines, occasion: &occasion{deadlines: done}}); err != nil {
		done(nil, nil)
	}
}

func (o *owner) deadlines(done func([]time.Time, [][]int64)) {
	if !o.ready {
		done(nil, nil)
		return
	}
	mono, ids := o.keep.Buckets()
	at := make([]time.Time, len(mono))
	for i, m := range mono {
		at[i] = o.now.Wall.Add(m - o.now.Mono)
	}
	done(at, ids)
}
