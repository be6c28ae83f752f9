package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"cairn/engine/limits"
	"cairn/platform/observe"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// DirConfig says which log directory to open and how far it may fill its device.
type DirConfig struct {
	// Path of the directory; it is made if it is missing.
	Path string
	// ClusterID and NodeID are compared with meta.properties, and written there in a new directory. A directory that
	// names others is refused with ErrForeign. An empty ClusterID accepts any and writes none.
	ClusterID string
	NodeID    int32
	// BudgetFraction of the device's size is what logs may fill before PlanBudget names segments to remove. Default BudgetFraction.
	BudgetFraction float64
	// Limits bound open files, dirty bytes, the reserve, and what is read into memory.
	Limits limits.Storage
	// OnFailed, if set, is called once when the directory fails, from any goroutine; it must only post.
	OnFailed func(error)
	// OnSweep, if set, is called when there is something to unlink, from any goroutine; it must only post. Sweep does it.
	OnSweep func()
}

// Deps is the outside of a log directory.
type Deps struct {
	FS vfs.FS
	// Files are the box's open files; nil makes a cache of Limits.OpenFilesMax for this directory alone.
	Files *vfs.Cache
	// Syncer is that of the device that holds the directory.
	Syncer *syncer.Syncer
	// Random is for directory ids, jitter, and names of deleted directories.
	Random io.Reader
	// Observer takes log lines and metrics; nil discards them.
	Observer *observe.Observer
}

// Found is a partition directory that is there.
type Found struct {
	TopicPartition
	TopicID ID // zero where partition.metadata is missing
}

// Dir is one log directory. Its methods may be called from any goroutine.
type Dir struct {
	cfg    DirConfig
	fs     vfs.FS
	files  *vfs.Cache
	own    bool // files is ours to close
	syncer *syncer.Syncer
	lock   io.Closer
	id     ID
	clean  bool // the last stop was clean
	job    checkpointJob
	pool   sync.Pool // of *[]byte, chunkSize long

	failed atomic.Pointer[error]
	// room is how many bytes may be appended before free space is looked at again.
	room atomic.Int64
	// dirtyBytes were flushed and not yet vouched for by a checkpoint; asked says that one is under way because of them.
	dirtyBytes atomic.Int64
	asked      atomic.Bool

	// checkpointing is held while the checkpoint files are decided upon and written. mu and a log's mu may be taken while it is held.
	checkpointing sync.Mutex
	// sweeping is held while files of removed segments are unlinked by name, so that the name is not given to a new file
	// meanwhile. mu may be taken while it is held.
	sweeping sync.Mutex
	// mu protects everything below. A log's mu may be taken while it is held, never the other way round.
	mu      sync.Mutex
	entropy io.Reader
	logs    map[TopicPartition]*Log
	// What the checkpoint files say.
	says    checkpoints
	finals  map[TopicPartition]final // of logs that were closed since
	unclean bool                     // some log was not closed cleanly
	doomed  []doomed                 // segments that a checkpoint has to come before
	ready   []doomed                 // segments that may be unlinked
	retired []string                 // partition directories that may be unlinked

	log                           *slog.Logger
	cutBytes, removed, rebuilt    *observe.Counter
	checkpoints, full, misleading *observe.Counter
}

// final is what a closed log leaves for the next checkpoint.
type final struct{ point, start, high, cleaned int64 }

// doomed is a removed segment whose files are still there.
type doomed struct {
	log   *Log
	files *segmentFiles
	end   int64 // offset behind its records: it goes once the log's start on disk is there or beyond
	// suffix is what its names end in besides: .deleted where it was replaced.
	suffix string
}

// BudgetFraction is the part of a device's size that logs may fill where nobody says another.
const BudgetFraction = 0.8

