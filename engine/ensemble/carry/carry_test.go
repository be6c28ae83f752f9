package carry

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/zkdata"
	"cairn/engine/ensemble/znode"
	"cairn/platform/vfs"
)

// The directories in testdata were written by real ZooKeepers of these versions, which died by kill -9 twice (zeros at the
// end of their logs, which were preallocated, are cut); tree.txt is what a client saw of them at the end.
var releases = []string{"3.8.4", "3.9.5"}

// data is a copy of a ZooKeeper's directory, to be changed.
func data(tb testing.TB, release string) (fs vfs.FS, dir string) {
	tb.Helper()
	mem := vfs.NewMem()
	dir = "/zookeeper/version-2"
	if err := mem.MkdirAll(dir); err != nil {
		tb.Fatal(err)
	}
	entries, err := os.ReadDir(path.Join("testdata", release))
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "tree.txt" {
			continue
		}
		b, err := os.ReadFile(path.Join("testdata", release, e.Name()))
		if err != nil {
			tb.Fatal(err)
		}
		put(tb, mem, path.Join(dir, e.Name()), b)
	}
	return mem, dir
}

func put(tb testing.TB, fs vfs.FS, name string, b []byte) {
	tb.Helper()
	if err := vfs.WriteFile(fs, name, b); err != nil {
		tb.Fatal(err)
	}
}

