package engine_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ban says that no package at or below from may import a package at or below to.
type ban struct{ from, to, why string }

var bans = []ban{
	{"cairn/platform", "cairn/engine", "the ground floor knows nothing of the engine"},
	{"cairn/platform", "cairn/configs", "settings come to the ground floor as values"},
	{"cairn/engine", "cairn/cmd", "a program uses the engine, not the other way"},
	{"cairn/engine/ensemble", "cairn/engine/broker", "two wings: the ensemble is whole without Kafka"},
	{"cairn/engine/broker", "cairn/engine/ensemble", "two wings: the broker declares what it needs of the tree (catalog.Tree)"},
	{"cairn/engine/broker", "cairn/engine/node", "node assembles; rooms do not know their house"},
	{"cairn/engine/ensemble", "cairn/engine/node", "node assembles; rooms do not know their house"},
	{"cairn/engine/console", "cairn/engine/broker", "the console takes sections {path, handler} and imports no owner"},
	{"cairn/engine/console", "cairn/engine/ensemble", "the console takes sections {path, handler} and imports no owner"},
	{"cairn/engine/link", "cairn/engine/ensemble", "the link carries bytes; node registers the rooms that know them"},
	{"cairn/engine/link", "cairn/engine/broker", "the link carries bytes; node registers the rooms that know them"},
	{"cairn/engine/ensemble", "cairn/engine/link", "the ensemble is given a Transport"},
	{"cairn/engine/broker/batch", "cairn/engine/broker", "vocabulary imports no room above it"},
	{"cairn/engine/broker/batch", "cairn/platform", "vocabulary does no I/O"},
	{"cairn/engine/broker/partition", "cairn/platform", "rules are pure: no I/O, no clock"},
	{"cairn/engine/broker/partition", "cairn/engine/broker/seglog", "rules do not know how bytes are stored"},
	{"cairn/engine/broker/group", "cairn/engine/broker/seglog", "rules do not know how bytes are stored"},
	{"cairn/engine/broker/catalog", "cairn/platform", "a projection is pure: no I/O, no clock"},
	{"cairn/engine/broker/seglog", "cairn/engine/broker/partition", "producer state is an opaque blob to the log"},
	{"cairn/engine/broker/seglog", "cairn/engine/broker/replica", "no room calls the room above"},
	{"cairn/engine/broker/seglog", "cairn/engine/broker/compact", "the log is compacted from above"},
	{"cairn/engine/broker/compact", "cairn/engine/broker/partition", "it is told where producers stand"},
	{"cairn/engine/broker/compact", "cairn/engine/broker/replica", "no room calls the room above"},
	{"cairn/engine/broker/compact", "cairn/platform/clock", "a pass is given its time"},
	{"cairn/engine/broker/replica", "cairn/engine/broker/kafkaserver", "owners do not know the wire"},
	{"cairn/engine/broker/replica", "cairn/engine/broker/catalog", "the topics room tells replicas what to do"},
	{"cairn/engine/broker/topics", "cairn/engine/broker/kafkaserver", "owners do not know the wire"},
	{"cairn/engine/broker/fetcher", "cairn/engine/broker/kafkaserver", "owners do not know the wire"},
	{"cairn/engine/broker/fetcher", "cairn/engine/broker/remote", "the fetcher is given Leaders"},
	{"cairn/engine/broker/fetcher", "cairn/engine/broker/catalog", "the topics room tells it whom to follow"},
	{"cairn/engine/broker/remote", "cairn/engine/link", "it is given connections"},
	{"cairn/engine/broker/coordinator", "cairn/engine/broker/kafkaserver", "owners do not know the wire"},
	{"cairn/engine/broker/controller", "cairn/engine/broker/kafkaserver", "owners do not know the wire"},
	{"cairn/engine/broker/kafkaserver", "cairn/platform/vfs", "a server has sockets and no disks; spans come from views"},
	{"cairn/engine/ensemble/jute", "cairn/engine/ensemble", "vocabulary imports no room above it"},
	{"cairn/engine/ensemble/jute", "cairn/platform", "vocabulary does no I/O"},
	{"cairn/engine/ensemble/znode", "cairn/platform", "rules are pure: no I/O, no clock"},
	{"cairn/engine/ensemble/znode", "cairn/engine/ensemble/raftlog", "rules do not know how bytes are stored"},
	{"cairn/engine/ensemble/zkdata", "cairn/platform", "ZooKeeper's files are read as streams that others open"},
	{"cairn/engine/ensemble/zkdata", "cairn/engine/ensemble/znode", "it knows ZooKeeper's tree; carry joins the two"},
	{"cairn/engine/ensemble/znode", "cairn/engine/ensemble/zkdata", "rules do not know other systems' files"},
	{"cairn/engine/ensemble/zkserver", "cairn/engine/ensemble/carry", "a server has sockets and no disks; node gives it a Carrier"},
	{"cairn/engine/ensemble/keeper", "cairn/platform/vfs", "rules are pure: no I/O"},
	{"cairn/engine/ensemble/quorum", "cairn/platform", "rules are pure: no I/O, no clock"},
	{"cairn/engine/ensemble/quorum", "cairn/engine/ensemble/znode", "who belongs is a text to the tree"},
	{"cairn/engine/ensemble/keeper", "cairn/platform/mailbox", "rules are pure: the ensemble drives them"},
	{"cairn/cmd", "cairn/engine/sim", "the simulation is for tests and is not shipped"},
	{"cairn/engine/node", "cairn/engine/sim", "the simulation is for tests and is not shipped"},
	{"cairn/engine/ensemble", "cairn/engine/sim", "rooms do not know who simulates them"},
	{"cairn/engine/broker", "cairn/engine/sim", "rooms do not know who simulates them"},
	{"cairn/engine/sim/history", "cairn/engine/ensemble", "clients' words are judged without asking the server's code"},
	{"cairn/engine/sim/history", "cairn/platform", "a history is given its clock, and does no I/O"},
}

