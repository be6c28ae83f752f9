package topics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"time"

	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
)

// openNext opens as many queued partitions as may be opened at the same time.
func (o *owner) openNext() {
	for len(o.queue) > 0 && o.opening < o.cfg.OpensMax && o.stopping == nil {
		p := o.queue[0]
		o.queue[0] = nil
		o.queue = o.queue[1:]
		if p.phase != phaseQueued || o.parts[p.tp] != p {
			continue // dropped while it waited
		}
		if o.cfg.PartitionsMax > 0 && o.held >= o.cfg.PartitionsMax && !p.remove {
			o.offline(p, fmt.Errorf("this box holds its maximum of %d partitions", o.cfg.PartitionsMax))
			continue
		}
		dir, err := o.directoryOf(p)
		if err != nil {
			o.offline(p, err)
			continue
		}
		p.phase, p.held = phaseOpening, true
		o.opening++
		o.held++
		work := opening{dir: dir, shards: o.deps.Shards, tp: p.tp, topicID: seglog.ID(p.topicID), config: p.config, remove: p.remove, anew: p.anew}
		if p.topic.Partition(p.tp.Partition).CountsOn(o.cfg.BrokerID) {
			work.others = slices.DeleteFunc(slices.Clone(o.deps.Dirs), func(d *seglog.Dir) bool { return d == dir })
		}
		var opened *replica.Replica
		var openErr error
		o.deps.Runtime.Spawn("open "+p.describe(), func() {
			opened, openErr = work.run()
		}, func() {
			o.box.Post(message{kind: msgOpened, part: p, replica: opened, err: openErr})
		})
	}
}

// refusedAgain is the pause before that.
const refusedAgain = 5 * time.Second

// openRefused tries again to open what a full device refused.
func (o *owner) openRefused() {
	for _, p := range o.sorted() {
		if p.phase == phaseOffline && errors.Is(p.err, seglog.ErrFull) {
			p.phase, p.err = phaseQueued, nil
			o.queue = append(o.queue, p)
		}
	}
	o.openNext()
}

// opening is the opening of one partition, off the owner.
type opening struct {
	dir     *seglog.Dir
	shards  *replica.Shards
	tp      seglog.TopicPartition
	topicID seglog.ID
	config  *replica.Config
	remove  bool // it is opened to be deleted
	anew    bool // what is there is damaged or lost, and others have all of it
	// others are the other log directories of the box, where the catalog counts on the replica.
	others []*seglog.Dir
}

// run opens the partition's log, or creates the log of a replica that is new here.
func (w *opening) run() (*replica.Replica, error) {
	log, err := w.openLog()
	if err != nil {
		return nil, err
	}
	hw, _ := w.dir.HighWatermark(w.tp)
	r, err := w.shards.Open(log, hw, w.config)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return r, nil
}

// openLog opens the log. A partition that the directory's checkpoint knows but that is not there was lost: it is never
// made empty.
func (w *opening) openLog() (*seglog.Log, error) {
	if w.anew && !w.remove {
		return w.beginAnew("what is damaged, and others have")
	}
	log, err := w.dir.Open(w.tp, w.config.Log)
	if w.remove && errors.Is(err, seglog.ErrCorrupt) {
		log, err = w.dir.OpenDamaged(w.tp, w.config.Log) // what is damaged goes with the rest
	}
	_, known := w.dir.HighWatermark(w.tp)
	switch {
	case err == nil && log.TopicID() == w.topicID:
		return log, nil
	case err == nil && log.TopicID().IsZero():
		if err := log.AssignTopicID(w.topicID); err != nil {
			return nil, errors.Join(err, log.Close())
		}
		return log, nil
	case w.remove && err != nil:
		return nil, err
	case err == nil:
		if err := log.Close(); err != nil {
			return nil, err
		}
		return w.beginAnew("the directory of another topic of that name")
	case errors.Is(err, seglog.ErrNotExist):
		if known {
			return nil, fmt.Errorf("its directory in %s is missing although the checkpoint there knows it: %w", w.dir.Path(), errLost)
		}
		if other := w.elsewhere(); other != nil {
			return nil, fmt.Errorf("it is counted on in %s, and its log lies in %s: %w", w.dir.Path(), other.Path(), errLost)
		}
		return w.dir.Create(w.tp, w.topicID, w.config.Log)
	case errors.Is(err, seglog.ErrCorrupt) && w.anothers():
		return w.beginAnew("the damaged directory of another topic of that name")
	case !known && namelessAfterCrash(err):
		return w.beginAnew("a directory whose creation a crash has cut")
	}
	return nil, err
}

// beginAnew sets aside what is there, and creates the log; for a partition that is to be deleted setting aside is all.
func (w *opening) beginAnew(what string) (*seglog.Log, error) {
	if err := w.dir.SetAside(w.tp); err != nil && !(w.anew && errors.Is(err, seglog.ErrNotExist)) {
		return nil, fmt.Errorf("set aside %s: %w", what, err)
	}
	if w.remove {
		return nil, seglog.ErrNotExist
	}
	return w.dir.Create(w.tp, w.topicID, w.config.Log)
}

