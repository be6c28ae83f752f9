package topics

import (
	"errors"
	"math"
	"sync/atomic"
	"time"

	"cairn/engine/broker/compact"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/platform/clock"
	"cairn/platform/observe"
)

// compactStepBytes is how much a compaction reads and writes before the owner looks whether it may go on.
const compactStepBytes = 1 << 20

// compactBackoffMin bounds how often logs are looked at, whatever the settings say.
const compactBackoffMin = 100 * time.Millisecond

// compactRetry is when a log is looked at again whose compaction found no room, or found the log changed.
const compactRetry = time.Minute

// compactor compacts the logs of one log directory, one at a time. It is the owner's: what blocks is spawned, and comes back as a
// message. A directory where nothing was written to a compacted topic costs nothing.
type compactor struct {
	dir    *seglog.Dir
	lookAt time.Duration // when to look for a log that is due; 0 for never
	busy   bool          // something was spawned or asked for, and has not come back
	job    *compaction
	resume time.Duration // when the job goes on; 0 while it is not held back
}

// compaction is one log's.
type compaction struct {
	part  *part
	work  compact.Work
	pass  *compact.Pass
	begun clock.Now
	step  time.Duration // when the present step was spawned
	done  compact.Done  // before it

	ready *seglog.Rewrite
	over  bool
}

// looked is what a look over a directory's compacted logs found.
type looked struct {
	best  *compaction
	ratio float64 // the greatest
	waits bool
	bad   []*part // that cannot be read, and why
	errs  []error
}

// compactMetrics are what Kafka's cleaner tells.
type compactMetrics struct {
	passes, read, written, out, failures *observe.Counter
	ratio                                atomic.Uint64 // bits of the greatest dirty ratio at the last look
	uncleanable                          atomic.Int64
}

func (o *owner) initCompaction() {
	m := o.deps.Observer.Metrics
	c := &o.compacted
	c.passes = m.Counter("cairn_log_compaction_passes_total")
	c.read = m.Counter("cairn_log_compaction_read_bytes_total")
	c.written = m.Counter("cairn_log_compaction_written_bytes_total")
	c.out = m.Counter("cairn_log_compaction_removed_records_total")
	c.failures = m.Counter("cairn_log_compaction_failures_total")
	m.Gauge("cairn_log_compaction_dirty_ratio_max", func() float64 { return math.Float64frombits(c.ratio.Load()) })
	m.Gauge("cairn_log_compaction_uncleanable_partitions", func() float64 { return float64(c.uncleanable.Load()) })
	for _, dir := range o.deps.Dirs {
		o.compactors = append(o.compactors, &compactor{dir: dir})
	}
}

// compactSoon has the directories looked over: something was written, or settings have changed.
func (o *owner) compactSoon() {
	settings := o.applied.BrokerSettings(o.cfg.BrokerID)
	if !settings.Bool("log.cleaner.enable") {
		return
	}
	for _, c := range o.compactors {
		if c.lookAt == 0 {
			c.lookAt = o.now.Mono + max(settings.Milliseconds("log.cleaner.backoff.ms"), compactBackoffMin)
		}
	}
}

// compactDue does what is due, and returns when the next thing is; 0 for never.
func (o *owner) compactDue() (next time.Duration) {
	for _, c := range o.compactors {
		switch {
		case c.busy:
		case c.job != nil && c.resume <= o.now.Mono:
			o.compactStep(c)
		case c.job != nil:
			next = earlier(next, c.resume)
		case c.lookAt != 0 && c.lookAt <= o.now.Mono:
			c.lookAt = 0
			o.compactLook(c)
		case c.lookAt != 0:
			next = earlier(next, c.lookAt)
		}
	}
	return next
}