// pure packages may not touch the outside even through the standard library.
var pure = []string{
	"cairn/engine/broker/batch", "cairn/engine/broker/wire", "cairn/engine/broker/partition", "cairn/engine/broker/group",
	"cairn/engine/broker/catalog", "cairn/engine/ensemble/jute", "cairn/engine/ensemble/znode", "cairn/engine/ensemble/keeper", "cairn/engine/ensemble/zkdata",
	"cairn/engine/ensemble/quorum", "cairn/engine/limits", "cairn/engine/invariant", "cairn/engine/sim/history",
}

var impure = []string{"os", "syscall", "math/rand", "math/rand/v2", "log", "log/slog", "os/exec"}

// one names the modules that one package alone imports, so that each can be replaced in one place.
var one = map[string][]string{
	"golang.org/x/sys":                  {"cairn/platform/vfs", "cairn/platform/sockio"},
	"go.etcd.io/raft":                   {"cairn/engine/ensemble"},
	"github.com/tidwall/wal":            {"cairn/engine/ensemble/raftlog"},
	"github.com/shirou/gopsutil":        {"cairn/platform/host"},
	"github.com/VictoriaMetrics":        {"cairn/platform/observe"},
	"github.com/BurntSushi/toml":        {"cairn/configs"},
	"github.com/klauspost/compress":     {"cairn/engine/broker/batch"},
	"github.com/pierrec/lz4":            {"cairn/engine/broker/batch"},
	"github.com/spf13/cobra":            {"cairn/cmd/cairn"},
	"github.com/go-zookeeper/zk":        {"cairn/cmd/cairn"},
	"github.com/twmb/franz-go/pkg/kadm": {"cairn/cmd/cairn"},
	"github.com/twmb/franz-go/pkg/kgo":  {"cairn/cmd/cairn"},
	"github.com/anishathalye/porcupine": {"cairn/engine/sim/history"},
}

// pkg is what the tests need to know of one package.
type pkg struct {
	imports  []string // of its files that are not tests
	comments []string // files that hold a package comment
	files    int
}

func load(t *testing.T) map[string]*pkg {
	t.Helper()
	pkgs := map[string]*pkg{}
	root := ".."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "packaging") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "//go:build ignore") {
			return err // a generator is no part of its package
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, filepath.Dir(path))
		p := pkgs["cairn/"+filepath.ToSlash(rel)]
		if p == nil {
			p = &pkg{}
			pkgs["cairn/"+filepath.ToSlash(rel)] = p
		}
		p.add(f, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 10 {
		t.Fatalf("found only %d packages: the walk is broken", len(pkgs))
	}
	return pkgs
}

func (p *pkg) add(f *ast.File, name string) {
	p.files++
	if f.Doc != nil && strings.TrimSpace(f.Doc.Text()) != "" {
		p.comments = append(p.comments, name)
	}
	for _, i := range f.Imports {
		p.imports = append(p.imports, strings.Trim(i.Path.Value, `"`))
	}
}

func within(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

func TestArrowsRunDown(t *testing.T) {
	for name, p := range load(t) {
		for _, imported := range p.imports {
			for _, b := range bans {
				if !within(name, b.from) || !within(imported, b.to) {
					continue
				}
				t.Errorf("%s imports %s: %s", name, imported, b.why)
			}
		}
	}
}

func TestPureRoomsDoNotTouchTheOutside(t *testing.T) {
	for name, p := range load(t) {
		if !slices.Contains(pure, name) {
			continue
		}
		for _, imported := range p.imports {
			if slices.Contains(impure, imported) {
				t.Errorf("%s imports %s: its rules are pure, and the outside comes in through arguments", name, imported)
			}
		}
	}
}

func TestOneImporterForEachModule(t *testing.T) {
	for name, p := range load(t) {
		for _, imported := range p.imports {
			for module, importers := range one {
				if within(imported, module) && !slices.Contains(importers, name) {
					t.Errorf("%s imports %s, which belongs to %v alone", name, imported, importers)
				}
			}
		}
	}
}

// What is broken on purpose, for tests of the tests, is asked for by tests alone.
func TestBugsOnPurposeAreForTests(t *testing.T) {
	found := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), "WithEarlyReads(") {
			if found++; filepath.ToSlash(path) != "../engine/ensemble/zkserver/early.go" {
				t.Errorf("%s asks for servers that are broken", path)
			}
		}
		return err
	})
	if err != nil || found == 0 {
		t.Fatalf("found in %d files: %v", found, err)
	}
}

func TestOnePackageCommentForEachPackage(t *testing.T) {
	for name, p := range load(t) {
		if len(p.comments) != 1 {
			t.Errorf("%s has %d package comments in %v, want exactly one: what it is, why, who owns its goroutine, what it must not do",
				name, len(p.comments), p.comments)
		}
	}
}
