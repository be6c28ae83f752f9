package seglog

import (
	"errors"
	"maps"
	"slices"

	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// What the checkpoint files of a log directory say, each with its Kafka name.
const (
	points     = iota // recovery points
	starts            // log starts; 0 is left out
	highs             // high watermarks
	cleaned           // where the part begins that was never compacted; 0 is left out
	kindsCount        // of checkpoint files
)

var checkpointNames = [kindsCount]string{nameRecoveryPoints, nameLogStarts, nameHighWatermarks, nameCleaned}

// checkpoints are the contents of all of them. A map that others may read is not changed.
type checkpoints [kindsCount]offsets

func (c checkpoints) clone() checkpoints {
	for i := range c {
		c[i] = maps.Clone(c[i])
	}
	return c
}

// checkpointJob is what the syncer runs for a directory.
type checkpointJob struct{ d *Dir }

// Flush writes the checkpoints.
func (j *checkpointJob) Flush() error { return j.d.checkpoint() }

// Checkpoint moves the recovery points of all logs to what is flushed, and writes the recovery-point, log-start and
// replication-offset checkpoints where they changed, by the syncer. done, which may be nil, is called once and must only
// post. The directory asks for it by itself when enough log is dirty; nothing is written while nothing changes. Errors: ErrFull, ErrFailed,
// syncer.ErrClosed.
func (d *Dir) Checkpoint(done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	d.syncer.Submit(syncer.Checkpoint, &d.job, done)
}

// flushed counts bytes that are durable and not yet vouched for, and asks for a checkpoint when they are many.
func (d *Dir) flushed(bytes int64) {
	if d.dirtyBytes.Add(bytes) >= d.cfg.Limits.DirtyBytesMax && d.asked.CompareAndSwap(false, true) {
		d.Checkpoint(func(error) { d.asked.Store(false) })
	}
}

// checkpoint decides what the files shall say and writes those that change. Order: first a log's flushed end is read, then its indexes
// are synced, then the point is written: whatever the point vouches for, log and index, is durable.
func (d *Dir) checkpoint() error {
	d.checkpointing.Lock()
	defer d.checkpointing.Unlock()
	if err := d.Failed(); err != nil {
		return err
	}
	d.mu.Lock()
	logs := make([]*Log, 0, len(d.logs))
	for _, l := range d.logs {
		logs = append(logs, l)
	}
	now := d.says.clone()
	for tp, f := range d.finals {
		now[points][tp] = f.point
		set(now[starts], tp, f.start)
		if f.high >= 0 {
			now[highs][tp] = f.high
		}
		set(now[cleaned], tp, f.cleaned)
	}
	d.mu.Unlock()
	d.dirtyBytes.Store(0)
	slices.SortFunc(logs, func(a, b *Log) int { return a.tp.Compare(b.tp) }) // one seed of the simulation is one trace

	for _, l := range logs {
		if err := l.vouch(now); err != nil {
			return err
		}
	}
	err := d.writePoints(now)
	if errors.Is(err, ErrFull) {
		// Space comes before order: what was to go after the new start is durable goes now, oldest first.
		d.release(func(doomed) bool { return true })
	}
	if err != nil {
		return err
	}
	for _, l := range logs {
		l.mu.Lock()
		l.vouched = now[points][l.tp]
		l.mu.Unlock()
	}
	d.release(func(x doomed) bool { return now[starts][x.log.tp] >= x.end })
	d.checkpoints.Inc()
	return nil
}

// vouch adds a log's values to the checkpoints.
func (l *Log) vouch(now checkpoints) error {
	l.mu.Lock()
	cuts, end, start, deleted := l.view.cuts, l.flushedEnd.Load(), l.view.start, l.deleted
	l.mu.Unlock()
	if deleted {
		return nil
	}
	if err := l.syncIndexes(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.view.cuts == cuts { // else the owner is truncating, and waits to lower the point
		now[points][l.tp] = end
		set(now[cleaned], l.tp, l.cleaned.Load())
	}
	set(now[starts], l.tp, start)
	if high := l.highWatermark.Load(); high >= 0 {
		now[highs][l.tp] = high
	}
	return nil
}

// set stores an offset; 0 is what a missing entry says.
func set(o offsets, tp TopicPartition, offset int64) {
	if offset == 0 {
		delete(o, tp)
		return
	}
	o[tp] = offset
}

// writePoints writes the checkpoint files that differ from what is on disk. d.checkpointing is held.
func (d *Dir) writePoints(now checkpoints) error {
	d.mu.Lock()
	was := d.says
	d.mu.Unlock()
	wrote := false
	for i, name := range checkpointNames {
		if maps.Equal(was[i], now[i]) {
			continue
		}
		if err := writeFile(d.fs, d.cfg.Path+"/"+name, now[i].encode()); err != nil {
			return d.check("write checkpoint", err)
		}
		wrote = true
	}
	if !wrote {
		return nil
	}
	if err := syncDir(d.fs, d.cfg.Path); err != nil {
		return d.fail("sync "+d.cfg.Path, err)
	}
	d.mu.Lock()
	d.says = now
	d.mu.Unlock()
	return nil
}

// pointsOf is what the checkpoints say of a log: its start and its recovery point.
func (d *Dir) pointsOf(tp TopicPartition) (start, point int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f, ok := d.finals[tp]; ok {
		return f.start, f.point
	}
	return d.says[starts][tp], d.says[points][tp]
}

// cleanedOf is what the checkpoint says about how far a log was compacted.
func (d *Dir) cleanedOf(tp TopicPartition) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f, ok := d.finals[tp]; ok {
		return f.cleaned
	}
	return d.says[cleaned][tp]
}

// HighWatermark is what replication-offset-checkpoint says of a partition.
func (d *Dir) HighWatermark(tp TopicPartition) (int64, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	offset, ok := d.says[highs][tp]
	return offset, ok
}

// lowerPoint makes a log end at end, for readers and flushes at once and in the recovery-point checkpoint durably, before
// anything of it is cut. A start of 0 or more becomes the log's start as well. The owner calls it.
func (d *Dir) lowerPoint(l *Log, end, start int64) error {
	d.checkpointing.Lock()
	defer d.checkpointing.Unlock()
	d.mu.Lock()
	now := d.says.clone()
	d.mu.Unlock()
	now[points][l.tp] = min(now[points][l.tp], end)
	if start >= 0 {
		set(now[starts], l.tp, start)
	}
	if high, ok := now[highs][l.tp]; ok {
		now[highs][l.tp] = min(high, end)
	}
	clean := min(l.cleaned.Load(), end) // what comes there next was never compacted
	set(now[cleaned], l.tp, min(now[cleaned][l.tp], end))
	if err := d.writePoints(now); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view.cuts++
	l.cleaned.Store(clean)
	l.highWatermark.Store(min(l.highWatermark.Load(), end))
	l.vouched = now[points][l.tp]
	l.flushedEnd.Store(min(l.flushedEnd.Load(), end))
	l.view.end = min(l.view.end, end)
	if start >= 0 {
		l.view.start, l.view.end = start, end
		l.view.epochs, l.unsaved = nil, true
		l.flushedEnd.Store(end)
	}
	l.view.hint = hint{}
	return nil
}

// forgetPoints removes a partition from the checkpoints, durably if they vouched for something: a new partition of that
// name must not inherit it.
func (d *Dir) forgetPoints(tp TopicPartition) error {
	d.checkpointing.Lock()
	defer d.checkpointing.Unlock()
	d.mu.Lock()
	now := d.says.clone()
	delete(d.finals, tp)
	d.mu.Unlock()
	for i := range now {
		delete(now[i], tp)
	}
	return d.writePoints(now)
}

// doom notes removed segments, to be unlinked once a checkpoint holds the start behind them: were they unlinked before, a
// crash could leave a hole, with an older one back and a newer one gone.
func (d *Dir) doom(segments []doomed) {
	d.mu.Lock()
	d.doomed = append(d.doomed, segments...)
	d.mu.Unlock()
	d.Checkpoint(nil)
}

// release lets Sweep unlink the doomed segments that may go. Those of one log stay in their order.
func (d *Dir) release(may func(doomed) bool) {
	d.mu.Lock()
	var kept []doomed
	for _, x := range d.doomed {
		if may(x) {
			d.ready = append(d.ready, x)
		} else {
			kept = append(kept, x)
		}
	}
	released := len(d.doomed) > len(kept)
	d.doomed = kept
	d.mu.Unlock()
	if released {
		d.askSweep()
	}
}

func (d *Dir) askSweep() {
	if d.cfg.OnSweep != nil {
		d.cfg.OnSweep()
	}
}

// dropDoomed forgets doomed segments whose names go with their directory. d.sweeping is held.
func (d *Dir) dropDoomed(which func(doomed) bool) (dropped []doomed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, list := range []*[]doomed{&d.doomed, &d.ready} {
		var kept []doomed
		for _, x := range *list {
			if which(x) {
				dropped = append(dropped, x)
			} else {
				kept = append(kept, x)
			}
		}
		*list = kept
	}
	return dropped
}

// unlinkDoomed unlinks a log's removed segments at once, because their names may be used again.
func (d *Dir) unlinkDoomed(l *Log) error {
	d.sweeping.Lock()
	defer d.sweeping.Unlock()
	for _, x := range d.dropDoomed(func(x doomed) bool { return x.log == l }) {
		if err := x.files.unlinkAs(x.suffix); err != nil {
			return d.fail("unlink "+x.files.logName, err)
		}
	}
	return nil
}

// Sweep unlinks what removed segments and deleted partitions left behind, at most filesMax files. It reports whether more
// is left. It waits for the device: Spawn it, when OnSweep says so and at the start.
func (d *Dir) Sweep(filesMax int) (more bool, err error) {
	if err := d.Failed(); err != nil {
		return false, err
	}
	d.sweeping.Lock()
	defer d.sweeping.Unlock()
	for filesMax > 0 {
		d.mu.Lock()
		if len(d.ready) == 0 {
			d.mu.Unlock()
			break
		}
		x := d.ready[0]
		d.mu.Unlock()
		if err := x.files.unlinkAs(x.suffix); err != nil {
			return true, d.check("unlink "+x.files.logName, err)
		}
		d.mu.Lock()
		d.ready = d.ready[1:]
		d.mu.Unlock()
		filesMax -= 3
		d.room.Store(0) // look at the free space again
	}
	for filesMax > 0 {
		d.mu.Lock()
		if len(d.retired) == 0 {
			d.mu.Unlock()
			break
		}
		path := d.retired[0]
		d.mu.Unlock()
		n, err := d.sweepDirectory(path, filesMax)
		if err != nil {
			return true, err
		}
		filesMax -= n
		d.room.Store(0)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.ready) > 0 || len(d.retired) > 0, nil
}

// sweepDirectory unlinks up to filesMax files of a retired directory, and the directory after the last.
func (d *Dir) sweepDirectory(path string, filesMax int) (int, error) {
	infos, err := d.fs.List(path)
	if err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return 0, d.check("list "+path, err)
	}
	all := len(infos)
	infos = slices.DeleteFunc(infos, func(info vfs.Info) bool { return info.IsDir })
	n := min(len(infos), filesMax)
	for _, info := range infos[:n] {
		if err := d.fs.Remove(path + "/" + info.Name); err != nil && !errors.Is(err, vfs.ErrNotExist) {
			return 0, d.check("unlink "+path, err)
		}
	}
	if n < len(infos) {
		return n, nil
	}
	if len(infos) < all {
		d.log.Warn("a directory of a deleted partition stays: it holds directories, and none of ours does", "path", path)
	} else if err := d.fs.Remove(path); err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return 0, d.check("unlink "+path, err)
	}
	d.mu.Lock()
	d.retired = d.retired[1:]
	d.mu.Unlock()
	return n + 1, nil
}
