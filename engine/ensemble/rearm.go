package ensemble

import (
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// catchUpZxid is the zxid of events that tell what happened while a client was away (DataTree.setWatches).
const catchUpZxid = -1

// Rearm registers the watches that a client had before it reconnected, and queues the events of what it missed since the
// zxid that it saw last. It is for View: the events precede whatever the connection is answered afterwards. ErrFull says
// that the connection is to be closed.
//
// A data watch whose node is gone fires NodeDeleted, one whose node changed fires NodeDataChanged; an exist watch whose
// node is there fires NodeCreated; a child watch fires NodeDeleted or NodeChildrenChanged. Persistent watches are armed
// again and told of nothing (DataTree.setWatches).
func (w *Watches) Rearm(t *znode.Tree, out Outbox, r *jute.SetWatches2Request) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	tell := func(kind jute.EventType, path string) {
		w.deliver(out, Event{Type: kind, Path: path, Zxid: catchUpZxid}, t.NodeACL(path))
	}
	for _, path := range r.Data {
		_, stat, ok := t.Peek(path)
		switch {
		case !ok:
			tell(jute.EventNodeDeleted, path)
		case stat.Mzxid > r.RelativeZxid:
			tell(jute.EventNodeDataChanged, path)
		default:
			if err := w.add(out, path, WatchData); err != nil {
				return err
			}
		}
	}
	for _, path := range r.Exist {
		if _, _, ok := t.Peek(path); ok {
			tell(jute.EventNodeCreated, path)
		} else if err := w.add(out, path, WatchData); err != nil {
			return err
		}
	}
	for _, path := range r.Child {
		_, stat, ok := t.Peek(path)
		switch {
		case !ok:
			tell(jute.EventNodeDeleted, path)
		case stat.Pzxid > r.RelativeZxid:
			tell(jute.EventNodeChildrenChanged, path)
		default:
			if err := w.add(out, path, WatchChildren); err != nil {
				return err
			}
		}
	}
	for _, path := range r.Persistent {
		if err := w.add(out, path, WatchPersistent); err != nil {
			return err
		}
	}
	for _, path := range r.PersistentRecursive {
		if err := w.add(out, path, WatchRecursive); err != nil {
			return err
		}
	}
	return nil
}