// OpenDir locks a log directory, reads its meta.properties and checkpoints, and takes away the mark of a clean stop.
// Errors: ErrForeign, vfs.ErrLocked, ErrFull, and those of the file system.
func OpenDir(cfg DirConfig, deps Deps) (*Dir, error) {
	if cfg.BudgetFraction <= 0 || cfg.BudgetFraction > 1 {
		cfg.BudgetFraction = BudgetFraction
	}
	if deps.Observer == nil {
		deps.Observer = observe.Discard()
	}
	metrics := deps.Observer.Metrics
	d := &Dir{
		cfg: cfg, fs: deps.FS, files: deps.Files, syncer: deps.Syncer, entropy: deps.Random,
		logs: map[TopicPartition]*Log{}, finals: map[TopicPartition]final{}, log: deps.Observer.Log.With("dir", cfg.Path),
		cutBytes:    metrics.Counter("cairn_log_cut_bytes_total", "dir", cfg.Path),
		removed:     metrics.Counter("cairn_log_removed_segments_total", "dir", cfg.Path),
		rebuilt:     metrics.Counter("cairn_log_rebuilt_indexes_total", "dir", cfg.Path),
		checkpoints: metrics.Counter("cairn_log_checkpoints_total", "dir", cfg.Path),
		full:        metrics.Counter("cairn_log_refused_full_total", "dir", cfg.Path),
		misleading:  metrics.Counter("cairn_log_misleading_indexes_total", "dir", cfg.Path),
	}
	d.job.d = d
	d.pool.New = func() any { b := make([]byte, chunkSize); return &b }
	if d.files == nil {
		d.files, d.own = vfs.NewCache(vfs.CacheConfig{FilesMax: cfg.Limits.OpenFilesMax, MappingsMax: 1}), true
	}
	if err := d.lockAndRead(); err != nil {
		if d.lock != nil {
			_ = d.lock.Close()
		}
		return nil, fmt.Errorf("open log directory %s: %w", cfg.Path, err)
	}
	return d, nil
}

func (d *Dir) lockAndRead() error {
	if err := d.makePath(d.cfg.Path); err != nil {
		return err
	}
	lock, err := d.fs.Lock(d.cfg.Path + "/" + nameLock)
	if err != nil {
		return err
	}
	d.lock = lock
	if err := d.readMeta(); err != nil {
		return err
	}
	for i, name := range checkpointNames {
		if d.says[i], err = d.readCheckpoint(name); err != nil {
			return err
		}
	}
	infos, err := d.fs.List(d.cfg.Path)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if info.IsDir && strings.HasSuffix(info.Name, suffixDirDelete) {
			d.retired = append(d.retired, d.cfg.Path+"/"+info.Name)
		}
		d.clean = d.clean || info.Name == nameClean
	}
	if d.clean {
		// A crash from here on must not look like a clean stop.
		if err := d.fs.Remove(d.cfg.Path + "/" + nameClean); err != nil {
			return err
		}
	}
	return syncDir(d.fs, d.cfg.Path)
}

// makePath makes a directory and what is missing above it, durably.
func (d *Dir) makePath(name string) error {
	var parents []string
	for at := path.Clean(name); ; at = path.Dir(at) {
		if _, err := d.fs.Stat(at); err == nil || at == path.Dir(at) {
			break
		} else if !errors.Is(err, vfs.ErrNotExist) {
			return err
		}
		parents = append(parents, path.Dir(at))
	}
	if err := d.fs.MkdirAll(name); err != nil {
		return err
	}
	for i := len(parents) - 1; i >= 0; i-- {
		if err := syncDir(d.fs, parents[i]); err != nil {
			return err
		}
	}
	return nil
}

// readCheckpoint reads a checkpoint file. A damaged one is taken for empty: everything is verified, nothing is deleted.
func (d *Dir) readCheckpoint(name string) (offsets, error) {
	out, err := readOffsets(d.fs, d.cfg.Path+"/"+name)
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, ErrCorrupt) || isShort(err):
		d.log.Warn("damaged checkpoint ignored", "cause", err)
		return offsets{}, nil
	case errors.Is(err, vfs.ErrNotExist):
		return offsets{}, nil
	}
	return nil, err
}

// random is a number from 0 to below n; 0 if n is not positive.
func (d *Dir) random(n int64) int64 {
	if n <= 0 {
		return 0
	}
	var b [8]byte
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := io.ReadFull(d.entropy, b[:]); err != nil {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b[:])>>1) % n
}

// ID is the directory id of meta.properties (KIP-858).
func (d *Dir) ID() ID { return d.id }

// Path is the directory's path.
func (d *Dir) Path() string { return d.cfg.Path }