func get(tb testing.TB, fs vfs.FS, name string) []byte {
	tb.Helper()
	b, err := vfs.ReadFile(fs, name, 1<<20)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// want is what a client saw, with the quota's stats as they are without the one ephemeral that was left.
func want(tb testing.TB, release string) string {
	tb.Helper()
	b, err := os.ReadFile(path.Join("testdata", release, "tree.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	stats := strings.Count(string(b), "/zookeeper_stats \"count=9,bytes=17\"")
	if stats != 1 {
		tb.Fatalf("%d lines with the stats of the quota", stats)
	}
	return strings.Replace(string(b), "count=9,bytes=17", "count=8,bytes=14", 1)
}

// seen restores a backup into a tree and shows what a client sees of it, as tree.txt does.
func seen(tb testing.TB, b *znode.Backup) string {
	tb.Helper()
	t := restored(tb, b)
	var lines []string
	t.Walk("/", func(path string, data []byte, s jute.Stat) bool {
		if path == "/zookeeper/config" {
			return true
		}
		created, pzxid := (s.Cversion+s.NumChildren)/2, s.Pzxid
		if path == "/" {
			created, pzxid = 0, 0
		}
		var acls []string
		for _, a := range t.NodeACL(path) {
			acls = append(acls, fmt.Sprintf("{%d %s %s}", a.Perms, a.ID.Scheme, a.ID.ID))
		}
		children := s.NumChildren
		if path == "/zookeeper" {
			children = 2 // the config is there again
		}
		lines = append(lines, fmt.Sprintf("%s %q acl=%v czxid=%x mzxid=%x pzxid=%x ctime=%d mtime=%d version=%d created=%d aversion=%d length=%d children=%d",
			path, data, acls, s.Czxid, s.Mzxid, pzxid, s.Ctime, s.Mtime, s.Version, created, s.Aversion, s.DataLength, children))
		return true
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// restored is a tree that a backup was restored into, by way of its stream and of entries.
func restored(tb testing.TB, b *znode.Backup) *znode.Tree {
	tb.Helper()
	var stream bytes.Buffer
	if err := Write(&stream, b); err != nil {
		tb.Fatal(err)
	}
	t := znode.New()
	apply := func(kind znode.Kind, data []byte) {
		tb.Helper()
		if o := t.Apply(&znode.Entry{Kind: kind, Flags: znode.FlagInternal, Data: data}); o.Err != jute.OK {
			tb.Fatalf("entry of kind %d: %v", kind, o.Err)
		}
	}
	next := Frames(&stream)
	for part := uint64(0); ; part++ {
		payload, err := next()
		if err == io.EOF {
			break
		}
		if err != nil {
			tb.Fatal(err)
		}
		apply(znode.KindStage, znode.StageData(1, part, payload))
	}
	apply(znode.KindSwap, znode.StageID(1))
	return t
}

func load(tb testing.TB, fs vfs.FS, dir string) (*znode.Backup, Report) {
	tb.Helper()
	b, report, err := FromZooKeeper(fs, dir, "", 0)
	if err != nil {
		tb.Fatal(err)
	}
	return b, report
}

func snapshots(tb testing.TB, fs vfs.FS, dir string) []file {
	tb.Helper()
	files, err := numbered(fs, dir, "snapshot")
	if err != nil {
		tb.Fatal(err)
	}
	return files
}

// Whatever snapshot is the newest, the logs behind it lead to the tree that the client saw.
func TestEverySnapshotLeadsToTheSameTree(t *testing.T) {
	for _, release := range releases {
		fs, dir := data(t, release)
		files := snapshots(t, fs, dir)
		if len(files) < 4 {
			t.Fatalf("%d snapshots", len(files))
		}
		for _, newest := range slices.Backward(files) {
			b, report := load(t, fs, "/zookeeper")
			if got := seen(t, b); got != want(t, release) {
				t.Errorf("%s from %s:\n%s\nwant\n%s", release, newest.name, got, want(t, release))
			}
			if report.Snapshot != newest.name || report.Ephemerals != 1 || b.Ephemerals() != 1 || report.Zxid != b.Zxid() || report.Zxid < 0x23 ||
				report.Transactions != int(report.Zxid-newest.zxid) || len(report.Notes) != 0 {
				t.Errorf("%s: %+v", newest.name, report)
			}
			if err := fs.Remove(path.Join(dir, newest.name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A snapshot of ZooKeeper may hold more than its name says, since it was written while the tree went on: what is replayed
// a second time changes nothing.
func TestFuzzySnapshots(t *testing.T) {
	for _, release := range releases {
		fs, dir := data(t, release)
		files := snapshots(t, fs, dir)
		newest := files[len(files)-1]
		body := get(t, fs, path.Join(dir, newest.name))
		for _, f := range files {
			if err := fs.Remove(path.Join(dir, f.name)); err != nil {
				t.Fatal(err)
			}
		}
		for zxid := int64(0); zxid <= newest.zxid; zxid++ {
			name := path.Join(dir, SnapshotName(zxid))
			put(t, fs, name, body)
			b, _ := load(t, fs, dir)
			if got := seen(t, b); got != want(t, release) {
				t.Fatalf("%s of %x taken for that of %x:\n%s\nwant\n%s", release, newest.zxid, zxid, got, want(t, release))
			}
			if err := fs.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPackedSnapshots(t *testing.T) {
	fs, dir := data(t, "3.9.5")
	files := snapshots(t, fs, dir)
	newest := path.Join(dir, files[len(files)-1].name)
	body := get(t, fs, newest)
	if err := fs.Remove(newest); err != nil {
		t.Fatal(err)
	}
	put(t, fs, newest+".snappy", []byte("\x82SNAPPY\x00"))
	b, report := load(t, fs, dir)
	if seen(t, b) != want(t, "3.9.5") || len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "snappy") {
		t.Errorf("%+v", report)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, fs, newest+".gz", packed.Bytes())
	b, report = load(t, fs, dir)
	if seen(t, b) != want(t, "3.9.5") || report.Snapshot != path.Base(newest)+".gz" {
		t.Errorf("%+v", report)
	}
	torn := packed.Bytes()[:packed.Len()-6]
	put(t, fs, newest+".gz", torn)
	if b, report = load(t, fs, dir); seen(t, b) != want(t, "3.9.5") || report.Snapshot == path.Base(newest)+".gz" {
		t.Errorf("%+v", report)
	}
}

// A snapshot with a wrong bit, or cut at any byte, is not taken: an older one is, and the logs lead to the same tree.
func TestDamagedSnapshots(t *testing.T) {
	fs, dir := data(t, "3.9.5")
	files := snapshots(t, fs, dir)
	newest := files[len(files)-1]
	name := path.Join(dir, newest.name)
	body := get(t, fs, name)
	for at := 16; at < len(body); at += 7 { // nobody looks at the version and the database's id before
		wrong := slices.Clone(body)
		wrong[at] ^= 4
		for what, b := range map[string][]byte{"a bit of": wrong, "cut at": body[:at]} {
			if what == "cut at" && (at == len(body)-21 || at == len(body)-21-33) {
				continue // behind a seal: an older ZooKeeper writes no more
			}
			put(t, fs, name, b)
			got, report := load(t, fs, dir)
			if report.Snapshot == newest.name || len(report.Notes) != 1 || seen(t, got) != want(t, "3.9.5") {
				t.Fatalf("%s byte %d: %+v", what, at, report)
			}
		}
	}
	for _, f := range files {
		put(t, fs, path.Join(dir, f.name), body[:100])
	}
	if _, _, err := FromZooKeeper(fs, dir, "", 0); !errors.Is(err, zkdata.ErrDamaged) || !strings.Contains(err.Error(), newest.name) {
		t.Errorf("no whole snapshot: %v", err)
	}
}

// A log that is cut anywhere ends there, and what came before it counts; one with a wrong bit is refused, as a ZooKeeper
// refuses it.
func TestDamagedLogs(t *testing.T) {
	fs, dir := data(t, "3.9.5")
	logs, err := numbered(fs, dir, "log")
	if err != nil {
		t.Fatal(err)
	}
	last := path.Join(dir, logs[len(logs)-1].name)
	for _, f := range snapshots(t, fs, dir)[1:] {
		if err := fs.Remove(path.Join(dir, f.name)); err != nil {
			t.Fatal(err)
		}
	}
	body := get(t, fs, last)
	end := len(bytes.TrimRight(body, "\x00"))
	torn := 0
	for n := range end {
		put(t, fs, last, body[:n])
		b, report := load(t, fs, dir)
		if b.Zxid() >= 0x23+1 && n < end-8 {
			t.Fatalf("cut at byte %d: zxid %#x", n, b.Zxid())
		}
		torn += len(report.Notes)
	}
	if torn < end-24 {
		t.Errorf("%d of %d cuts were told of", torn, end)
	}
	refused := 0
	for at := 16; at < end-1; at++ {
		wrong := slices.Clone(body)
		wrong[at] ^= 1
		put(t, fs, last, wrong)
		_, report, err := FromZooKeeper(fs, dir, "", 0)
		switch {
		case errors.Is(err, zkdata.ErrDamaged) && strings.Contains(err.Error(), path.Base(last)):
			refused++
		case err != nil || len(report.Notes) == 0: // a length that lies beyond the end looks like a torn one
			t.Errorf("a bit of byte %d: %+v, %v", at, report, err)
		}
	}
	if refused < end/2 {
		t.Errorf("%d of %d wrong bits were refused", refused, end)
	}
	put(t, fs, last, body)
	head := path.Join(dir, logs[0].name)
	put(t, fs, head, []byte("ZKLG\x00"))
	if _, _, err := FromZooKeeper(fs, dir, "", 0); !errors.Is(err, zkdata.ErrDamaged) {
		t.Errorf("a log without a head before others: %v", err)
	}
}

func TestWhereThereIsNothing(t *testing.T) {
	fs, dir := data(t, "3.9.5")
	if _, _, err := FromZooKeeper(fs, "/nowhere", "", 0); !errors.Is(err, ErrNothing) {
		t.Error(err)
	}
	if err := fs.MkdirAll("/empty"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := FromZooKeeper(fs, "/empty", "", 0); !errors.Is(err, ErrNothing) {
		t.Error(err)
	}
	for _, f := range snapshots(t, fs, dir) {
		if err := fs.MkdirAll("/snapshots/version-2"); err != nil {
			t.Fatal(err)
		}
		put(t, fs, path.Join("/snapshots/version-2", f.name), get(t, fs, path.Join(dir, f.name)))
		if err := fs.Remove(path.Join(dir, f.name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := FromZooKeeper(fs, dir, "", 0); !errors.Is(err, ErrNothing) || !strings.Contains(err.Error(), "trust.empty") {
		t.Error(err)
	}
	// A dataLogDir of its own.
	b, _, err := FromZooKeeper(fs, "/snapshots", "/zookeeper", 0)
	if err != nil || seen(t, b) != want(t, "3.9.5") {
		t.Error(err)
	}
	if _, _, err := FromZooKeeper(fs, "/snapshots", "/zookeeper", 500); !errors.Is(err, zkdata.ErrTooLarge) {
		t.Errorf("more than the bound: %v", err)
	}
}

// What is written for a ZooKeeper is read again as the same tree; a real one reads it in the conformance suite.
func TestExportAndImport(t *testing.T) {
	for _, release := range releases {
		fs, dir := data(t, release)
		b, _ := load(t, fs, dir)
		var out bytes.Buffer
		if err := WriteZooKeeper(&out, b); err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(out.Bytes(), []byte("/zookeeper/config")); n != 1 {
			t.Errorf("the config comes %d times", n)
		}
		back, report, err := Read(bytes.NewReader(out.Bytes()), 0)
		if err != nil {
			t.Fatal(err)
		}
		if back.Zxid() != b.Zxid() || report.Ephemerals != 0 || report.Nodes != b.Nodes() {
			t.Errorf("%+v", report)
		}
		var nodes, again []string
		show := func(lines *[]string) func(znode.Node) bool {
			return func(n znode.Node) bool {
				if !strings.HasSuffix(n.Path, "/zookeeper_stats") {
					*lines = append(*lines, fmt.Sprintf("%+v %v", n, n.Data == nil))
				}
				return true
			}
		}
		b.Walk(show(&nodes))
		back.Walk(show(&again))
		slices.Sort(nodes)
		slices.Sort(again)
		if !slices.Equal(nodes, again) {
			t.Errorf("%s\nwant\n%s", strings.Join(again, "\n"), strings.Join(nodes, "\n"))
		}
	}
}

// What belongs to the boxes alone does not come in, and is said.
func TestReservedPaths(t *testing.T) {
	b := znode.NewBackup(9, 0)
	for _, p := range []string{"/", "/cairn", "/cairn/kafka", "/cairns", "/zookeeper"} {
		if err := b.Add(znode.Node{Path: p, Kind: znode.Persistent}); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := WriteZooKeeper(&out, b); err != nil {
		t.Fatal(err)
	}
	back, report, err := Read(&out, 0)
	if err != nil || report.Reserved != 2 || back.Nodes() != 3 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestReadRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":  {nil, ErrUnknown},
		"text":     {[]byte("hello, world"), ErrUnknown},
		"magic":    {[]byte(znode.BackupMagic), znode.ErrSnapshot},
		"snapshot": {[]byte("ZKSN\x00\x00\x00\x02"), zkdata.ErrDamaged},
		"gzip":     {[]byte{0x1f, 0x8b, 8, 0}, zkdata.ErrDamaged},
		// Lengths and counts that nothing stands behind.
		"sessions": {append([]byte("ZKSN\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00"), 0x7f, 0xff, 0xff, 0xff), zkdata.ErrDamaged},
		"path":     {append([]byte("ZKSN\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0x0f, 0xff, 0xff, 0xff), zkdata.ErrDamaged},
	} {
		if _, _, err := Read(bytes.NewReader(c.b), 0); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// FuzzZooKeeper: a snapshot with a true seal and transactions with true checksums, whatever they say, are refused or become a
// backup, whose paths are those of one tree.
func FuzzZooKeeper(f *testing.F) {
	for _, release := range releases {
		dir := path.Join("testdata", release)
		entries, err := os.ReadDir(dir)
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range entries {
			b, err := os.ReadFile(path.Join(dir, e.Name()))
			if err != nil {
				f.Fatal(err)
			}
			switch {
			case strings.HasPrefix(e.Name(), "snapshot."):
				f.Add(b[:len(b)-tails[release]], []byte(nil))
			case strings.HasPrefix(e.Name(), "log."):
				f.Add([]byte(nil), transactions(b))
			}
		}
	}
	f.Fuzz(func(t *testing.T, body, txns []byte) {
		if len(body) == 0 {
			body = birth
		}
		sealed := binary.BigEndian.AppendUint64(slices.Clone(body), uint64(adler32.Checksum(body)))
		tree, err := zkdata.ReadSnapshot(bytes.NewReader(append(sealed, "\x00\x00\x00\x01/"...)), 1<<20)
		if err != nil {
			return
		}
		if _, err := tree.Replay(bytes.NewReader(logOf(txns)), 0); err != nil {
			return
		}
		b, _, err := fromTree(tree, Report{})
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := Write(&out, b); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Read(&out, 0); err != nil {
			t.Fatal(err)
		}
	})
}

// tails are the bytes of seals, digest and last zxid.
var tails = map[string]int{"3.8.4": 13 + 20 + 13, "3.9.5": 13 + 20 + 13 + 8 + 13}

// birth is the snapshot that a ZooKeeper is born with, without its seals.
var birth = func() []byte {
	b := znode.NewBackup(0, 0)
	for _, p := range []string{"/", "/zookeeper", "/zookeeper/quota"} {
		if err := b.Add(znode.Node{Path: p, Kind: znode.Persistent}); err != nil {
			panic(err)
		}
	}
	var out bytes.Buffer
	if err := WriteZooKeeper(&out, b); err != nil {
		panic(err)
	}
	return out.Bytes()[:out.Len()-tails["3.9.5"]]
}()

// transactions are those of a log, each behind its length in two bytes.
func transactions(log []byte) []byte {
	var out []byte
	for b := log[16:]; len(b) > 12; {
		n := int(binary.BigEndian.Uint32(b[8:]))
		if n == 0 || len(b) < 12+n+1 {
			break
		}
		out = append(binary.BigEndian.AppendUint16(out, uint16(n)), b[12:12+n]...)
		b = b[12+n+1:]
	}
	return out
}

// logOf is a log of such transactions.
func logOf(txns []byte) []byte {
	out := append([]byte("ZKLG\x00\x00\x00\x02"), make([]byte, 8)...)
	for len(txns) > 2 {
		n := min(int(binary.BigEndian.Uint16(txns)), len(txns)-2)
		b := txns[2 : 2+n]
		out = binary.BigEndian.AppendUint64(out, uint64(adler32.Checksum(b)))
		out = append(binary.BigEndian.AppendUint32(out, uint32(n)), b...)
		out = append(out, 'B')
		txns = txns[2+n:]
	}
	return out
}
