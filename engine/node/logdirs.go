package node

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/kafkaserver"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// logDir is one of the box's log directories.
type logDir struct {
	path string
	dir  *seglog.Dir // nil where it could not be opened, for err
	err  error
}

// logDirPaths are the log directories as the operator has named them (log.dirs, else log.dir), or the one below the data directory.
func (b *broker) logDirPaths() ([]string, error) {
	given := b.n.cfg.Kafka.Settings["log.dirs"]
	if given == "" {
		given = b.n.cfg.Kafka.Settings["log.dir"]
	}
	if given == "" {
		return []string{path.Join(b.n.cfg.Data, "topics")}, nil
	}
	var paths []string
	for _, p := range strings.Split(given, ",") {
		p = path.Clean(strings.TrimSpace(p))
		if !path.IsAbs(p) {
			return nil, fmt.Errorf("log.dirs: %q is not an absolute path", p)
		}
		for _, other := range paths {
			if p == other || strings.HasPrefix(p+"/", other+"/") || strings.HasPrefix(other+"/", p+"/") {
				return nil, fmt.Errorf("log.dirs: %s and %s are one, or one is in the other: give each log directory its own", other, p)
			}
		}
		paths = append(paths, p)
	}
	return paths, nil
}

// openDirs opens the log directories. One of several that cannot be opened is left out, and its partitions are offline here; that it is
// another process's or another broker's is a mistake, and ends the start.
func (b *broker) openDirs() error {
	n := b.n
	paths, err := b.logDirPaths()
	if err != nil {
		return err
	}
	files := vfs.NewCache(vfs.CacheConfig{FilesMax: n.cfg.Limits.Storage.OpenFilesMax, MappingsMax: 1})
	n.closes("open files of logs", func() error { files.Close(); return nil })
	devices := make([]uint64, len(paths))
	for i, p := range paths {
		devices[i] = b.deviceOf(p)
	}
	for i, p := range paths {
		share := 0
		for _, d := range devices {
			if d == devices[i] {
				share++
			}
		}
		dir, err := seglog.OpenDir(
			seglog.DirConfig{
				Path: p, NodeID: n.id.box, Limits: n.cfg.Limits.Storage, BudgetFraction: seglog.BudgetFraction / float64(share),
				OnFailed: func(err error) { b.dirFailed(p, err) }, OnSweep: b.sweepDue,
			},
			seglog.Deps{FS: n.deps.FS, Files: files, Syncer: b.syncerOf(devices[i], p), Random: n.deps.Random, Observer: n.deps.Observer})
		if err != nil && (len(paths) == 1 || errors.Is(err, vfs.ErrLocked) || errors.Is(err, seglog.ErrForeign)) {
			return err
		}
		if err != nil {
			n.deps.Observer.Log.Error("log directory cannot be opened: its partitions are offline here until the box starts again", "directory", p, "error", err)
			b.dirs = append(b.dirs, logDir{p, nil, err})
			continue
		}
		n.closes("log directory "+p, dir.Close)
		for _, other := range b.opened() {
			if other.ID() == dir.ID() {
				return fmt.Errorf("log directories %s and %s have the same directory.id: one is a copy of the other, take it away", other.Path(), p)
			}
		}
		b.dirs = append(b.dirs, logDir{p, dir, nil})
	}
	if len(b.opened()) == 0 {
		return fmt.Errorf("none of the log directories %s can be opened; the first: %w", strings.Join(paths, ", "), b.dirs[0].err)
	}
	return nil
}

// deviceOf is the device that a directory lies on, or is to lie on; 0 where nobody can say.
func (b *broker) deviceOf(dir string) uint64 {
	for at := dir; ; at = path.Dir(at) {
		if u, err := b.n.deps.FS.Usage(at); err == nil {
			return u.Device
		}
		if at == path.Dir(at) {
			return 0
		}
	}
}

// syncerOf is the syncer of a device: there is one for each, and that of the data directory's stands already.
func (b *broker) syncerOf(device uint64, dir string) *syncer.Syncer {
	if b.syncers == nil {
		b.syncers = map[uint64]*syncer.Syncer{b.deviceOf(b.n.cfg.Data): b.n.syncer}
	}
	s := b.syncers[device]
	if s == nil {
		s = syncer.New(b.n.deps.Runtime, syncer.Config{Name: dir, Observer: b.n.deps.Observer})
		b.n.closes("syncer of "+dir, func() error { s.Close(); return nil })
		b.syncers[device] = s
	}
	return s
}

// opened are the log directories that could be opened.
func (b *broker) opened() (dirs []*seglog.Dir) {
	for _, d := range b.dirs {
		if d.dir != nil {
			dirs = append(dirs, d.dir)
		}
	}
	return dirs
}

// cleanStop reports whether the last start of the box stopped cleanly, with all that it had.
func (b *broker) cleanStop() bool {
	return !slices.ContainsFunc(b.dirs, func(d logDir) bool { return d.dir == nil || !d.dir.WasClean() })
}

// dirFailed says that a log directory is lost to this process, to people and to the controller, which has others lead. Its partitions
// answer with an error, the box goes on.
func (b *broker) dirFailed(dir string, err error) {
	b.n.deps.Observer.Log.Error("log directory failed: its partitions are offline here until the box starts again", "directory", dir, "error", err)
	b.tellSoon()
}