func earlier(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// compactLook looks for the log of the directory that is most due.
func (o *owner) compactLook(c *compactor) {
	if c.dir.Failed() != nil {
		return
	}
	var all []*compaction
	for _, p := range o.sorted() {
		if p.phase != phaseOpen || !p.topic.Settings.Compact || p.uncleanable {
			continue
		}
		if v := p.replica.View(); v.Err == nil && v.Log.Dir() == c.dir {
			all = append(all, o.compactionOf(p, v))
		}
	}
	if len(all) == 0 {
		o.compacted.ratio.Store(0)
		return
	}
	c.busy = true
	found := &looked{}
	o.deps.Runtime.Spawn("look over compacted logs", func() { found.run(all) },
		func() { o.box.Post(message{kind: msgCompactLooked, compactor: c, looked: found}) })
}

func (o *owner) compactionOf(p *part, v *replica.View) *compaction {
	t, settings := p.topic.Settings, o.applied.BrokerSettings(o.cfg.BrokerID)
	s := compact.Settings{
		SegmentBytes: p.config.Log.SegmentBytes, IndexBytes: p.config.Log.IndexBytes, IndexInterval: p.config.Log.IndexInterval,
		DeleteRetention: t.DeleteRetention, LagMin: t.MinCompactionLag, LagMax: t.MaxCompactionLag, DirtyRatioMin: t.MinCleanableRatio,
	}
	if s.LagMax == math.MaxInt64 {
		s.LagMax = -1
	}
	good := o.deps.GoodClock != nil && o.deps.GoodClock(o.now)
	return &compaction{part: p, begun: o.now, work: compact.Work{
		View: v.Log, Settings: s, Now: compact.Time{Ms: o.now.UnixMilli(), Good: good},
		Look: compact.Look{Limit: v.LastStable}, // until run has looked
		Bounds: compact.Bounds{
			MapBytesMax:  min(o.cfg.CompactMapBytesMax, settings.Int("log.cleaner.dedupe.buffer.size")),
			MapLoad:      settings.Real("log.cleaner.io.buffer.load.factor"),
			OpenBytesMax: o.cfg.OpenBatchBytesMax,
		},
	}}
}

// run examines the logs, off the owner.
func (l *looked) run(all []*compaction) {
	for _, x := range all {
		w := &x.work
		look, err := compact.Examine(w.View, w.View.Cleaned(), w.Look.Limit, w.Settings, w.Now)
		if err != nil {
			l.bad, l.errs = append(l.bad, x.part), append(l.errs, err)
			continue
		}
		w.Look = look
		l.ratio = max(l.ratio, look.Ratio())
		l.waits = l.waits || look.Waits
		if look.Due(w.Settings) && (l.best == nil || l.best.before(x)) {
			l.best = x
		}
	}
}

// before reports whether another log comes first: one that is overdue, and then the one of which more is dirty.
func (x *compaction) before(y *compaction) bool {
	a, b := x.work.Look, y.work.Look
	if a.Overdue != b.Overdue {
		return b.Overdue
	}
	return b.Ratio() > a.Ratio()
}

// onCompactLooked begins with the log that was found.
func (o *owner) onCompactLooked(c *compactor, l *looked) {
	c.busy = false
	o.compacted.ratio.Store(math.Float64bits(l.ratio))
	for i, p := range l.bad {
		o.compactFailed(c, p, l.errs[i])
	}
	if l.best == nil {
		if l.waits {
			o.compactSoon()
		}
		return
	}
	if o.stopping != nil {
		return
	}
	p := l.best.part
	c.job, c.busy = l.best, true
	// After the view was taken: the last batch of a producer in it is then the last, or another follows behind it.
	p.replica.PostProducers(func(all *partition.Producers, err error) {
		m := message{kind: msgCompactProducers, compactor: c, err: err}
		if err == nil {
			m.producers = lastOf(all)
		}
		o.box.Post(m)
	})
}

// lastOf copies what compaction needs to know of the producers.
func lastOf(all *partition.Producers) map[int64]compact.Last {
	out := make(map[int64]compact.Last, all.Len())
	all.All(func(p *partition.Producer) { out[p.ID] = compact.Last{Offset: p.LastOffset(), Epoch: p.Epoch} })
	return out
}

func (o *owner) onCompactProducers(c *compactor, producers map[int64]compact.Last, err error) {
	c.busy = false
	if err != nil {
		o.compactEnd(c, err)
		return
	}
	c.job.work.Producers = producers
	c.job.pass = compact.NewPass(c.job.work)
	o.compactStep(c)
}

// compactStep takes the pass on, off the owner.
func (o *owner) compactStep(c *compactor) {
	x := c.job
	if o.compactLeft(x) {
		o.compactEnd(c, errLeft)
		return
	}
	budget := int64(compactStepBytes)
	if rate := o.compactRate(); rate < 4*compactStepBytes {
		budget = max(int64(rate/4), 1)
	}
	c.busy, c.resume, x.step, x.done = true, 0, o.now.Mono, x.pass.Done()
	var err error
	o.deps.Runtime.Spawn("compact "+x.part.describe(), func() { x.ready, x.over, err = x.pass.Advance(budget) },
		func() { o.box.Post(message{kind: msgCompacted, compactor: c, err: err}) })
}

// errLeft means that the partition is not to be compacted any more.
var errLeft = errors.New("partition closed, or no longer compacted")

func (o *owner) compactLeft(x *compaction) bool {
	return o.stopping != nil || o.parts[x.part.tp] != x.part || x.part.phase != phaseOpen || !x.part.topic.Settings.Compact
}

// compactRate is log.cleaner.io.max.bytes.per.second.
func (o *owner) compactRate() float64 {
	return max(o.applied.BrokerSettings(o.cfg.BrokerID).Real("log.cleaner.io.max.bytes.per.second"), 1)
}

func (o *owner) onCompacted(c *compactor, err error) {
	x := c.job
	c.busy = false
	done := x.pass.Done()
	o.compacted.read.Add(int(done.Read - x.done.Read))
	o.compacted.written.Add(int(done.Written - x.done.Written))
	wait := float64(done.Read+done.Written-x.done.Read-x.done.Written) / o.compactRate()
	c.resume = x.step + time.Duration(min(wait, 3600)*float64(time.Second))
	switch {
	case err != nil:
		o.compactEnd(c, err)
	case x.ready != nil:
		c.busy = true
		x.part.replica.Replace(x.ready, func(err error) { o.box.Post(message{kind: msgCompactReplaced, compactor: c, err: err}) })
	case x.over:
		c.busy = true
		x.part.replica.Compacted(x.work.View, x.pass.CleanedTo(), func(err error) { o.box.Post(message{kind: msgCompactOver, compactor: c, err: err}) })
	}
}

func (o *owner) onCompactReplaced(c *compactor, err error) {
	c.busy = false
	if err != nil {
		o.compactEnd(c, err)
		return
	}
	c.job.pass.Replaced()
}

// onCompactOver ends a pass that has come through.
func (o *owner) onCompactOver(c *compactor, err error) {
	x := c.job
	c.busy = false
	if err == nil {
		done := x.pass.Done()
		o.compacted.passes.Inc()
		o.compacted.out.Add(int(done.RecordsSeen - done.RecordsOut))
		o.deps.Observer.Log.Info("log compacted", "topic", x.part.tp.Topic, "partition", x.part.tp.Partition, "from", x.work.Look.Dirty,
			"to", x.pass.CleanedTo(), "read_bytes", done.Read, "written_bytes", done.Written, "records", done.RecordsOut,
			"removed_records", done.RecordsSeen-done.RecordsOut, "took", o.now.Mono-x.begun.Mono)
		c.dir.Checkpoint(nil)
	}
	o.compactEnd(c, err)
}

// compactEnd is the end of a job, by an error or none. What it left on disk is removed off the owner.
func (o *owner) compactEnd(c *compactor, err error) {
	x := c.job
	c.job, c.resume = nil, 0
	if err == nil {
		c.lookAt = max(o.now.Mono, 1) // another log may be due
		return
	}
	o.compactFailed(c, x.part, err)
	if x.pass == nil {
		return
	}
	c.busy = true
	var abortErr error
	o.deps.Runtime.Spawn("give up a compaction", func() { abortErr = x.pass.Abort() },
		func() { o.box.Post(message{kind: msgCompactAborted, compactor: c, err: abortErr}) })
}

func (o *owner) onCompactAborted(c *compactor, err error) {
	c.busy = false
	if err != nil && !errors.Is(err, seglog.ErrFailed) && !errors.Is(err, seglog.ErrClosed) {
		o.deps.Observer.Log.Warn("files of a compaction that was given up are left; the next start removes them", "directory", c.dir.Path(), "error", err)
	}
}

// compactFailed decides what an error means: the log went on without us, there is no room now, or the log cannot be compacted, and
// is left alone until its settings change or the box starts again (LogCleanerManager.markPartitionUncleanable).
func (o *owner) compactFailed(c *compactor, p *part, err error) {
	switch {
	case errors.Is(err, errLeft), errors.Is(err, seglog.ErrClosed), errors.Is(err, replica.ErrClosed), errors.Is(err, seglog.ErrFailed):
		o.compactSoon() // others may be due
		return
	case errors.Is(err, seglog.ErrOutOfRange):
		c.lookAt = o.now.Mono + compactRetry
		return
	}
	o.compacted.failures.Inc()
	c.lookAt = o.now.Mono + compactRetry
	if errors.Is(err, seglog.ErrFull) {
		o.deps.Observer.Log.Warn("no room to compact a log; it is tried again", "topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
		return
	}
	o.markUncleanable(p, true)
	o.deps.Observer.Log.Error("log cannot be compacted and is left as it is until its topic's settings change or the box starts again",
		"topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
}

func (o *owner) markUncleanable(p *part, is bool) {
	if p.uncleanable == is {
		return
	}
	p.uncleanable = is
	if is {
		o.compacted.uncleanable.Add(1)
	} else {
		o.compacted.uncleanable.Add(-1)
	}
}

// compactStop gives up what goes on, and reports whether all has ended.
func (o *owner) compactStop() (over bool) {
	over = true
	for _, c := range o.compactors {
		c.lookAt = 0
		if !c.busy && c.job != nil {
			o.compactEnd(c, errLeft)
		}
		over = over && !c.busy
	}
	return over
}
