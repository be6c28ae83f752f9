package znode

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cairn/engine/ensemble/jute"
)

// model is the tree as somebody would write it who does not care for memory or speed: whole paths in a map, copied whole
// for every multi. It knows what the generated entries need.
type model struct {
	nodes    map[string]modelNode
	sessions map[int64]bool
	zxid     int64
	time     int64
}

type modelNode struct {
	data                string
	null                bool
	kind                nodeKind
	owner               int64
	version, creates    int32
	czxid, mzxid, pzxid int64
	ctime, mtime        int64
}

func newModel() *model {
	m := &model{nodes: map[string]modelNode{}, sessions: map[int64]bool{}}
	for _, p := range []string{"/", pathZooKeeper, pathQuota, pathConfig} {
		m.nodes[p] = modelNode{kind: kindPersistent}
	}
	return m
}

func (m *model) clone() *model {
	c := *m
	c.nodes, c.sessions = maps.Clone(m.nodes), maps.Clone(m.sessions)
	return &c
}

func parentOf(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i == 0 {
		return "/"
	}
	return path[:i]
}

func (m *model) kids(path string) int {
	n := 0
	for p := range m.nodes {
		if p != "/" && parentOf(p) == path {
			n++
		}
	}
	return n
}

func (m *model) stat(path string) jute.Stat {
	n, kids := m.nodes[path], int32(m.kids(path))
	s := jute.Stat{
		Czxid: n.czxid, Mzxid: n.mzxid, Pzxid: n.pzxid, Ctime: n.ctime, Mtime: n.mtime, Version: n.version,
		Cversion: 2*n.creates - kids, DataLength: int32(len(n.data)), NumChildren: kids,
	}
	if path == pathConfig {
		s.Aversion = -1
	}
	if n.kind == kindEphemeral {
		s.EphemeralOwner = n.owner
	}
	return s
}

func (m *model) apply(e *Entry) (jute.Code, []Result) {
	m.zxid++
	m.time = max(m.time, e.TimeMs)
	switch e.Kind {
	case KindCreateSession:
		if e.Session != 0 && e.Session&LocalBit == 0 {
			return jute.BadArguments, nil
		}
		m.sessions[cmp.Or(e.Session, m.zxid)] = true
	case KindCloseSession:
		for p, n := range m.nodes {
			if n.kind == kindEphemeral && n.owner == e.Session {
				m.remove(p)
			}
		}
		delete(m.sessions, e.Session)
	case KindOp:
		r := m.op(e, &e.Ops[0])
		return r.Err, []Result{r}
	case KindReap:
		results := make([]Result, len(e.Ops))
		for i, op := range e.Ops {
			results[i] = Result{Type: op.Type, Path: op.Path, Err: m.reap(e, op.Path)}
		}
		return jute.OK, results
	case KindMulti:
		trial := m.clone()
		var results []Result
		for i := range e.Ops {
			r := trial.op(e, &e.Ops[i])
			if r.Err == jute.OK {
				results = append(results, r)
				continue
			}
			failed := make([]Result, len(e.Ops))
			for j := range failed {
				failed[j] = Result{Type: jute.OpError}
				if j > i {
					failed[j].Err = jute.RuntimeInconsistency
				}
			}
			failed[i].Err = r.Err
			return r.Err, failed
		}
		*m = *trial
		return jute.OK, results
	}
	return jute.OK, nil
}

func (m *model) remove(path string) {
	delete(m.nodes, path)
	p := m.nodes[parentOf(path)]
	p.pzxid = m.zxid
	m.nodes[parentOf(path)] = p
}

func (m *model) reap(e *Entry, path string) jute.Code {
	n, ok := m.nodes[path]
	switch {
	case !ok:
		return jute.NoNode
	case n.kind != kindContainer && n.kind != kindTTL:
		return jute.BadVersion
	case m.kids(path) > 0:
		return jute.NotEmpty
	case n.kind == kindContainer && n.creates == 0, n.kind == kindTTL && m.time-n.mtime <= n.owner:
		return jute.BadVersion
	}
	m.remove(path)
	return jute.OK
}

func (m *model) op(e *Entry, op *jute.Op) Result {
	r := Result{Type: op.Type, Path: op.Path}
	if !m.sessions[e.Session] {
		r.Err = jute.SessionExpired
		return r
	}
	n, exists := m.nodes[op.Path]
	switch op.Type {
	case jute.OpCreate, jute.OpCreate2, jute.OpCreateContainer, jute.OpCreateTTL:
		r.Path, r.Stat, r.Err = m.create(e, op)
		return r
	case jute.OpDelete:
		_, hasParent := m.nodes[parentOf(op.Path)]
		switch {
		case isSpecial(op.Path):
			r.Err = jute.BadArguments
		case parentOf(op.Path) == pathConfig:
			r.Err = jute.NoAuth
		case !hasParent || !exists:
			r.Err = jute.NoNode
		case op.Version != -1 && op.Version != n.version:
			r.Err = jute.BadVersion
		case m.kids(op.Path) > 0:
			r.Err = jute.NotEmpty
		default:
			m.remove(op.Path)
		}
	case jute.OpSetData, jute.OpCheck:
		switch {
		case !exists:
			r.Err = jute.NoNode
		case op.Type == jute.OpSetData && op.Path == pathConfig:
			r.Err = jute.NoAuth
		case op.Version != -1 && op.Version != n.version:
			r.Err = jute.BadVersion
		case op.Type == jute.OpSetData:
			n.data, n.null = string(op.Data), op.Data == nil
			n.version++
			n.mzxid, n.mtime = m.zxid, m.time
			m.nodes[op.Path] = n
			r.Stat = m.stat(op.Path)
		}
	}
	return r
}

