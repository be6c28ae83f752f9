package engine_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// semantics are the rules of ZooKeeper that servers which only look like it get wrong. A test of one names it in its comment,
// and a script in a line that begins with "#", as "semantics 14"; `git grep -w "semantics 14"` finds them. Numbers are not
// given anew.
var semantics = [...]string{
	1:  "cversion as clients see it is twice the creates less the children there are; the tree counts creates",
	2:  "the number of a sequential node is the parent's count of creates, ten digits, signed 32 bits; the path is judged with it",
	3:  "which stats of a node and of its parent each write changes, and which it leaves",
	4:  "clients see no owner at containers and TTL nodes",
	5:  "version -1 is any; versions begin at 0, and wrap as signed 32 bits (3.9.5 does not leave -1 out)",
	6:  "a multi is one zxid, its later ops see the earlier; when it fails each op is answered with an error and the header with none",
	7:  "a write that fails takes a zxid too, and no answer of a connection has a lower zxid than one before",
	8:  "the order in which the reasons to refuse a write are looked at",
	9:  "getACL takes READ or ADMIN and masks digests without ADMIN; exists takes READ; addWatch takes nothing",
	10: "an event is told to who may read the node, or the parent whose children changed; the watch is spent all the same",
	11: "the ACL scheme auth becomes every id that the connection has proven; what is empty, unknown or malformed is InvalidACL",
	12: "auth belongs to the connection and adds up; a digest is always right; a failure is answered with AuthFailed, then closed",
	13: "who knows the super digest passes every ACL",
	14: "the event stands before every reply that shows the new state; a session's requests are answered in order, pings too",
	15: "exists on what is missing arms a watch for its creation; getData and getChildren on what is missing arm none",
	16: "one-shot watches of a connection are one for each path and kind; whom a deletion tells, and whom only once",
	17: "persistent watches get all four events, recursive ones all but changed children; beside a one-shot they are one event",
	18: "setWatches tells what was missed before its reply, arms the rest, and only arms persistent watches",
	19: "a client that has seen more than this server has applied is refused by closing",
	20: "the right password reopens the session; a wrong one, or a session that is over, is answered with zeros and never with a new session",
	21: "a session that is reopened elsewhere loses its old connection, which is closed and told nothing",
	22: "the leader alone ends sessions, in the tick after the timeout; a new leader gives each its whole time",
	23: "a closed session's ephemerals go in one transaction, those under way too; then the reply, then the end of the connection",
	24: "a session is opened by a transaction, and answered when that is committed",
	25: "ephemerals have no children, containers and TTL nodes may",
	26: "containers that had a child and TTL nodes go when they are empty, judged again when it comes to pass",
	27: "which paths are refused, and that reads are not judged so",
	28: "ip ACLs are networks; IPv4 and IPv6 never match each other, and an IPv4 client of an IPv6 socket is an IPv4 client",
	29: "behind a sync a server shows all that was acknowledged before it was asked",
	30: "a read-only server takes no write and no sync, and its sessions are its own",
	31: "beyond the maximum of requests under way sockets are not read: nothing is refused unless a throttle is set; a frame that is too long ends its connection",
	32: "zxids only grow: over restarts, leaders, snapshots and restores",
	33: "times in stats are the leader's, out of the entry",
	34: "getEphemerals are those of the own session by a prefix of characters; getAllChildrenNumber counts all below",
	35: "null data stays null and is not empty data; its length is 0",
	36: "a quota's stats count the node itself with what is below it; where quotas are enforced a hard limit refuses, a soft one does not",
	37: "x509 and SASL ids of connections over TLS",
	38: "a word that is none is a length, and too long a one: the connection ends",
}

// untested says why a number has no test.
var untested = map[int]string{37: "the client port has no TLS and no SASL yet"}

var named = regexp.MustCompile(`\bsemantics (\d+)\b`)

// Every number is named by a test, and no test names another.
func TestEverySemanticsIsTested(t *testing.T) {
	tests := map[int][]string{}
	err := filepath.WalkDir("ensemble", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var texts map[string]string
		switch {
		case strings.HasSuffix(path, "_test.go"):
			texts, err = testsOf(path)
		case strings.HasSuffix(path, ".txt") && filepath.Base(filepath.Dir(path)) == "testdata":
			texts, err = scriptOf(path)
		}
		for where, text := range texts {
			for _, m := range named.FindAllStringSubmatch(text, -1) {
				n, _ := strconv.Atoi(m[1])
				tests[n] = append(tests[n], where)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for n, where := range tests {
		if n < 1 || n >= len(semantics) {
			t.Errorf("%v name semantics %d, which there is not", where, n)
		}
	}
	for n := 1; n < len(semantics); n++ {
		why, excepted := untested[n]
		switch {
		case len(tests[n]) == 0 && !excepted:
			t.Errorf("no test names semantics %d: %s", n, semantics[n])
		case len(tests[n]) > 0 && excepted:
			t.Errorf("%v test semantics %d, of which is said: %s", tests[n], n, why)
		}
	}
}

// testsOf are the comments of a file's tests, at their heads and inside.
func testsOf(path string) (map[string]string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, d := range f.Decls {
		test, ok := d.(*ast.FuncDecl)
		if !ok || test.Recv != nil || !strings.HasPrefix(test.Name.Name, "Test") {
			continue
		}
		from := test.Pos()
		if test.Doc != nil {
			from = test.Doc.Pos()
		}
		for _, c := range f.Comments {
			if from <= c.Pos() && c.End() <= test.End() {
				texts[path+": "+test.Name.Name] += " " + strings.ReplaceAll(c.Text(), "\n", " ")
			}
		}
	}
	return texts, nil
}

// scriptOf are the comments of a script.
func scriptOf(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	text := ""
	for line := range strings.Lines(string(b)) {
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			text += strings.TrimSuffix(comment, "\n") + " "
		}
	}
	return map[string]string{path: text}, nil
}
