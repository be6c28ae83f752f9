package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"cairn/engine/ensemble/carry"
	"cairn/engine/ensemble/znode"
	"cairn/platform/vfs"
)

// zooKeeperData was written by a real ZooKeeper.
const zooKeeperData = "../../engine/ensemble/carry/testdata/3.9.5"

func TestBackupAndRestore(t *testing.T) {
	s := serveBox(t)
	dir := t.TempDir()
	file, export := filepath.Join(dir, "tree"), filepath.Join(dir, "zookeeper")
	s.tell([]step{
		{line: "zk create /app one"},
		{line: "backup --to " + file, out: []string{"4 znodes", "0 ephemerals were left out"}},
		{line: "zk set /app two"},
		{line: "zk create /later"},
		{line: "restore " + file, out: []string{"Restored 4 znodes", "All sessions of ZooKeeper clients have ended"}},
		{line: "zk get /app", out: []string{"one"}},
		{line: "zk ls /later", code: exitFailed, errs: "node does not exist"},
		{line: "backup --to-zookeeper " + export, out: []string{"snapshot.1000"}},
		{line: "backup --to-zookeeper " + export, code: exitFailed, errs: "holds the data of a ZooKeeper already"},
		{line: "restore --from-zookeeper " + zooKeeperData, out: []string{"Read snapshot.21", "Restored 19 znodes", "1 ephemerals were left out"}},
		{line: "zk get /m/x", out: []string{"set"}},
		{line: "restore --from-zookeeper " + export, out: []string{"Restored 4 znodes"}},
		{line: "zk get /app", out: []string{"one"}},
		{line: "backup", code: exitUsage, errs: "give a file with --to"},
		{line: "backup --to x --to-zookeeper y", code: exitUsage, errs: "give a file with --to"},
		{line: "restore", code: exitUsage, errs: "give a file"},
		{line: "restore x --from-zookeeper y", code: exitUsage, errs: "give a file"},
		{line: "restore " + filepath.Join(dir, "nothing"), code: exitFailed, errs: "no such file"},
		{line: "restore --from-zookeeper " + dir + "/nothing", code: exitFailed, errs: "no ZooKeeper data"},
	})
	snapshots, err := filepath.Glob(filepath.Join(export, "version-2", "*"))
	if err != nil || len(snapshots) != 1 {
		t.Fatalf("%v, %v", snapshots, err)
	}
	s.tell([]step{{line: "restore " + snapshots[0], out: []string{"Restored 4 znodes"}}})
	// A file that is cut or damaged is refused, and nothing is changed; one that is there stays until a new one is whole.
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, whole[:len(whole)-10], 0o600); err != nil {
		t.Fatal(err)
	}
	s.tell([]step{
		{line: "restore " + short, code: exitFailed, errs: "cut short"},
		{line: "zk get /app", out: []string{"one"}},
	})
	// Into a directory.
	data := filepath.Join(dir, "data")
	for _, r := range []result{
		cairn("", "restore", "--data", data, short),
		cairn("", "restore", "--data", s.data, file),
		cairn("", "restore", "--data", data, "--memory", "much", file),
	} {
		if r.code == exitOK {
			t.Errorf("%s: %s%s", r.line, r.out, r.errs)
		}
	}
	large := znode.NewBackup(1, 0)
	for _, n := range []znode.Node{{Path: "/", Kind: znode.Persistent}, {Path: "/x", Kind: znode.Persistent, Data: make([]byte, 17<<20)}} {
		if err := large.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	beyond := filepath.Join(dir, "beyond")
	if err := vfs.ReplaceFile(vfs.OS(), beyond, func(w io.Writer) error { return carry.Write(w, large) }); err != nil {
		t.Fatal(err)
	}
	if r := cairn("", "restore", "--data", data, "--memory", "64MiB", beyond); r.code != exitFailed || !strings.Contains(r.errs, "trees of up to 16 MiB: give more with --memory") {
		t.Errorf("%+v", r)
	}
	if r := cairn("", "restore", "--json", "--data", data, file); r.code != exitOK || r.rows(t)[0]["nodes"] != 4.0 || r.rows(t)[0]["zxid"] == "0x0" {
		t.Errorf("%+v", r)
	}
	if r := cairn("", "restore", "--data", data, file); r.code != exitFailed || !strings.Contains(r.errs, "holds a tree already") {
		t.Errorf("%+v", r)
	}
	if r := cairn("", "backup", "--to", file, "--http", "127.0.0.1:1"); r.code != exitUnready {
		t.Errorf("%+v", r)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != string(whole) {
		t.Errorf("a backup that failed has changed the file: %v", err)
	}
}

// Who may not is told what it takes.
func TestBackupOfAClosedTree(t *testing.T) {
	s := serveBox(t)
	file := filepath.Join(t.TempDir(), "tree")
	s.tell([]step{{line: "zk create /app one"}})
	conn, _, err := zk.Connect([]string{s.at["zookeeper"].String()}, 10*time.Second, zk.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.AddAuth("digest", []byte("owner:secret")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.SetACL("/", zk.DigestACL(zk.PermAll, "owner", "secret"), -1); err != nil {
		t.Fatal(err)
	}
	s.tell([]step{
		{line: "backup --to " + file, code: exitFailed, errs: "--auth user:password"},
		{line: "backup --auth owner:guess --to " + file, code: exitFailed, errs: "--auth user:password"},
		{line: "backup --auth owner:secret --to " + file, out: []string{"4 znodes"}},
		{line: "restore " + file, code: exitFailed, errs: "--auth user:password"},
		{line: "restore --auth owner:secret " + file, out: []string{"Restored 4 znodes"}},
	})
}
