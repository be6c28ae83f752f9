package ensemble

import (
	"fmt"
	"strings"
	"sync"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// WatchKind is what a connection registers.
type WatchKind uint8

// The kinds of watches.
const (
	// WatchData fires once for the node at the path: created, changed, deleted (getData, exists).
	WatchData WatchKind = iota
	// WatchChildren fires once when the node's children change or it is deleted (getChildren).
	WatchChildren
	// WatchPersistent is both and stays (addWatch, mode 0).
	WatchPersistent
	// WatchRecursive stays and fires for the node and everything below it, never for changed children (addWatch, mode 1).
	WatchRecursive
)

// modes is a set of ways in which one connection watches one path in one table (WatchStats).
type modes uint8

const (
	oneShot modes = 1 << iota
	persistent
	recursive
	anyMode = oneShot | persistent | recursive
)

// table is one of ZooKeeper's two WatchManagers.
type table struct {
	paths map[string]map[Outbox]modes
	// recursive counts the (connection, path) pairs that watch recursively: with none, ancestors are not looked at.
	recursive int
	// other is the other table, and counts are both tables' together.
	other  *table
	counts *WatchCounts
}

// Watches are the watches of this box's connections. The rules are those of WatchManager and DataTree in ZooKeeper 3.9.5:
// modes are bit sets, so that a one-shot and a persistent watch on one path coexist and deliver one event.
//
// Readers register under the ensemble's read lock, several at a time; hence a lock of its own, which is innermost: only
// Outbox methods are called while it is held. Firing happens under the ensemble's write lock.
type Watches struct {
	mu       sync.Mutex // protects everything below
	data     table
	child    table
	watchers map[Outbox]map[string]struct{} // which paths a connection has in either table
	pairs    int                            // entries of watchers' sets, the number that limits bound
	max      int
	maxEach  int
	fired    uint64
	counts   WatchCounts // of both tables; the connections are counted when asked for

	told map[Outbox]struct{} // who was told of the change being fired
}

func newWatches(limit, limitEach int) *Watches {
	w := &Watches{
		watchers: make(map[Outbox]map[string]struct{}), told: make(map[Outbox]struct{}), max: limit, maxEach: limitEach,
	}
	w.data = table{paths: make(map[string]map[Outbox]modes), other: &w.child, counts: &w.counts}
	w.child = table{paths: make(map[string]map[Outbox]modes), other: &w.data, counts: &w.counts}
	return w
}

// Add registers a watch of the connection. ErrFull says that the connection, or the box, has its maximum: the
// connection is to be closed, because a watch that is silently not there loses events.
func (w *Watches) Add(out Outbox, path string, kind WatchKind) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.add(out, path, kind)
}

func (w *Watches) add(out Outbox, path string, kind WatchKind) error {
	if path == "" {
		path = "/"
	}
	if err := w.own(out, path); err != nil {
		return err
	}
	switch kind {
	case WatchData:
		w.data.add(path, out, oneShot)
	case WatchChildren:
		w.child.add(path, out, oneShot)
	case WatchPersistent:
		w.data.add(path, out, persistent)
		w.child.add(path, out, persistent)
	case WatchRecursive:
		w.data.add(path, out, recursive)
	}
	return nil
}

// own notes that the connection has something at the path.
func (w *Watches) own(out Outbox, path string) error {
	paths := w.watchers[out]
	if _, ok := paths[path]; ok {
		return nil
	}
	if w.pairs >= w.max || len(paths) >= w.maxEach {
		return fmt.Errorf("watch on %q: %d of this connection and %d in all: %w", path, len(paths), w.pairs, ErrFull)
	}
	if paths == nil {
		paths = make(map[string]struct{})
		w.watchers[out] = paths
	}
	paths[path] = struct{}{}
	w.pairs++
	return nil
}

// disown forgets the pair when neither table has it any more.
func (w *Watches) disown(out Outbox, path string) {
	if w.data.paths[path][out]|w.child.paths[path][out] != 0 {
		return
	}
	paths := w.watchers[out]
	if _, ok := paths[path]; !ok {
		return
	}
	delete(paths, path)
	w.pairs--
	if len(paths) == 0 {
		delete(w.watchers, out)
	}
}

func (t *table) add(path string, out Outbox, m modes) {
	outs := t.paths[path]
	if outs == nil {
		outs = make(map[Outbox]modes, 1)
		t.paths[path] = outs
		t.countPath(path, 1)
	}
	t.set(path, outs, out, outs[out]|m)
}

// set replaces the modes of one pair and keeps count; none removes it.
func (t *table) set(path string, outs map[Outbox]modes, out Outbox, m modes) {
	old := outs[out]
	if old&recursive != 0 {
		t.recursive--
	}
	if m&recursive != 0 {
		t.recursive++
	}
	if m != 0 {
		if old == 0 {
			t.counts.Watches++
		}
		outs[out] = m
		return
	}
	if old != 0 {
		t.counts.Watches--
	}
	delete(outs, out)
	if len(outs) == 0 {
		delete(t.paths, path)
		t.countPath(path, -1)
	}
}

