package seglog

import (
	"fmt"

	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// flushJob is what the syncer runs for a log. Its address identifies the log's flushes, so that many ask for one.
type flushJob struct{ l *Log }

// Flush makes durable what was appended before it was called.
func (j *flushJob) Flush() error {
	_, err := j.flush()
	return err
}

// Flush makes durable what was appended before the call; behind says that nobody waits for it (syncer.Behind). done is called once, on a goroutine of the syncer or on the
// caller's if there is nothing to do, and must only post; it gets the offset before which everything is durable.
func (l *Log) Flush(behind bool, done func(flushedEnd int64, err error)) {
	if err := l.usable(); err != nil {
		done(l.FlushedEnd(), err)
		return
	}
	if !l.needsFlush() {
		done(l.FlushedEnd(), nil)
		return
	}
	class := syncer.Log
	if behind {
		class = syncer.Behind
	}
	l.dir.syncer.Submit(class, &l.job, func(err error) {
		done(l.FlushedEnd(), err)
	})
}

func (l *Log) needsFlush() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flushedEnd.Load() < l.view.end || len(l.dirty) > 0 || len(l.dirtyNames) > 0 || l.dirtyDir || l.dirtyRoot
}

// askFlush asks for a flush once too much is unflushed or a segment was sealed, on topics whose producers do not wait for one.
func (l *Log) askFlush(sealed bool) {
	l.mu.Lock()
	due := sealed || l.unflushed >= l.cfg.UnflushedBytesMax
	l.mu.Unlock()
	if due && l.asked.CompareAndSwap(false, true) {
		l.dir.syncer.Submit(syncer.Log, &l.job, func(error) { l.asked.Store(false) })
	}
}

// flush syncs the dirty segments in order, then the other dirty files, then the directories. It runs on the syncer's
// goroutines, and on the owner's at Close.
func (j *flushJob) flush() (int64, error) {
	l := j.l
	l.flushing.Lock()
	defer l.flushing.Unlock()
	if err := l.dir.Failed(); err != nil {
		return l.FlushedEnd(), err
	}
	l.mu.Lock()
	if l.deleted {
		l.mu.Unlock()
		return l.FlushedEnd(), fmt.Errorf("flush %v: %w", l.tp, ErrClosed)
	}
	segments, names, dir, root := l.dirty, l.dirtyNames, l.dirtyDir, l.dirtyRoot
	l.dirty, l.dirtyNames, l.dirtyDir, l.dirtyRoot = nil, nil, false, false
	end, position, active := l.view.end, l.view.tail.size, l.view.segs[len(l.view.segs)-1].files
	cuts, bytes := l.view.cuts, l.unflushed
	l.unflushed = 0
	l.mu.Unlock()

	err := l.syncAll(segments, names, dir, root)
	for _, s := range segments {
		s.handle.Release()
	}
	if isGone(err) && l.isDeleted() {
		return l.FlushedEnd(), fmt.Errorf("flush %v: %w", l.tp, ErrClosed)
	}
	if err != nil {
		return l.FlushedEnd(), l.dir.fail(fmt.Sprintf("flush %v", l.tp), err)
	}

	l.mu.Lock()
	if l.view.cuts == cuts && end > l.flushedEnd.Load() {
		l.flushedEnd.Store(end)
		l.view.hint = hint{files: active, offset: end, position: position}
	}
	l.mu.Unlock()
	l.dir.flushed(bytes)
	return l.FlushedEnd(), nil
}

func (l *Log) syncAll(segments []dirtySegment, names []string, dir, root bool) error {
	for _, s := range segments {
		if s.files.gone.Load() {
			continue
		}
		if err := s.handle.File().Sync(); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := l.syncName(name); err != nil {
			return err
		}
	}
	if dir {
		if err := syncDir(l.dir.fs, l.path); err != nil {
			return err
		}
	}
	if root {
		return syncDir(l.dir.fs, l.dir.cfg.Path)
	}
	return nil
}

// syncName syncs a file by name; one that is gone needs none.
func (l *Log) syncName(name string) error {
	f, err := l.dir.fs.Open(name, vfs.ReadWrite)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	err = synced(f.Sync())
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// syncIndexes syncs the index files that were written since the last time and the leader-epoch checkpoint, so that the recovery
// point may pass. A checkpoint that could not be written for lack of space is written again; a sync is not. It runs on the goroutine of the directory's checkpoint, or the owner's at Close.
func (l *Log) syncIndexes() error {
	l.mu.Lock()
	files, unsaved, known := l.unindexed, l.unsaved, l.view.epochs
	unnamed, unkept := l.unnamed, l.unkept
	l.unindexed, l.unsaved, l.unnamed, l.unkept = nil, false, false, ""
	deleted := l.deleted
	l.mu.Unlock()
	if deleted {
		return nil
	}
	err := l.syncIndexFiles(files)
	if err == nil && unnamed {
		err = l.syncName(l.path + "/" + namePartition)
	}
	if err == nil && unkept != "" {
		err = l.syncName(unkept)
	}
	if err == nil && unsaved {
		err = writeFile(l.dir.fs, l.path+"/"+nameEpochs, known.encode())
		if isGone(err) && l.isDeleted() {
			err = nil
		}
	}
	if err == nil && (len(files) > 0 || unsaved || unnamed || unkept != "") {
		err = syncDir(l.dir.fs, l.path)
		if isGone(err) && l.isDeleted() {
			err = nil
		}
	}
	if err != nil {
		l.mu.Lock()
		l.unindexed = append(files, l.unindexed...)
		l.unsaved, l.unnamed = l.unsaved || unsaved, l.unnamed || unnamed
		if l.unkept == "" {
			l.unkept = unkept // a later one stands for these segments too
		}
		l.mu.Unlock()
		return l.dir.check(fmt.Sprintf("sync indexes of %v", l.tp), err)
	}
	return nil
}

func (l *Log) isDeleted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deleted
}

func (l *Log) syncIndexFiles(files []*segmentFiles) error {
	for _, f := range files {
		for _, suffix := range [...]string{suffixIndex, suffixTime, suffixTxn} {
			if f.gone.Load() {
				break
			}
			if err := l.syncName(f.name(suffix)); err != nil {
				return err
			}
		}
	}
	return nil
}