// WasClean reports whether the last stop was a clean one.
func (d *Dir) WasClean() bool { return d.clean }

// Failed is nil, or the ErrFailed that ended the use of this directory.
func (d *Dir) Failed() error {
	if err := d.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fail ends the use of the directory.
func (d *Dir) fail(what string, cause error) error {
	err := fmt.Errorf("%w: %s: %w", ErrFailed, what, cause)
	if d.failed.CompareAndSwap(nil, &err) {
		d.log.Error("log directory failed", "cause", err)
		if d.cfg.OnFailed != nil {
			d.cfg.OnFailed(err)
		}
	}
	return err
}

// check sorts an error of the file system: a sync's ends the directory, any other lack of space is ErrFull, a segment that a newer view no longer has is
// ErrOutOfRange, a name that is missing is damage, too many open files are passed on; all else ends the directory.
func (d *Dir) check(what string, err error) error {
	var final *syncError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &final):
		return d.fail(what, err)
	case errors.Is(err, vfs.ErrNoSpace):
		d.full.Inc()
		d.room.Store(0)
		return fmt.Errorf("%w: %s: %w", ErrFull, what, err)
	case errors.Is(err, ErrOutOfRange) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFailed) || errors.Is(err, ErrFull) ||
		errors.Is(err, vfs.ErrCacheFull):
		return err
	case errors.Is(err, vfs.ErrNotExist):
		return &CorruptionError{d.cfg.Path, 0, fmt.Errorf("%s: %w", what, err)}
	}
	return d.fail(what, err)
}

// reserve is how many bytes of the device appends leave alone.
func (d *Dir) reserve(total uint64) int64 { return min(d.cfg.Limits.ReserveBytes, int64(total/64)) }

// roomStep is how many bytes are appended between two looks at the free space.
const roomStep = 16 << 20

// take asks for n bytes of the device above the reserve.
func (d *Dir) take(n int64) error {
	if d.room.Add(-n) >= 0 {
		return nil
	}
	u, err := d.fs.Usage(d.cfg.Path)
	if err != nil {
		return d.check("read free space", err)
	}
	left := int64(min(u.Free, 1<<62)) - d.reserve(u.Total) - n
	if left < 0 {
		d.full.Inc()
		d.room.Store(0)
		return fmt.Errorf("%w: %d bytes free, %d reserved", ErrFull, u.Free, d.reserve(u.Total))
	}
	d.room.Store(min(left, roomStep))
	return nil
}

func (d *Dir) buffer() *[]byte { return d.pool.Get().(*[]byte) }

func (d *Dir) giveBack(b *[]byte) { d.pool.Put(b) }

// misled counts an index that did not lead to its batch. Reads go on without it; the next start rebuilds it.
func (d *Dir) misled(*segment) { d.misleading.Inc() }

// Partitions lists the partition directories, sorted by name; those marked for deletion and strays are not among them.
func (d *Dir) Partitions() ([]Found, error) {
	if err := d.Failed(); err != nil {
		return nil, err
	}
	infos, err := d.fs.List(d.cfg.Path)
	if err != nil {
		return nil, d.check("list log directory", err)
	}
	var out []Found
	for _, info := range infos {
		tp, ok := parseTopicPartition(info.Name)
		if !ok || !info.IsDir {
			continue
		}
		id, err := readTopicID(d.fs, d.cfg.Path+"/"+info.Name+"/"+namePartition)
		if err != nil && !errors.Is(err, vfs.ErrNotExist) && !errors.Is(err, ErrCorrupt) && !isShort(err) {
			return nil, d.check("read topic id", err)
		}
		out = append(out, Found{tp, id})
	}
	return out, nil
}

// TopicID reads the topic's id from one partition's directory, without a look at the others. Errors: one that wraps vfs.ErrNotExist where there
// is none, ErrCorrupt.
func (d *Dir) TopicID(tp TopicPartition) (ID, error) {
	if err := d.Failed(); err != nil {
		return ID{}, err
	}
	return readTopicID(d.fs, d.cfg.Path+"/"+tp.String()+"/"+namePartition)
}