// countPath counts a path that came to this table or went from it, once for both tables.
func (t *table) countPath(path string, n int) {
	if _, both := t.other.paths[path]; !both {
		t.counts.Paths += n
	}
}

// Remove ends the connection's watches of that type on the path and tells whether there were any.
func (w *Watches) Remove(out Outbox, path string, kind jute.WatcherType) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	removed := false
	for _, in := range w.tables(kind) {
		outs := in.table.paths[path]
		if m := outs[out]; m&in.modes != 0 {
			in.table.set(path, outs, out, m&^in.modes)
			removed = true
		}
	}
	w.disown(out, path)
	return removed
}

// Has tells whether the connection has a watch of that type on the path (checkWatches).
func (w *Watches) Has(out Outbox, path string, kind jute.WatcherType) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, in := range w.tables(kind) {
		if in.table.paths[path][out]&in.modes != 0 {
			return true
		}
	}
	return false
}

type tableModes struct {
	table *table
	modes modes
}

// tables says where watches of a type lie (DataTree.removeWatch).
func (w *Watches) tables(kind jute.WatcherType) []tableModes {
	switch kind {
	case jute.WatcherChildren:
		return []tableModes{{&w.child, oneShot}}
	case jute.WatcherData:
		return []tableModes{{&w.data, oneShot}}
	case jute.WatcherPersistent:
		return []tableModes{{&w.data, persistent}, {&w.child, persistent}}
	case jute.WatcherPersistentRecursive:
		return []tableModes{{&w.data, recursive}}
	default:
		return []tableModes{{&w.data, anyMode}, {&w.child, anyMode}}
	}
}

// removeAll forgets a connection.
func (w *Watches) removeAll(out Outbox) {
	w.mu.Lock()
	defer w.mu.Unlock()
	paths := w.watchers[out]
	for path := range paths {
		for _, t := range []*table{&w.data, &w.child} {
			if outs := t.paths[path]; outs[out] != 0 {
				t.set(path, outs, out, 0)
			}
		}
	}
	w.pairs -= len(paths)
	delete(w.watchers, out)
}

// fire tells the connections about one change (DataTree.createNode, deleteNode, setData), and says how many had a watch
// for it. The ensemble's write lock is held.
func (w *Watches) fire(c *znode.Change) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.watchers) == 0 {
		return 0
	}
	event := Event{Type: c.Kind, Path: c.Path, Zxid: c.Zxid}
	switch c.Kind {
	case jute.EventNodeCreated, jute.EventNodeDataChanged:
		w.trigger(&w.data, event, c.ACL)
	case jute.EventNodeDeleted:
		w.trigger(&w.data, event, c.ACL)
		// A connection that the data table has told is not told again by the child table.
		w.trigger(&w.child, event, c.ACL)
	case jute.EventNodeChildrenChanged:
		w.trigger(&w.child, event, c.ACL)
	}
	told := len(w.told)
	if told > 1024 {
		w.told = make(map[Outbox]struct{}) // clearing costs the size that it once had
	}
	clear(w.told)
	return told
}

// trigger fires one table for the path, and for recursive watches on its ancestors.
func (w *Watches) trigger(t *table, e Event, acl []jute.ACL) {
	outs := t.paths[e.Path]
	for out, m := range outs {
		if m&oneShot != 0 {
			t.set(e.Path, outs, out, m&^oneShot)
			w.disown(out, e.Path)
		}
		w.tell(out, e, acl)
	}
	for path := e.Path; t.recursive > 0 && path != "/"; {
		path = path[:max(strings.LastIndexByte(path, '/'), 1)]
		if path == e.Path {
			break
		}
		for out, m := range t.paths[path] {
			if m&recursive != 0 {
				w.tell(out, e, acl)
			}
		}
	}
}

// tell queues an event unless the connection was told of this change, or may not read what it is about.
func (w *Watches) tell(out Outbox, e Event, acl []jute.ACL) {
	if _, ok := w.told[out]; ok {
		return
	}
	w.told[out] = struct{}{}
	w.deliver(out, e, acl)
}

func (w *Watches) deliver(out Outbox, e Event, acl []jute.ACL) {
	if acl != nil && !znode.MayRead(e.Path, acl, out.Access()) {
		return
	}
	w.fired++
	if !out.Event(e) {
		out.Kill(fmt.Errorf("events wait unread: %w", ErrFull))
	}
}

// WatchCounts are the sums that wchs shows.
type WatchCounts struct{ Connections, Paths, Watches int }

// Counts are kept as watches come and go: srvr and mntr are answered to everybody. A persistent watch counts in both tables, as ZooKeeper's does.
func (w *Watches) Counts() WatchCounts {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.counts
	c.Connections = len(w.watchers)
	return c
}

// Each calls f for every (connection, path) pair, for wchc and wchp, until f returns false. It holds the lock: f must
// only copy.
func (w *Watches) Each(f func(out Outbox, path string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for out, paths := range w.watchers {
		for path := range paths {
			if !f(out, path) {
				return
			}
		}
	}
}
