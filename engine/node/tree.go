package node

import (
	"errors"
	"path"

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
}

// begin tells of leadership. It is called once, after the catalog follows.
func (t *tree) begin() {
	for _, f := range t.waiting {
		t.e.Leadership(func(l ensemble.Leadership) { f(catalog.Leadership{Leader: l.Leader, Term: l.Term}) })
	}
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
		done(results, codeError(out.Err))
	})
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
			out.Changes = append(out.Changes, catalog.Change{Kind: kind, Path: c.Path, Data: c.Data, Version: c.Stat.Version, Czxid: c.Stat.Czxid})
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

// treeError maps the ensemble's errors to those that the broker knows.
func treeError(err error) error {
	for from, to := range map[error]error{
		ensemble.ErrNotLeader: catalog.ErrNotLeader, ensemble.ErrNoQuorum: catalog.ErrNoQuorum,
		ensemble.ErrFull: catalog.ErrFull, ensemble.ErrTreeFull: catalog.ErrFull, ensemble.ErrTooLarge: catalog.ErrFull,
		ensemble.ErrUncertain: catalog.ErrUncertain, ensemble.ErrClosed: catalog.ErrClosed, ensemble.ErrFailed: catalog.ErrClosed,
	} {
		if errors.Is(err, from) {
			return errors.Join(to, err)
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