// logDirs are the log directories as the cluster is told of them. One that could not be opened is not among them: nobody knows its id.
func (b *broker) logDirs() (list []catalog.LogDir) {
	for _, d := range b.opened() {
		list = append(list, catalog.LogDir{ID: catalog.UUID(d.ID()), Path: d.Path(), Failed: d.Failed() != nil})
	}
	return list
}

// partitionsOffline is told by the topics room which partitions this box cannot serve, and tells the cluster, which has others lead them.
func (b *broker) partitionsOffline(list map[catalog.UUID][]int32) {
	b.offline.Store(&list)
	b.tellSoon()
}

func (b *broker) offlineNow() map[catalog.UUID][]int32 {
	if list := b.offline.Load(); list != nil {
		return *list
	}
	return nil
}

// outdated reports whether this start's registration names a log directory that has failed since, other partitions that are offline, or
// another space.
func (b *broker) outdated(r *catalog.Broker) bool {
	return r != nil && r.Incarnation == b.incarnation && (r.UsedTenths != int(b.usedTenths.Load()) || !maps.EqualFunc(r.Offline, b.offlineNow(), slices.Equal[[]int32]) || slices.ContainsFunc(b.dirs, func(d logDir) bool {
		return d.dir != nil && d.dir.Failed() != nil && r.HasDirectory(catalog.UUID(d.dir.ID()))
	}))
}

const (
	// spaceInterval is how often a box looks how full its log directories are.
	spaceInterval = time.Minute
	// spaceNews is by how many tenths that must differ from what is known, so that nothing is told to and fro.
	spaceNews = 0.8
)

// lookAtSpace finds out how much of the space for logs is used.
func (b *broker) lookAtSpace() {
	var logs, room float64
	for _, dir := range b.opened() {
		if u, err := dir.Usage(); err == nil {
			logs += float64(u.Logs)
			room += min(float64(u.Free), max(float64(u.Budget-u.Logs), 0))
		}
	}
	used := 10.0
	if room > 0 {
		used = 10 * logs / (logs + room)
	}
	if math.Abs(used-float64(b.usedTenths.Load())) > spaceNews {
		b.usedTenths.Store(int32(math.Round(used)))
	}
}

// watchSpace tells the cluster when that has changed, for as long as the box runs: new replicas go where there is room.
func (b *broker) watchSpace() {
	time.AfterFunc(spaceInterval, func() {
		if b.running.Err() != nil {
			return
		}
		b.lookAtSpace()
		b.tellDirectories(b.catalog.Current())
		b.watchSpace()
	})
}

// tellSoon has tellDirectories look, on a goroutine of its own: who notices may be an owner, or hold the tree's lock.
func (b *broker) tellSoon() {
	b.n.deps.Runtime.Spawn("tell of log directories", func() { b.tellDirectories(b.catalog.Current()) }, func() {})
}

// tellDirectories brings this box's registration up to date where it is outdated (KIP-858).
func (b *broker) tellDirectories(s *catalog.Snapshot) {
	r := s.Broker(b.n.id.box)
	if !b.outdated(r) || b.stopping.Load() || !b.telling.CompareAndSwap(false, true) {
		return
	}
	changed := *r
	changed.LogDirs, changed.UsedTenths, changed.Offline = b.logDirs(), int(b.usedTenths.Load()), b.offlineNow()
	znode := changed.Registration()
	_, version, ok := b.tree.Read(znode.Path)
	if !ok {
		b.telling.Store(false) // what is registered anew names them as they are
		return
	}
	b.tree.Multi([]catalog.Op{{Kind: catalog.OpSet, Path: znode.Path, Data: znode.Data, Version: version}}, func(results []catalog.OpResult, err error) {
		b.telling.Store(false)
		if len(results) == 1 && err == nil {
			err = results[0].Err
		}
		if errors.Is(err, catalog.ErrClosed) {
			return
		}
		if err == nil {
			if b.outdated(b.catalog.Current().Broker(b.n.id.box)) { // something has come up meanwhile
				b.tellSoon()
			}
			return
		}
		b.n.deps.Observer.Log.Warn("the cluster does not know yet what has become of this box's log directories, and is told again", "error", err)
		time.AfterFunc(registerAgain, func() { b.tellDirectories(b.catalog.Current()) })
	})
}

// local is this box's broker, as the server asks for directories.
type local struct{ b *broker }

// Describe implements kafkaserver.LogDirs.
func (l local) Describe() []kafkaserver.LogDir {
	out := make([]kafkaserver.LogDir, len(l.b.dirs))
	of := map[*seglog.Dir]*kafkaserver.LogDir{}
	for i, d := range l.b.dirs {
		out[i] = kafkaserver.LogDir{Path: d.path, Err: d.err, TotalBytes: -1, FreeBytes: -1}
		if d.dir == nil {
			continue
		}
		of[d.dir] = &out[i]
		out[i].Err = d.dir.Failed()
		if u, err := d.dir.Usage(); err == nil {
			out[i].TotalBytes, out[i].FreeBytes = int64(u.Total), int64(u.Free)
		} else {
			out[i].Err = errors.Join(out[i].Err, err)
		}
	}
	l.b.topics.All(func(r *replica.Replica) {
		v, tp := r.View(), r.TopicPartition()
		if d := of[v.Log.Dir()]; d != nil {
			d.Replicas = append(d.Replicas, kafkaserver.LogDirReplica{
				Topic: tp.Topic, Partition: tp.Partition, Bytes: v.Log.Size(), Lag: max(v.HighWatermark-v.End, 0),
			})
		}
	})
	return out
}