// elsewhere is another log directory that has the replica's log, where the catalog counts on what is in it: an empty log in
// the named one would pose as full.
func (w *opening) elsewhere() *seglog.Dir {
	for _, d := range w.others {
		if id, err := d.TopicID(w.tp); err == nil && id == w.topicID {
			return d
		}
	}
	return nil
}

// anothers reports whether the partition's directory carries the id of another topic.
func (w *opening) anothers() bool {
	id, err := w.dir.TopicID(w.tp)
	return err == nil && !id.IsZero() && id != w.topicID
}

// namelessAfterCrash reports whether err is about the file with the topic's id. It is flushed with the first records;
// where no high watermark was ever written either, there were none.
func namelessAfterCrash(err error) bool {
	var damage *seglog.CorruptionError
	return errors.As(err, &damage) && path.Base(damage.File) == "partition.metadata"
}

func (o *owner) onOpened(p *part, r *replica.Replica, err error) {
	o.opening--
	if err != nil {
		o.release(p)
		if o.stopping != nil {
			o.forget(p)
			o.finishStop()
			return
		}
		o.offline(p, err)
		if p.phase == phaseOffline && o.misplaced(p) {
			o.moveTo(p)
		}
		return
	}
	p.phase, p.replica, p.anew = phaseOpen, r, false
	o.serves(p, true)
	if p.remove || o.stopping != nil {
		o.closePart(p)
		return
	}
	if o.misplaced(p) {
		o.moveTo(p)
		return
	}
	o.table.set(p.tp.Topic, p.tp.Partition, entry{replica: r})
	p.settings = p.topic.Settings
	if r.View().Config != p.config {
		r.SetConfig(p.config)
	}
	o.applyLeadership(p)
}

func (o *owner) offline(p *part, err error) {
	if p.remove {
		if !errors.Is(err, seglog.ErrNotExist) {
			o.deps.Observer.Log.Warn("a deleted partition's files could not be removed; the next start sets them aside",
				"topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
		}
		o.forget(p)
		return
	}
	o.serves(p, false)
	again := p.anew // it has failed to begin anew: not at once once more
	p.anew = false
	p.phase, p.err = phaseOffline, fmt.Errorf("%w: %s: %w", ErrOffline, p.describe(), err)
	o.table.set(p.tp.Topic, p.tp.Partition, entry{err: p.err})
	level, full := slog.LevelError, errors.Is(err, seglog.ErrFull)
	if p.refused && full {
		level = slog.LevelDebug // it was said
	}
	if p.refused = full; full && o.refusedAt == 0 {
		o.refusedAt = o.now.Mono + refusedAgain
	}
	o.deps.Observer.Log.Log(context.Background(), level, "partition is offline", "topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
	if !again {
		o.renew(p)
	}
}

// closePart ends a partition here, with its files where it was deleted.
func (o *owner) closePart(p *part) {
	p.phase = phaseClosing
	o.closing++
	o.table.remove(p.tp.Topic, p.tp.Partition)
	if p.leading {
		p.leading, p.led = false, false
		o.tell(p, false)
	}
	o.followNobody(p)
	p.replica.Close(p.remove, func(err error) {
		o.box.Post(message{kind: msgClosed, part: p, err: err})
	})
}

func (o *owner) onClosed(p *part, err error) {
	o.closing--
	o.release(p)
	if err != nil {
		o.deps.Observer.Log.Error("partition not closed cleanly", "topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
		if o.stopping != nil || !errors.Is(err, seglog.ErrFailed) { // else it was left for a directory that works
			o.stopErr = errors.Join(o.stopErr, err)
		}
	}
	if p.remove && o.stopping == nil {
		o.sweep()
	}
	o.forget(p)
	if o.stopping != nil {
		o.finishStop()
	}
}

// release gives back a partition's place among those that are open.
func (o *owner) release(p *part) {
	if p.held {
		p.held = false
		o.held--
	}
}

// forget removes a partition; one of the same name that the catalog gives this box meanwhile is taken up.
func (o *owner) forget(p *part) {
	if o.parts[p.tp] != p {
		return
	}
	delete(o.parts, p.tp)
	o.serves(p, true)
	if p.remove {
		delete(o.found, p.tp)
	}
	o.markUncleanable(p, false)
	o.table.remove(p.tp.Topic, p.tp.Partition)
	if o.stopping != nil {
		return
	}
	if t := o.applied.Topic(p.tp.Topic); t != nil && !t.Deleting {
		if cp := t.Partition(p.tp.Partition); cp.Holds(o.cfg.BrokerID) && cp.HasState {
			o.add(p.tp, t, o.configOf(t))
		}
	}
}

// stop closes everything, and answers when the last one is closed.
func (o *owner) stop(stopped func(error)) {
	o.stopping = stopped
	for _, p := range o.queue {
		if p != nil && p.phase == phaseQueued {
			o.forget(p)
		}
	}
	o.queue = nil
	for _, p := range o.sorted() {
		switch p.phase {
		case phaseOpen:
			o.closePart(p)
		case phaseOffline:
			o.forget(p)
		}
	}
	o.finishStop()
}

func (o *owner) finishStop() {
	if o.opening == 0 && o.closing == 0 && !o.sweeping && o.stopping != nil && o.compactStop() {
		stopped := o.stopping
		o.stopping = func(error) {}
		stopped(o.stopErr)
	}
}