func (m *model) create(e *Entry, op *jute.Op) (string, jute.Stat, jute.Code) {
	parent := parentOf(op.Path)
	p, hasParent := m.nodes[parent]
	if !hasParent {
		return "", jute.Stat{}, jute.NoNode
	}
	if parent == pathConfig {
		return "", jute.Stat{}, jute.NoAuth
	}
	path := op.Path
	if jute.CreateMode(op.Flags).Sequential() {
		path += fmt.Sprintf("%010d", p.creates)
	}
	if _, exists := m.nodes[path]; exists {
		return "", jute.Stat{}, jute.NodeExists
	}
	if p.kind == kindEphemeral {
		return "", jute.Stat{}, jute.NoChildrenForEphemerals
	}
	p.creates++
	p.pzxid = m.zxid
	m.nodes[parent] = p
	n := modelNode{
		data: string(op.Data), null: op.Data == nil, kind: kindPersistent,
		czxid: m.zxid, mzxid: m.zxid, pzxid: m.zxid, ctime: m.time, mtime: m.time,
	}
	switch {
	case op.Type == jute.OpCreateContainer:
		n.kind = kindContainer
	case op.Type == jute.OpCreateTTL:
		n.kind, n.owner = kindTTL, op.TTL
	case jute.CreateMode(op.Flags).Ephemeral():
		n.kind, n.owner = kindEphemeral, e.Session
	}
	m.nodes[path] = n
	return path, m.stat(path), jute.OK
}

// compare tells the first difference between the tree and the model.
func (m *model) compare(t *Tree) error {
	seen := 0
	var err error
	t.Walk("/", func(path string, data []byte, stat jute.Stat) bool {
		seen++
		n, ok := m.nodes[path]
		switch {
		case !ok:
			err = fmt.Errorf("%s is not in the model", path)
		case string(data) != n.data || (data == nil) != n.null:
			err = fmt.Errorf("%s has data %q, the model %q", path, data, n.data)
		case stat != m.stat(path):
			err = fmt.Errorf("%s: %+v, the model %+v", path, stat, m.stat(path))
		}
		return err == nil
	})
	if err == nil && seen != len(m.nodes) {
		err = fmt.Errorf("%d nodes, the model has %d", seen, len(m.nodes))
	}
	if err == nil && t.Zxid() != m.zxid {
		err = fmt.Errorf("zxid %d, the model %d", t.Zxid(), m.zxid)
	}
	return err
}

var genName = rapid.SampledFrom([]string{"a", "b", "c", "zookeeper", "quota", "config"})

func genPath(rt *rapid.T) string {
	names := rapid.SliceOfN(genName, 1, 3).Draw(rt, "names")
	return "/" + strings.Join(names, "/")
}

func genOp(rt *rapid.T) jute.Op {
	op := jute.Op{Path: genPath(rt), Version: rapid.Int32Range(-1, 2).Draw(rt, "version")}
	op.Type = rapid.SampledFrom([]jute.OpCode{
		jute.OpCreate, jute.OpCreate, jute.OpCreate2, jute.OpCreateContainer, jute.OpCreateTTL, jute.OpDelete, jute.OpDelete,
		jute.OpSetData, jute.OpCheck,
	}).Draw(rt, "op")
	if n := rapid.IntRange(-1, 20).Draw(rt, "size"); n >= 0 {
		op.Data = []byte(strings.Repeat("d", n))
	}
	if op.Type == jute.OpDelete && rapid.IntRange(0, 9).Draw(rt, "odd") == 0 {
		op.Path = "/" + op.Path // no node has it, though its parent may be an alias of the root
	}
	if !op.Type.IsCreate() {
		return op
	}
	op.Version = 0
	op.ACL = jute.OpenACL()
	if rapid.IntRange(0, 3).Draw(rt, "acl") == 0 {
		op.ACL = []jute.ACL{{Perms: jute.PermAll, ID: jute.ID{Scheme: jute.SchemeIP, ID: "10.0.0.1"}}}
	}
	switch op.Type {
	case jute.OpCreateContainer:
		op.Flags = int32(jute.Container)
	case jute.OpCreateTTL:
		op.Flags = int32(rapid.SampledFrom([]jute.CreateMode{jute.PersistentTTL, jute.PersistentSequentialTTL}).Draw(rt, "mode"))
		op.TTL = rapid.Int64Range(1, 50).Draw(rt, "ttl")
	default:
		op.Flags = int32(rapid.SampledFrom([]jute.CreateMode{
			jute.Persistent, jute.Persistent, jute.Ephemeral, jute.PersistentSequential, jute.EphemeralSequential,
		}).Draw(rt, "mode"))
	}
	return op
}

