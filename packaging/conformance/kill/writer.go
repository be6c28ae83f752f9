package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// liveMax is how many numbered znodes a writer keeps: beyond it, it deletes its oldest.
const liveMax = 50

// znode is what a writer knows of one of its znodes.
type znode struct {
	exists  bool
	version int32
	data    []byte
}

func (z znode) equal(o znode) bool {
	return z.exists == o.exists && (!z.exists || z.version == o.version && bytes.Equal(z.data, o.data))
}

func (z znode) String() string {
	if !z.exists {
		return "none"
	}
	return fmt.Sprintf("version %d with %q", z.version, z.data)
}

// Writer is the only one that changes the znodes below its directory: a counter that it sets, and numbered znodes that it
// creates and deletes, alone and together with the counter in one multi. So it knows what each must be, and after an
// answer that got lost in a kill what it may be: all of the operation, or nothing of it.
type Writer struct {
	ledger *Ledger
	conn   *zk.Conn
	dir    string
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex // held during one operation, or one check; protects all below
	known  map[string]znode
	oldest int // first numbered znode that is there
	next   int // number of the next
	turn   int
	acked  int
	mzxid  int64 // of the counter, which never goes back
	broken bool  // a fault was found: nothing that follows would mean anything
}

// StartWriter makes the writer's directory and starts it.
func StartWriter(ledger *Ledger, conn *zk.Conn, i int) (*Writer, error) {
	w := &Writer{ledger: ledger, conn: conn, dir: fmt.Sprintf("%s/%d", base, i), known: map[string]znode{}}
	for _, path := range []string{w.dir, w.counter()} {
		if _, err := conn.Create(path, nil, 0, zk.WorldACL(zk.PermAll)); err != nil {
			return nil, fmt.Errorf("create %s: %w", path, err)
		}
	}
	w.known[w.counter()] = znode{exists: true}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.done.Go(func() {
		for ctx.Err() == nil {
			w.step(ctx)
		}
	})
	return w, nil
}

func (w *Writer) counter() string       { return w.dir + "/counter" }
func (w *Writer) numbered(n int) string { return fmt.Sprintf("%s/n%08d", w.dir, n) }
func (w *Writer) text(what string) []byte {
	return fmt.Appendf(nil, "%s after %d operations", what, w.acked)
}
func (w *Writer) Stop()                    { w.cancel(); w.done.Wait() }
func (w *Writer) Acked() int               { w.mu.Lock(); defer w.mu.Unlock(); return w.acked }
func (w *Writer) fault(f string, a ...any) { w.ledger.Fault(f, a...); w.broken = true }

// step does one operation and waits until it knows what became of it.
func (w *Writer) step(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		<-ctx.Done()
		return
	}
	after := map[string]znode{}
	var err error
	w.turn++
	switch {
	case w.next-w.oldest > liveMax:
		path := w.numbered(w.oldest)
		after[path] = znode{}
		err = w.conn.Delete(path, w.known[path].version)
	case w.turn%3 == 0:
		path, data := w.numbered(w.next), w.text("made")
		after[path] = znode{exists: true, data: data}
		_, err = w.conn.Create(path, data, 0, zk.WorldACL(zk.PermAll))
	case w.turn%3 == 1:
		data := w.text("set")
		after[w.counter()] = w.setCounter(data)
		var stat *zk.Stat
		if stat, err = w.conn.Set(w.counter(), data, w.known[w.counter()].version); err == nil {
			w.checkStat(stat, after[w.counter()].version)
		}
	default:
		path, data := w.numbered(w.next), w.text("both")
		after[path], after[w.counter()] = znode{exists: true, data: data}, w.setCounter(data)
		_, err = w.conn.Multi(&zk.CreateRequest{Path: path, Data: data, Acl: zk.WorldACL(zk.PermAll)},
			&zk.SetDataRequest{Path: w.counter(), Data: data, Version: w.known[w.counter()].version})
	}
	w.settle(ctx, after, err)
}