// register makes a log known to checkpoints.
func (d *Dir) register(l *Log) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.logs[l.tp] != nil {
		return fmt.Errorf("open %v: it is open: %w", l.tp, ErrExist)
	}
	delete(d.finals, l.tp)
	d.logs[l.tp] = l
	return nil
}

// forget is called when a log is closed or deleted. What a cleanly closed one has flushed, its start and its high watermark
// are what the next checkpoint says of it.
func (d *Dir) forget(l *Log, clean, keep bool) {
	l.mu.Lock()
	last := final{point: l.flushedEnd.Load(), start: l.view.start, high: l.highWatermark.Load(), cleaned: l.cleaned.Load()}
	l.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.logs[l.tp] == l {
		delete(d.logs, l.tp)
	}
	d.unclean = d.unclean || !clean
	if clean && keep {
		d.finals[l.tp] = last
	}
}

// SetAside renames the directory of a partition that is not open to <topic>-<partition>.<id>-stray and keeps it. Errors:
// ErrNotExist, ErrExist if it is open.
func (d *Dir) SetAside(tp TopicPartition) error {
	if err := d.Failed(); err != nil {
		return err
	}
	d.mu.Lock()
	open := d.logs[tp] != nil
	d.mu.Unlock()
	if open {
		return fmt.Errorf("set aside %v: it is open: %w", tp, ErrExist)
	}
	if err := d.retire(tp, suffixDirStray); err != nil {
		return fmt.Errorf("set aside %v: %w", tp, err)
	}
	return nil
}

// directoryNameMax is Kafka's longest name of a renamed partition directory.
const directoryNameMax = 255

// retire renames a partition's directory to <topic>-<partition>.<32 hex digits><suffix>, as Kafka names them, durably.
func (d *Dir) retire(tp TopicPartition, suffix string) error {
	d.mu.Lock()
	id, err := d.newID()
	d.mu.Unlock()
	if err != nil {
		return err
	}
	tail := fmt.Sprintf("-%d.%x%s", tp.Partition, id[:], suffix)
	name := tp.Topic[:min(len(tp.Topic), directoryNameMax-len(tail))] + tail
	from, to := d.cfg.Path+"/"+tp.String(), d.cfg.Path+"/"+name

	d.sweeping.Lock()
	defer d.sweeping.Unlock()
	d.dropDoomed(func(x doomed) bool { return x.log.tp == tp })
	// Before the rename: a crash between the two leaves a directory that is retired again, and not an entry that makes a
	// new partition of that name look lost.
	if err := d.forgetPoints(tp); err != nil {
		return err
	}
	err = d.fs.Rename(from, to)
	if errors.Is(err, vfs.ErrNotExist) {
		return ErrNotExist
	}
	d.files.ForgetTree(d.fs, from)
	if err == nil {
		err = syncDir(d.fs, d.cfg.Path)
	}
	if err != nil {
		return d.check("rename "+from, err)
	}
	if suffix == suffixDirDelete {
		d.mu.Lock()
		d.retired = append(d.retired, to)
		d.mu.Unlock()
		d.askSweep()
	}
	return nil
}

// allVerified reports whether every partition is known to be whole: after an unclean stop, those that were opened since.
func (d *Dir) allVerified() bool {
	if d.clean {
		return true
	}
	found, err := d.Partitions()
	if err != nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range found {
		if _, ok := d.finals[f.TopicPartition]; !ok {
			return false
		}
	}
	return true
}

// Close closes the directory. Its logs must have been closed by their owners; if every one was closed cleanly, the
// directory is marked as Kafka marks a clean stop, and the next start verifies nothing.
func (d *Dir) Close() error {
	d.mu.Lock()
	clean := !d.unclean && len(d.logs) == 0 && d.Failed() == nil
	d.mu.Unlock()
	clean = clean && d.allVerified()
	var err error
	if clean {
		if err = d.checkpoint(); err == nil {
			err = writeFile(d.fs, d.cfg.Path+"/"+nameClean, []byte(`{"version":0,"brokerEpoch":-1}`))
		}
		if err == nil {
			err = syncDir(d.fs, d.cfg.Path)
		}
	}
	if d.own {
		d.files.Close()
	}
	if closeErr := d.lock.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("close log directory %s: %w", d.cfg.Path, err)
	}
	return nil
}