// genEntry makes an entry that suits the model's sessions.
func genEntry(rt *rapid.T, sessions []int64) *Entry {
	e := &Entry{
		TimeMs: rapid.Int64Range(0, 100).Draw(rt, "time"), Flags: FlagExtendedTypes,
		Auth: []jute.ID{{Scheme: jute.SchemeIP, ID: "10.0.0.1"}},
	}
	if len(sessions) > 0 {
		e.Session = rapid.SampledFrom(sessions).Draw(rt, "session")
	}
	switch k := rapid.IntRange(0, 19).Draw(rt, "kind"); {
	case k == 0 || len(sessions) == 0:
		e.Kind, e.TimeoutMs = KindCreateSession, 1000
		e.Session = rapid.SampledFrom([]int64{0, 0, LocalBit | 1, LocalBit | 2, e.Session}).Draw(rt, "local")
	case k == 1:
		e.Kind = KindCloseSession
	case k == 2:
		e.Kind, e.Flags = KindReap, e.Flags|FlagInternal
		e.Ops = []jute.Op{{Type: jute.OpDeleteContainer, Path: genPath(rt)}, {Type: jute.OpDeleteContainer, Path: genPath(rt)}}
	case k < 8:
		e.Kind = KindMulti
		for range rapid.IntRange(1, 6).Draw(rt, "ops") {
			e.Ops = append(e.Ops, genOp(rt))
		}
	default:
		e.Kind, e.Ops = KindOp, []jute.Op{genOp(rt)}
	}
	return e
}

// TestModel compares every outcome and the whole tree with the naive model.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tree, m := New(), newModel()
		for range rapid.IntRange(1, 60).Draw(rt, "entries") {
			e := genEntry(rt, slices.Sorted(maps.Keys(m.sessions)))
			out := tree.Apply(e)
			code, results := m.apply(e)
			if out.Err != code || !slices.Equal(out.Results, results) {
				rt.Fatalf("%+v: %v %+v, the model %v %+v", e, out.Err, out.Results, code, results)
			}
			if err := m.compare(tree); err != nil {
				rt.Fatalf("%+v: %v", e, err)
			}
			if err := checkTree(tree); err != nil {
				rt.Fatalf("%+v: %v", e, err)
			}
		}
	})
}

// TestSameEntriesSameTree applies the same entries to a tree, to one that reads them from their encoding, and to one
// that was restored from a snapshot on the way.
func TestSameEntriesSameTree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		one, two, three := New(), New(), New()
		for i := range rapid.IntRange(1, 80).Draw(rt, "entries") {
			var sessions []int64
			for _, s := range one.Sessions() {
				sessions = append(sessions, s.ID)
			}
			e := genEntry(rt, sessions)
			if i == 20 || i == 40 {
				three = restored(t, three)
			}
			var decoded Entry
			if err := decoded.Unmarshal(e.Marshal(nil)); err != nil {
				rt.Fatal(err)
			}
			a, b, c := one.Apply(e), two.Apply(&decoded), three.Apply(e)
			if fmt.Sprint(a) != fmt.Sprint(b) || fmt.Sprint(a) != fmt.Sprint(c) {
				rt.Fatalf("outcomes differ:\n%+v\n%+v\n%+v", a, b, c)
			}
			if one.Digest() != two.Digest() || one.Digest() != three.Digest() {
				rt.Fatalf("digests differ after %+v", e)
			}
		}
		if dump(one) != dump(two) || dump(one) != dump(three) {
			rt.Fatalf("trees differ:\n%s\n%s\n%s", dump(one), dump(two), dump(three))
		}
	})
}

// TestCutIsExact changes the tree while a cut is read: what is read is the tree at the cut, however the parts and the
// changes fall.
func TestCutIsExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tree := New()
		grow := func(most int) {
			for range rapid.IntRange(0, most).Draw(rt, "entries") {
				var sessions []int64
				for _, s := range tree.Sessions() {
					sessions = append(sessions, s.ID)
				}
				tree.Apply(genEntry(rt, sessions))
			}
		}
		grow(60)
		want := dump(tree)
		cut, err := tree.Cut()
		if err != nil {
			rt.Fatal(err)
		}
		if _, err := tree.Cut(); err == nil {
			rt.Fatal("two cuts at once")
		}
		var stream []byte
		for more := true; more; {
			grow(5)
			stream, more = cut.Next(stream, rapid.IntRange(1, 300).Draw(rt, "size"))
		}
		back, err := Restore(strings.NewReader(string(stream)))
		if err != nil {
			rt.Fatal(err)
		}
		if got := dump(back); got != want {
			rt.Fatalf("restored\n%s\nwas\n%s", got, want)
		}
		if err := checkTree(back); err != nil {
			rt.Fatal(err)
		}
		tree.Apply(&Entry{Kind: KindNoop})
		if err := checkTree(tree); err != nil {
			rt.Fatal(err)
		}
	})
}