func (w *Writer) setCounter(data []byte) znode {
	return znode{exists: true, version: w.known[w.counter()].version + 1, data: data}
}

// checkStat compares the answer to a set of the counter.
func (w *Writer) checkStat(stat *zk.Stat, version int32) {
	if stat.Version != version {
		w.fault("%s: the acknowledged version is %d, want %d", w.counter(), stat.Version, version)
	}
	if stat.Mzxid <= w.mzxid {
		w.fault("%s: its zxid went back from %#x to %#x", w.counter(), w.mzxid, stat.Mzxid)
	}
	w.mzxid = stat.Mzxid
}

// settle takes over what an operation has changed, if need be after a look at what it has.
func (w *Writer) settle(ctx context.Context, after map[string]znode, err error) {
	switch {
	case err == nil:
		w.take(after)
	case errors.Is(err, zk.ErrNodeExists), errors.Is(err, zk.ErrNoNode), errors.Is(err, zk.ErrBadVersion):
		w.fault("an operation on %v was refused, though nobody else writes there: %v", paths(after), err)
	default:
		w.resolve(ctx, after, err)
	}
}

// resolve finds out whether an operation without answer was done: all of it, or nothing.
func (w *Writer) resolve(ctx context.Context, after map[string]znode, cause error) {
	done, undone := 0, 0
	for path, want := range after {
		got, err := w.read(ctx, path)
		if err != nil {
			w.broken = true // the suite is ending: ctx or the connection was closed
			return
		}
		switch {
		case got.equal(want):
			done++
		case got.equal(w.known[path]):
			undone++
		default:
			w.fault("%s: after %v it has %v; before it had %v, and %v was written", path, cause, got, w.known[path], want)
			return
		}
	}
	switch len(after) {
	case done:
		w.take(after)
	case undone:
	default:
		w.fault("%v: a multi was done in part: %d of %d", paths(after), done, len(after))
	}
}

// take makes after what is known.
func (w *Writer) take(after map[string]znode) {
	w.acked++
	for path, z := range after {
		version := z.version
		switch {
		case !z.exists:
			delete(w.known, path)
			w.oldest++
			version = -1
		case path != w.counter():
			w.known[path] = z
			w.next++
		default:
			w.known[path] = z
		}
		w.ledger.Znode(path, version)
	}
}

// read gets one znode. It tries until the box is back, ctx ends or the connection was closed for good.
func (w *Writer) read(ctx context.Context, path string) (znode, error) {
	for {
		data, stat, err := w.conn.Get(path)
		switch {
		case err == nil:
			return znode{exists: true, version: stat.Version, data: data}, nil
		case errors.Is(err, zk.ErrNoNode):
			return znode{}, nil
		case ctx.Err() != nil:
			return znode{}, ctx.Err()
		case errors.Is(err, zk.ErrSessionExpired), errors.Is(err, zk.ErrClosing):
			return znode{}, err
		}
		select {
		case <-ctx.Done():
			return znode{}, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Check compares everything below the writer's directory with what it knows, between two operations.
func (w *Writer) Check(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		w.ledger.Fault("%s: its writer has stopped after a fault", w.dir)
		return
	}
	names, _, err := w.conn.Children(w.dir)
	if err != nil {
		w.ledger.Fault("list %s: %v", w.dir, err)
		return
	}
	for _, name := range names {
		if _, ok := w.known[w.dir+"/"+name]; !ok {
			w.fault("%s/%s is there, though it was deleted or never made", w.dir, name)
		}
	}
	for path, want := range w.known {
		got, err := w.read(ctx, path)
		if err != nil {
			w.ledger.Fault("read %s: %v", path, err)
			return
		}
		if !got.equal(want) {
			w.fault("%s has %v, acknowledged was %v", path, got, want)
		}
	}
}

func paths(after map[string]znode) []string {
	var all []string
	for path := range after {
		all = append(all, path)
	}
	slices.Sort(all)
	return all
}
