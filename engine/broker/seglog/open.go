package seglog

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"cairn/platform/vfs"
)

// Create makes an empty log that starts at offset 0. It is durable once a Flush of the log has completed. Errors:
// ErrExist, ErrFull, ErrInvalid for a name or settings that cannot be.
func (d *Dir) Create(tp TopicPartition, topicID ID, cfg Config) (*Log, error) {
	if err := d.Failed(); err != nil {
		return nil, err
	}
	if err := errors.Join(tp.check(), cfg.Validate()); err != nil {
		return nil, fmt.Errorf("create %v: %w", tp, err)
	}
	path := d.cfg.Path + "/" + tp.String()
	if _, err := d.fs.Stat(path); err == nil {
		return nil, fmt.Errorf("create %v: %w", tp, ErrExist)
	} else if !errors.Is(err, vfs.ErrNotExist) {
		return nil, d.check("create partition", err)
	}
	if err := d.take(0); err != nil {
		return nil, fmt.Errorf("create %v: %w", tp, err)
	}
	// What an older partition of this name left in the checkpoints must not vouch for the new one.
	if err := d.forgetPoints(tp); err != nil {
		return nil, fmt.Errorf("create %v: %w", tp, err)
	}
	if err := d.fs.MkdirAll(path); err != nil {
		return nil, d.check("create partition", err)
	}
	l := d.newLog(tp, topicID, cfg)
	if err := l.AssignTopicID(topicID); err != nil {
		return nil, d.undoCreate(path, err)
	}
	files := newSegmentFiles(d, path, 0)
	if err := l.createFiles(files); err != nil {
		return nil, d.undoCreate(path, err)
	}
	l.begin(files, 0, 0, func(segs []*segment) []*segment { return segs })
	return l, d.register(l)
}

