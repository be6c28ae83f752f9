package node

import (
	"errors"
	"path"
	"slices"
	"strings"

	"cairn/engine/broker/catalog"
	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// tree is the ensemble as the broker declares it. Who wants to know of leadership is told from begin on: a controller
// that hears that it leads before its catalog follows the tree would plan on an empty one.
type tree struct {
	e       *ensemble.Ensemble
	waiting []func(catalog.Leadership)
	// held are completions of multis that were applied in the batch under way. The ensemble tells whoever waits for an
	// entry before it tells subscribers of the batch; a controller that hears of its multi before its catalog shows it
	// would answer a client that then sees nothing of it, and plan it again. Of the ensemble's goroutine.
	held []func()
}

// begin tells of leadership. It is called once, after the catalog follows: subscribers are told in their order.
func (t *tree) begin() {
	_, _ = t.e.Subscribe(catalog.Root, func(ensemble.Batch) { t.release() }) // it fails only when the ensemble is over
	t.e.Leadership(func(l ensemble.Leadership) {
		if !l.Leader {
			t.release() // the ensemble has ended amid a batch
		}
	})
	for _, f := range t.waiting {
		t.e.Leadership(func(l ensemble.Leadership) { f(catalog.Leadership{Leader: l.Leader, Term: l.Term}) })
	}
}

func (t *tree) release() {
	for _, done := range t.held {
		done()
	}
	t.held = nil
}

var openACL = []jute.ACL{{Perms: jute.PermAll, ID: jute.ID{Scheme: "world", ID: "anyone"}}}

// Read implements catalog.Tree.
func (t *tree) Read(name string) (data []byte, version int32, ok bool) {
	err := t.e.View(func(z *znode.Tree, _ *ensemble.Watches) {
		var stat jute.Stat
		data, stat, ok = z.Peek(name)
		version = stat.Version
	})
	return data, version, ok && err == nil
}

// Multi implements catalog.Tree.
func (t *tree) Multi(ops []catalog.Op, done func([]catalog.OpResult, error)) {
	e := znode.Entry{Kind: znode.KindMulti, Flags: znode.FlagInternal, Ops: make([]jute.Op, len(ops))}
	for i, op := range ops {
		e.Ops[i] = juteOp(op)
	}
	t.e.Propose(ensemble.Write{Entry: e}, func(out znode.Outcome, err error) {
		if err != nil {
			done(nil, treeError(err))
			return
		}
		results := make([]catalog.OpResult, len(out.Results))
		for i, r := range out.Results {
			results[i] = catalog.OpResult{Err: codeError(r.Err), Version: r.Stat.Version}
		}
		if !slices.ContainsFunc(out.Changes, followed) {
			done(results, codeError(out.Err))
			return
		}
		t.held = append(t.held, func() { done(results, codeError(out.Err)) })
	})
}

// followed reports whether subscribers are told of a change.
func followed(c znode.Change) bool {
	return c.Path == catalog.Root || strings.HasPrefix(c.Path, catalog.Root+"/")
}

func juteOp(op catalog.Op) jute.Op {
	switch op.Kind {
	case catalog.OpCreate:
		return jute.Op{Type: jute.OpCreate2, Path: op.Path, Data: op.Data, ACL: openACL}
	case catalog.OpSet:
		return jute.Op{Type: jute.OpSetData, Path: op.Path, Data: op.Data, Version: op.Version}
	case catalog.OpDelete:
		return jute.Op{Type: jute.OpDelete, Path: op.Path, Version: op.Version}
	default:
		return jute.Op{Type: jute.OpCheck, Path: op.Path, Version: op.Version}
	}
}

// ReadIndex implements catalog.Tree.
func (t *tree) ReadIndex(done func(error)) {
	t.e.ReadIndex(func(_ uint64, err error) { done(treeError(err)) })
}

// Subscribe implements catalog.Tree.
func (t *tree) Subscribe(prefix string, f func(catalog.Batch)) {
	_, _ = t.e.Subscribe(prefix, func(b ensemble.Batch) { // it fails only when the ensemble is over
		out := catalog.Batch{Zxid: b.Zxid, Reset: b.Initial, Changes: make([]catalog.Change, 0, len(b.Changes))}
		for _, c := range b.Changes {
			kind, ok := changeKind(c.Kind)
			if !ok {
				continue
			}
			out.Changes = append(out.Changes, catalog.Change{Kind: kind, Path: c.Path, Data: c.Data, Version: c.Stat.Version, Czxid: c.Stat.Czxid, Mzxid: c.Stat.Mzxid})
		}
		f(out)
	})
}

func changeKind(k jute.EventType) (catalog.ChangeKind, bool) {
	switch k {
	case jute.EventNodeCreated:
		return catalog.Created, true
	case jute.EventNodeDataChanged:
		return catalog.Changed, true
	case jute.EventNodeDeleted:
		return catalog.Deleted, true
	}
	return 0, false
}

// Leadership implements catalog.Tree. It must be called before begin.
func (t *tree) Leadership(f func(catalog.Leadership)) { t.waiting = append(t.waiting, f) }

// Register implements catalog.Tree: the znode is an ephemeral of the box's session, under parents that stay.
func (t *tree) Register(r catalog.Registration, done func(error)) {
	ops := []jute.Op{
		{Type: znode.OpEnsure, Path: path.Dir(r.Path)},
		{Type: jute.OpCreate2, Path: r.Path, Data: r.Data, ACL: openACL, Flags: int32(jute.Ephemeral)},
	}
	t.e.Register(ensemble.Registration{Ops: ops}, func(_ ensemble.Registered, err error) { done(treeError(err)) })
}

// treeErrors maps the ensemble's errors, the first that fits. ErrUncertain comes first: it is joined with the reason,
// which alone would say that nothing was applied.
var treeErrors = []struct{ from, to error }{
	{ensemble.ErrUncertain, catalog.ErrUncertain},
	{ensemble.ErrNotLeader, catalog.ErrNotLeader},
	{ensemble.ErrNoQuorum, catalog.ErrNoQuorum},
	{ensemble.ErrFull, catalog.ErrBusy},
	{ensemble.ErrTreeFull, catalog.ErrFull},
	{ensemble.ErrTooLarge, catalog.ErrFull},
	{ensemble.ErrClosed, catalog.ErrClosed},
	{ensemble.ErrFailed, catalog.ErrClosed},
}

// treeError turns an error of the ensemble into one that the broker knows.
func treeError(err error) error {
	for _, e := range treeErrors {
		if errors.Is(err, e.from) {
			return errors.Join(e.to, err)
		}
	}
	return err
}

// codeError maps the outcome of an operation.
func codeError(c jute.Code) error {
	switch c {
	case jute.OK:
		return nil
	case jute.NoNode:
		return catalog.ErrNoNode
	case jute.NodeExists:
		return catalog.ErrNodeExists
	case jute.BadVersion:
		return catalog.ErrBadVersion
	case jute.NotEmpty:
		return catalog.ErrNotEmpty
	case jute.RuntimeInconsistency:
		return catalog.ErrRolledBack
	}
	return c
}
