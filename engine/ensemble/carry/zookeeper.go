package carry

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/zkdata"
	"cairn/engine/ensemble/znode"
	"cairn/platform/vfs"
)

// ErrNothing: there is no ZooKeeper data where it was looked for.
var ErrNothing = errors.New("no ZooKeeper data")

// Report says what was read and what was left out.
type Report struct {
	// Snapshot is the file that was taken; empty for a stream. Logs were replayed onto it, Transactions of them.
	Snapshot     string
	Logs         int
	Transactions int
	// Zxid of the last transaction.
	Zxid  int64
	Nodes int
	// Ephemerals belong to sessions that live no more.
	Ephemerals int64
	// Sessions that the snapshot knew.
	Sessions int
	// Reserved are nodes at and below /cairn, which is the boxes' own.
	Reserved int
	// Notes are what a user should know besides, in sentences.
	Notes []string
}

// snapshotsTried is how many snapshots are looked at before it is given up, newest first.
const snapshotsTried = 100

// FromZooKeeper reads the data directory of a ZooKeeper that does not run: dir is its dataDir (or the version-2 in it), logs
// its dataLogDir, or empty where that is the same. The newest snapshot that is whole is taken and all logs are replayed
// onto it. Ephemerals, sessions, /zookeeper/config and /cairn are left out.
func FromZooKeeper(fs vfs.FS, dir, logs string, bytesMax int64) (*znode.Backup, Report, error) {
	dir = versioned(fs, dir)
	if logs == "" {
		logs = dir
	} else {
		logs = versioned(fs, logs)
	}
	snapshots, err := numbered(fs, dir, "snapshot")
	if err != nil {
		return nil, Report{}, fmt.Errorf("%w in %s: %w", ErrNothing, dir, err)
	}
	files, err := numbered(fs, logs, "log")
	if err != nil {
		return nil, Report{}, fmt.Errorf("%w in %s: %w", ErrNothing, logs, err)
	}
	switch {
	case len(snapshots) == 0 && len(files) == 0:
		return nil, Report{}, fmt.Errorf("%w in %s: give the dataDir of zoo.cfg, and the dataLogDir if it has one", ErrNothing, dir)
	case len(snapshots) == 0:
		return nil, Report{}, fmt.Errorf("%w in %s: there are logs and no snapshot, without which ZooKeeper itself does not start either; start it "+
			"once with -Dzookeeper.snapshot.trust.empty=true so that it writes one", ErrNothing, dir)
	}
	var report Report
	slices.Reverse(snapshots)
	for _, s := range snapshots[:min(len(snapshots), snapshotsTried)] {
		tree, err := openSnapshot(fs, dir, s, bytesMax)
		if errors.Is(err, zkdata.ErrDamaged) || errors.Is(err, errPacked) {
			report.Notes = append(report.Notes, fmt.Sprintf("%s was not taken: %v", s.name, err))
			continue
		}
		if err != nil {
			return nil, report, err
		}
		report.Snapshot = s.name
		if err := replay(fs, logs, files, s.zxid+1, tree, &report); err != nil {
			return nil, report, err
		}
		return fromTree(tree, report)
	}
	return nil, report, fmt.Errorf("no whole snapshot in %s: %s: %w", dir, strings.Join(report.Notes, "; "), zkdata.ErrDamaged)
}

// versioned is the directory with the files: ZooKeeper makes version-2 in what it is given.
func versioned(fs vfs.FS, dir string) string {
	if in := path.Join(dir, "version-2"); path.Base(dir) != "version-2" {
		if info, err := fs.Stat(in); err == nil && info.IsDir {
			return in
		}
	}
	return dir
}

// file is one whose name tells a zxid.
type file struct {
	name string
	zxid int64
	size int64
}

// numbered lists the files prefix.<zxid in hex>, by their zxid; a second suffix says how a snapshot is packed.
func numbered(fs vfs.FS, dir, prefix string) ([]file, error) {
	infos, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	var files []file
	for _, info := range infos {
		parts := strings.Split(info.Name, ".")
		if info.IsDir || len(parts) < 2 || parts[0] != prefix {
			continue
		}
		if zxid, err := strconv.ParseInt(parts[1], 16, 64); err == nil && zxid >= 0 {
			files = append(files, file{info.Name, zxid, info.Size})
		}
	}
	slices.SortStableFunc(files, func(a, b file) int { return int(min(max(a.zxid-b.zxid, -1), 1)) })
	return files, nil
}

var errPacked = errors.New("it is packed with snappy, which is not read here: start ZooKeeper once without -Dzookeeper.snapshot.compression.method=snappy, so that it writes a plain one")

func openSnapshot(fs vfs.FS, dir string, s file, bytesMax int64) (*zkdata.Tree, error) {
	if strings.HasSuffix(s.name, ".snappy") {
		return nil, errPacked
	}
	f, err := fs.Open(path.Join(dir, s.name), vfs.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s.name, err)
	}
	defer f.Close()
	r, err := Reader(f)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s.name, err)
	}
	if strings.HasSuffix(s.name, ".gz") {
		if r, err = gzip.NewReader(r); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", s.name, zkdata.ErrDamaged, err)
		}
	}
	t, err := zkdata.ReadSnapshot(&unpacking{r}, bytesMax)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	t.Zxid = s.zxid
	return t, nil
}