// AssignTopicID gives the log of a directory without partition.metadata its topic's id, durable with the next flush (Kafka:
// LogManager's assignTopicId). Such a directory is an empty log's whose creation a power cut has cut, or was written before topics had
// ids. It comes before anything else is done with the log.
func (l *Log) AssignTopicID(id ID) error {
	name := l.path + "/" + namePartition
	f, err := l.dir.fs.Open(name, vfs.Create)
	if err == nil {
		_, err = f.WriteAt(encodeTopicID(id), 0)
		_ = f.Close()
	}
	if err != nil {
		return l.dir.check("name the topic's id", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id, l.unnamed, l.dirtyRoot, l.dirtyDir, l.dirtyNames = id, true, true, true, append(l.dirtyNames, name)
	return nil
}

// undoCreate removes a directory whose creation ended with err, which it returns.
func (d *Dir) undoCreate(path string, err error) error {
	if d.Failed() == nil {
		if infos, listErr := d.fs.List(path); listErr == nil {
			for _, info := range infos {
				_ = d.fs.Remove(path + "/" + info.Name)
			}
			_ = d.fs.Remove(path)
		}
	}
	return err
}

func (d *Dir) newLog(tp TopicPartition, id ID, cfg Config) *Log {
	l := &Log{dir: d, tp: tp, id: id, cfg: cfg, path: d.cfg.Path + "/" + tp.String()}
	l.job.l = l
	l.highWatermark.Store(-1)
	l.view.log = l
	l.view.removable = cfg.DeleteOld && !cfg.RefuseWhenFull
	return l
}

// Recovery is what opening a log found and did.
type Recovery struct {
	// Cut says that bytes were removed: CutFile names the file, CutPosition where, CutBytes how many (later segments
	// included), CutCause why.
	Cut         bool
	CutFile     string
	CutPosition int64
	CutBytes    int64
	CutCause    error
	// Rebuilt counts segments whose indexes were made anew; Verified the bytes of log that were read with their CRC.
	Rebuilt  int
	Verified int64
}

// Open opens and recovers a log. After a clean stop it reads the end of the newest segment alone; otherwise also what the
// recovery point does not vouch for, and cuts it at the first batch that is not whole. Errors: ErrNotExist; ErrCorrupt, naming file
// and position, for damage in what is vouched for; ErrFull if there is no room to repair an index; ErrExist if it is open. It may be called from
// several goroutines for different logs.
func (d *Dir) Open(tp TopicPartition, cfg Config) (*Log, error) {
	return d.open(tp, cfg, false)
}

// OpenDamaged is Open for an operator who accepts the loss: damage in what is vouched for ends the log there.
func (d *Dir) OpenDamaged(tp TopicPartition, cfg Config) (*Log, error) {
	return d.open(tp, cfg, true)
}

func (d *Dir) open(tp TopicPartition, cfg Config, acceptLoss bool) (*Log, error) {
	if err := d.Failed(); err != nil {
		return nil, err
	}
	if err := errors.Join(tp.check(), cfg.Validate()); err != nil {
		return nil, fmt.Errorf("open %v: %w", tp, err)
	}
	d.mu.Lock()
	again := d.logs[tp] != nil
	d.mu.Unlock()
	if again { // its recovery would cut what the first one is writing
		return nil, fmt.Errorf("open %v: it is open: %w", tp, ErrExist)
	}
	l := d.newLog(tp, ID{}, cfg)
	o := opening{d: d, l: l, acceptLoss: acceptLoss, read: map[*segmentFiles]bool{}}
	if err := o.run(); err != nil {
		return nil, fmt.Errorf("open %v: %w", tp, o.explain(err))
	}
	l.recovery = o.report
	if o.report.Cut {
		d.cutBytes.Add(int(o.report.CutBytes))
		d.log.Warn("log cut after an unclean stop", "partition", tp.String(), "file", o.report.CutFile,
			"position", o.report.CutPosition, "bytes", o.report.CutBytes, "cause", o.report.CutCause)
	}
	if err := d.register(l); err != nil {
		return nil, err
	}
	d.flushed(o.report.Verified)
	return l, nil
}

// explain turns an error of a run into one of the package's.
func (o *opening) explain(err error) error {
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFull) || errors.Is(err, ErrFailed) {
		return err
	}
	if errors.Is(err, vfs.ErrNotExist) {
		if _, statErr := o.d.fs.Stat(o.l.path); errors.Is(statErr, vfs.ErrNotExist) {
			return ErrNotExist
		}
	}
	return o.d.check("read the log", err)
}

// Recovery is what opening this log found and did.
func (l *Log) Recovery() Recovery { return l.recovery }

// opening is one run of the recovery.
type opening struct {
	d          *Dir
	l          *Log
	acceptLoss bool
	report     Recovery

	start, point int64 // log start and recovery point of the checkpoints
	must         int64 // offset before which nothing may be missing: the point, unless all before it was deleted
	known        epochs
	saved        epochs  // as the checkpoint has them
	collect      *epochs // where batches' epochs go; nil while they need not be read
	segs         []*segment
	read         map[*segmentFiles]bool // those that the point does not vouch for as a whole, and those that were cut
	last         loaded
	changed      bool // something was written or is not vouched for
}

func (o *opening) run() error {
	d, l := o.d, o.l
	files, err := d.tidy(l.path)
	if err != nil {
		return err
	}
	if id, err := readTopicID(d.fs, l.path+"/"+namePartition); err == nil {
		l.id = id
	} else if !errors.Is(err, vfs.ErrNotExist) {
		return err
	}
	o.start, o.point = d.pointsOf(l.tp)
	l.cleaned.Store(d.cleanedOf(l.tp))
	if o.acceptLoss {
		o.point = 0
	}
	if o.point > o.start {
		o.must = o.point
	}
	bases := slices.Sorted(maps.Keys(files.logs))
	for len(bases) > 1 && bases[1] <= o.start {
		if err := newSegmentFiles(d, l.path, bases[0]).unlink(); err != nil {
			return err
		}
		bases = bases[1:]
	}
	if len(bases) == 0 && o.must > 0 {
		return &CorruptionError{l.path, 0, fmt.Errorf("no segments, records up to offset %d are vouched for", o.point)}
	}
	if err := o.readEpochs(len(bases)); err != nil {
		return err
	}
	if err := o.readSegments(bases, files); err != nil {
		return err
	}
	return o.finish(files)
}

// readEpochs reads the leader-epoch checkpoint. A missing or damaged one is rebuilt from the headers of all batches.
func (o *opening) readEpochs(segments int) error {
	known, err := readEpochs(o.d.fs, o.l.path+"/"+nameEpochs)
	switch {
	case err == nil:
		// Epochs beyond the recovery point come from the batches again.
		o.known, o.saved = known, known
		if o.d.clean {
			break
		}
		if len(known) > 0 && known[0].StartOffset > o.start && segments > 0 {
			// They were cut for a start that did not become durable: of what lies before it the batches know alone.
			o.known = nil
			if err := o.scanEpochs(min(o.point, known[0].StartOffset)); err != nil {
				return err
			}
			known = o.known.before(known)
		}
		o.known = known.cutEnd(max(o.point, o.start))
	case errors.Is(err, vfs.ErrNotExist) || errors.Is(err, ErrCorrupt) || isShort(err):
		if segments > 0 && o.point > 0 {
			o.d.rebuilt.Inc()
			o.d.log.Warn("leader epochs are rebuilt from the batches", "partition", o.l.tp.String(), "cause", err)
			if err := o.scanEpochs(o.point); err != nil {
				return err
			}
		}
		o.l.unsaved = true
	default:
		return err
	}
	o.collect = &o.known
	return nil
}

// scanEpochs collects epochs from the headers of all batches before an offset, up to which the log is vouched for.
func (o *opening) scanEpochs(until int64) error {
	files, err := listPartition(o.d.fs, o.l.path)
	if err != nil {
		return err
	}
	for _, base := range slices.Sorted(maps.Keys(files.logs)) {
		if base >= until {
			break
		}
		f, err := o.d.fs.Open(o.l.path+"/"+offsetName(base)+suffixLog, vfs.ReadOnly)
		if err != nil {
			return err
		}
		r := newBatchReader(f, 0, files.logs[base], make([]byte, scanSize))
		for {
			ok, err := r.next()
			if err != nil && !errors.Is(err, errDamaged) {
				_ = f.Close()
				return err
			}
			if err != nil || !ok || r.h.BaseOffset >= until {
				break
			}
			o.known = o.known.assign(r.h.LeaderEpoch, r.h.BaseOffset)
		}
		_ = f.Close()
	}
	return nil
}

// readSegments goes through the segments in order and stops where the log ends.
func (o *opening) readSegments(bases []int64, found foundFiles) error {
	d, l := o.d, o.l
	for i, base := range bases {
		files := newSegmentFiles(d, l.path, base)
		next := int64(math.MaxInt64)
		if i+1 < len(bases) {
			next = bases[i+1]
		}
		size := found.logs[base]
		// A segment that ends at the recovery point itself may have been cut there, and the cut not be durable.
		whole := next < o.point || d.clean && next != math.MaxInt64 && !o.acceptLoss
		if whole && found.index[base] {
			o.segs = append(o.segs, &segment{base: base, end: next, size: size, files: files})
			continue
		}
		end, err := o.readSegment(files, base, next, size, whole, found.index[base])
		if err != nil {
			return err
		}
		// A vouched segment that ends early was compacted; otherwise the rest of the log was never written.
		if end != next && !whole && next != math.MaxInt64 && !farBehind(base, next) {
			return o.drop(bases[i+1:], found, next)
		}
	}
	return nil
}

// readSegment loads one segment, repairs its files and appends it to the segments. It returns the offset at which it ends.
func (o *opening) readSegment(files *segmentFiles, base, next, size int64, whole, indexed bool) (int64, error) {
	d, l := o.d, o.l
	p := loadPlan{base: base, size: size, verify: o.point, vouched: min(o.must, next), before: next, epochs: o.collect}
	if d.clean && !o.acceptLoss {
		p.verify = math.MaxInt64
	}
	if whole {
		p.verify, p.epochs = math.MaxInt64, nil
	}
	if !indexed {
		o.report.Rebuilt++
		d.rebuilt.Inc()
		d.log.Warn("index missing, rebuilt", "file", files.logName)
	}
	got, err := d.load(files, l.cfg.IndexInterval, p)
	if err != nil {
		return 0, err
	}
	if !whole && base < o.must && got.tail.next < p.vouched {
		return 0, &CorruptionError{files.logName, got.tail.size,
			fmt.Errorf("the log ends at offset %d, records up to %d are vouched for", got.tail.next, p.vouched)}
	}
	o.report.Verified += got.verified
	if got.cut != nil {
		o.noteCut(files.logName, got.tail.size, size-got.tail.size, got.cut)
	}
	sealed := next != math.MaxInt64
	// An active segment that is as its checkpoint left it needs no write and no sync.
	if got.cut != nil || got.tail.next != o.point || sealed || !indexed {
		o.changed = true
	}
	commit := func() error { return d.commitTail(files, &got.tail, size, sealed) }
	if sealed && !indexed {
		commit = func() error { return d.commitRebuilt(files, &got.tail, size) }
	}
	if err := commit(); err != nil {
		if errors.Is(err, vfs.ErrNoSpace) {
			err = fmt.Errorf("%w: repair indexes of %s: %w", ErrFull, files.logName, err)
		}
		return 0, err
	}
	s := &segment{base: base, end: got.tail.next, size: got.tail.size, files: files}
	if whole {
		s.end = next
	}
	o.read[files] = !whole || got.tail.size != size
	newest := got.tail.newest
	s.newest.Store(&newest)
	o.segs = append(o.segs, s)
	o.last = got
	return got.tail.next, nil
}

func (o *opening) noteCut(file string, position, bytes int64, cause error) {
	if !o.report.Cut {
		o.report.Cut, o.report.CutFile, o.report.CutPosition, o.report.CutCause = true, file, position, cause
	}
	o.report.CutBytes += bytes
}

// drop removes the segments behind the end of the log.
func (o *opening) drop(bases []int64, found foundFiles, next int64) error {
	last := o.segs[len(o.segs)-1]
	if next <= o.point {
		return &CorruptionError{last.files.logName, last.size, fmt.Errorf("the log ends at offset %d, records up to %d are vouched for", last.end, o.point)}
	}
	for i := len(bases) - 1; i >= 0; i-- {
		files := newSegmentFiles(o.d, o.l.path, bases[i])
		o.noteCut(last.files.logName, last.size, found.logs[bases[i]], fmt.Errorf("segment %d does not follow offset %d", bases[i], last.end))
		if err := files.unlink(); err != nil {
			return err
		}
	}
	o.changed = true
	return syncDir(o.d.fs, o.l.path)
}

// finish makes the last segment the active one, settles start and epochs, and makes durable what was found.
func (o *opening) finish(files foundFiles) error {
	d, l := o.d, o.l
	if n := len(o.segs); n > 0 && o.last.tail.next < o.start {
		// Records were deleted beyond what the log still has.
		for i := n - 1; i >= 0; i-- {
			if err := o.segs[i].files.unlink(); err != nil {
				return err
			}
		}
		o.segs = nil
	}
	anew := len(o.segs) == 0
	if anew {
		if err := syncDir(d.fs, l.path); err != nil {
			return err
		}
		created := newSegmentFiles(d, l.path, o.start)
		if err := l.createFiles(created); err != nil {
			return err
		}
		o.segs = []*segment{{base: o.start, files: created}}
		o.last = loaded{tail: newTail(o.start)}
		o.changed = true
	}
	active := o.segs[len(o.segs)-1]
	if err := o.firstTimestamp(active.files); err != nil {
		return err
	}
	l.active, l.tail = active.files, o.last.tail
	o.segs[len(o.segs)-1] = &segment{base: active.base, files: active.files}
	start := max(o.start, o.segs[0].base)
	end := l.tail.next
	l.cleaned.Store(min(l.Cleaned(), end))
	v := &l.view
	v.segs, v.start, v.end, v.tail = o.segs, start, end, l.tail
	v.sealedBytes = sealedBytes(o.segs)
	// An epoch that begins at the end has no records; after a crash they may have been cut.
	v.epochs = o.known.cutEnd(end + 1).cutStart(start)
	if o.report.Cut && end > 0 {
		v.epochs = v.epochs.cutEnd(end)
	}
	if !slices.Equal(v.epochs, o.saved) {
		l.unsaved = true // also those that come from the batches: the next start trusts what lies below the recovery point
	}
	l.jitter = d.random(l.cfg.SegmentJitter.Milliseconds())
	if o.changed || o.report.Cut {
		if err := o.makeDurable(); err != nil {
			return err
		}
	}
	l.flushedEnd.Store(end)
	l.vouched = min(o.point, end)
	v.hint = hint{files: l.active, offset: end, position: l.tail.size}
	// A snapshot stands for the rows of the transaction index before it, and those are durable as far as the recovery point goes; a
	// marker just before the point may have come to the log before its row came to the index.
	last := end
	switch {
	case anew:
		last = -1
	case !d.clean:
		last = min(end, max(o.point-1, start))
	}
	if err := l.keepSnapshots(files.snapshots, last); err != nil {
		return err
	}
	if hw, ok := d.HighWatermark(l.tp); ok {
		if hw > end { // records that are to come there are not acknowledged by it
			if err := d.lowerPoint(l, end, -1); err != nil {
				return err
			}
		}
		l.highWatermark.Store(min(hw, end))
	}
	return nil
}

// firstTimestamp reads the time of the first batch, by which the active segment rolls.
func (o *opening) firstTimestamp(files *segmentFiles) error {
	t := &o.last.tail
	if t.size == 0 || t.first >= 0 {
		return nil
	}
	h, err := files.open(suffixLog)
	if err != nil {
		return err
	}
	defer h.Release()
	r := newBatchReader(h.File(), 0, t.size, make([]byte, chunkSize))
	if ok, err := r.next(); err != nil || !ok {
		return &CorruptionError{files.logName, 0, errors.Join(err, errDamaged)}
	}
	t.first = r.h.MaxTimestamp
	return nil
}

// makeDurable syncs the segments that were not vouched for: what was found after a kill may be in the page cache alone, and must not
// be served and then lost by a power cut; and what was cut must not come back with one.
func (o *opening) makeDurable() error {
	l := o.l
	for _, s := range o.segs {
		if !o.read[s.files] && s.files != l.active {
			continue
		}
		h, err := s.files.open(suffixLog)
		if err != nil {
			return err
		}
		err = h.File().Sync()
		h.Release()
		if err != nil {
			return o.d.fail(fmt.Sprintf("sync %s", s.files.logName), err)
		}
		l.unindexed = append(l.unindexed, s.files)
	}
	if err := syncDir(o.d.fs, l.path); err != nil {
		return o.d.fail("sync "+l.path, err)
	}
	l.dirtyDir = false
	return nil
}