// unpacking turns what gzip finds wrong into damage.
type unpacking struct{ r io.Reader }

func (u *unpacking) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) {
		err = fmt.Errorf("%w: %w", zkdata.ErrDamaged, err)
	}
	return n, err
}

// replay applies the logs: all that begin at from or later, and the last one before.
func replay(fs vfs.FS, dir string, files []file, from int64, t *zkdata.Tree, report *Report) error {
	first := 0
	for i, f := range files {
		if f.zxid < from {
			first = i
		}
	}
	for i, l := range files[first:] {
		last := first+i == len(files)-1
		end, err := replayFile(fs, dir, l, from, t)
		if err != nil {
			return fmt.Errorf("%s: %w; a ZooKeeper does not start from it either: its own TxnLogToolkit can cut the log there", l.name, err)
		}
		if end.Torn && end.Last == 0 && !last {
			return fmt.Errorf("%s: %w: it has no whole head, and there are logs behind it", l.name, zkdata.ErrDamaged)
		}
		if end.Torn {
			report.Notes = append(report.Notes, l.name+" ends in the midst of a transaction, as a log does whose writer died; what came before it was taken")
		}
		report.Logs++
		report.Transactions += end.Replayed
	}
	return nil
}

func replayFile(fs vfs.FS, dir string, l file, from int64, t *zkdata.Tree) (zkdata.LogEnd, error) {
	f, err := fs.Open(path.Join(dir, l.name), vfs.ReadOnly)
	if err != nil {
		return zkdata.LogEnd{}, fmt.Errorf("open: %w", err)
	}
	defer f.Close()
	r, err := Reader(f)
	if err != nil {
		return zkdata.LogEnd{}, fmt.Errorf("open: %w", err)
	}
	return t.Replay(r, from)
}

// configPath says who the members of the other ensemble are, and nothing of this one.
const configPath = "/zookeeper/config"

// fromTree makes a backup of what a ZooKeeper had.
func fromTree(t *zkdata.Tree, report Report) (*znode.Backup, Report, error) {
	report.Zxid, report.Sessions = t.Zxid, t.Sessions
	if t.Zxid < 0 || t.Zxid >= znode.BackupZxidMax {
		return nil, report, fmt.Errorf("%w: its last zxid is %#x, and no ensemble counts so far", zkdata.ErrDamaged, uint64(t.Zxid))
	}
	b := znode.NewBackup(t.Zxid, 0)
	for _, name := range t.Paths() {
		n := t.Node(name)
		if name == configPath {
			continue
		}
		if name == znode.PathCairn || strings.HasPrefix(name, znode.PathCairn+"/") {
			report.Reserved++
			continue
		}
		node := znode.Node{
			Path: name, Data: n.Data, ACL: n.ACL, Kind: znode.Persistent,
			Czxid: n.Czxid, Mzxid: n.Mzxid, Pzxid: n.Pzxid, Ctime: n.Ctime, Mtime: n.Mtime,
			Version: n.Version, Cversion: n.Cversion, Aversion: n.Aversion,
		}
		switch kind, ttl := znode.DecodeOwner(n.Owner, true, false); kind {
		case znode.OwnerVoid:
		case znode.OwnerContainer:
			node.Kind = znode.Container
		case znode.OwnerTTL:
			node.Kind, node.TTLMs = znode.TTL, ttl
		default:
			report.Ephemerals++
			continue
		}
		if err := b.Add(node); err != nil {
			return nil, report, fmt.Errorf("%w: %w", zkdata.ErrDamaged, err)
		}
	}
	b.LeftOut(report.Ephemerals)
	report.Nodes = b.Nodes()
	return b, report, nil
}

// SnapshotName is the name that a ZooKeeper looks for.
func SnapshotName(zxid int64) string { return "snapshot." + strconv.FormatInt(zxid, 16) }

// WriteZooKeeper writes a backup as a snapshot that a ZooKeeper 3.8 or 3.9 starts from. /zookeeper/config is as at birth:
// that ZooKeeper puts its own members there.
func WriteZooKeeper(w io.Writer, b *znode.Backup) error {
	return zkdata.WriteSnapshot(w, b.Zxid(), func(visit func(string, *zkdata.Node) bool) {
		b.Walk(func(n znode.Node) bool {
			out := &zkdata.Node{
				Data: n.Data, ACL: n.ACL, Czxid: n.Czxid, Mzxid: n.Mzxid, Pzxid: n.Pzxid, Ctime: n.Ctime, Mtime: n.Mtime,
				Version: n.Version, Cversion: n.Cversion, Aversion: n.Aversion,
			}
			switch n.Kind {
			case znode.Container:
				out.Owner = znode.ContainerOwner
			case znode.TTL:
				out.Owner = znode.EncodeTTL(n.TTLMs)
			}
			more := visit(n.Path, out)
			if more && n.Path == path.Dir(configPath) {
				more = visit(configPath, &zkdata.Node{Data: []byte{}, ACL: jute.ReadACL(), Aversion: -1})
			}
			return more
		})
	})
}
