package sim

import (
	"fmt"
	"slices"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/sim/history"
)

// work is what a client does with its session.
type work struct {
	count int
	// seen are the versions of registers that it read last.
	seen    map[string]int32
	closing bool
	audited int
}

// What there is to work on. registers come and go; pair is set by multis alone; below watched, nodes come and go.
var (
	directories = []string{"/r", "/q", "/m", "/w", "/lock"}
	registers   = []string{"/r/0", "/r/1", "/r/2"}
	pair        = []string{"/m/a", "/m/b"}
	watched     = []string{"/w/0", "/w/1", "/w/2"}
)

const burstMax = 6

// act sends what the client feels like.
func (c *client) act() {
	r := c.w.rand()
	switch {
	case c.work.closing || len(c.pending) > 8:
		return
	case c.w.prepared < len(directories)+len(pair):
		c.prepare()
		return
	case c.draining:
		c.audit()
		return
	case r.IntN(1500) == 0:
		c.closeSession()
		return
	case r.IntN(1000) == 0:
		c.drop("the client feels like it")
		return
	case r.IntN(800) == 0:
		c.drop("the client goes to sleep")
		c.retry = c.w.now() + time.Duration(r.Int64N(int64(2*c.timeout)))
		return
	}
	n := 1
	if r.IntN(4) == 0 {
		n += r.IntN(burstMax)
	}
	for range n {
		c.one()
	}
	if r.IntN(3) == 0 {
		c.lock.step(c)
	}
}

// prepare makes what everybody works on; the first client does.
func (c *client) prepare() {
	if c.id != 1 || len(c.pending) > 0 {
		return
	}
	all := slices.Concat(directories, pair)
	c.create(all[c.w.prepared], "0", func(result history.Result) {
		if result.Code == history.OK || result.Code == history.NodeExists {
			c.w.prepared++
		}
	})
}

// audit reads everything once more when all is calm.
func (c *client) audit() {
	all := slices.Concat(registers, pair, watched)
	if len(c.pending) == 0 && c.work.audited < len(all) {
		path := all[c.work.audited]
		c.read(history.SyncRead, path, false, func(history.Result) { c.work.audited++ })
	}
}

// audited tells whether it has.
func (c *client) audited() bool { return c.work.audited == len(registers)+len(pair)+len(watched) }

func pick(w *world, paths []string) string { return paths[w.rand().IntN(len(paths))] }

// one sends one request.
func (c *client) one() {
	w := c.w
	register := pick(w, registers)
	switch n := w.rand().IntN(100); {
	case n < 16:
		c.set(register, -1)
	case n < 28:
		if v, ok := c.work.seen[register]; ok {
			c.set(register, v)
		} else {
			c.read(history.Read, register, false, nil)
		}
	case n < 40:
		c.read(history.Read, pick(w, slices.Concat(registers, pair)), false, nil)
	case n < 46:
		c.read(history.Read, pick(w, slices.Concat(registers, pair)), true, nil)
	case n < 58:
		c.read(history.SyncRead, pick(w, slices.Concat(registers, pair)), false, nil)
	case n < 64:
		c.create(register, c.value(), nil)
	case n < 67:
		c.remove(register)
	case n < 72:
		c.exists(pick(w, slices.Concat(registers, watched)), true, nil)
	case n < 78:
		c.sequential("/q/n-", false, nil)
	case n < 83:
		c.create(pick(w, watched), "", nil)
	case n < 88:
		c.remove(pick(w, watched))
	case n < 93:
		c.children("/w", true, nil)
	default:
		c.multi()
	}
}

// value is one that nobody else writes.
func (c *client) value() string {
	c.work.count++
	return fmt.Sprintf("c%d-%d", c.id, c.work.count)
}

func (c *client) set(path string, version int32) {
	o := history.Op{Kind: history.Set, Path: path, Value: c.value(), Version: version}
	q := jute.SetDataRequest{Path: path, Data: []byte(o.Value), Version: version}
	c.request(o, jute.OpSetData, q.Append(nil), func(h jute.ReplyHeader, r *jute.Reader) history.Result {
		if r == nil {
			delete(c.work.seen, path)
			return history.Result{}
		}
		var s jute.Stat
		s.Read(r)
		c.work.seen[path] = s.Version
		return history.Result{Version: s.Version, Mzxid: s.Mzxid, Czxid: s.Czxid}
	}, nil)
}

func (c *client) create(path, value string, then func(history.Result)) {
	q := jute.CreateRequest{Path: path, Data: []byte(value), ACL: jute.OpenACL()}
	c.request(history.Op{Kind: history.Create, Path: path, Value: value}, jute.OpCreate, q.Append(nil), headerOnly, then)
}

func (c *client) remove(path string) {
	q := jute.PathVersionRequest{Path: path, Version: -1}
	c.request(history.Op{Kind: history.Delete, Path: path, Version: -1}, jute.OpDelete, q.Append(nil), headerOnly, nil)
}

func headerOnly(jute.ReplyHeader, *jute.Reader) history.Result { return history.Result{} }

// read is getData, behind a sync where the kind says so.
func (c *client) read(kind history.Kind, path string, watch bool, then func(history.Result)) {
	if c.w.linearizable {
		kind = history.SyncRead // the servers see to it
	}
	o := history.Op{Kind: kind, Path: path}
	if watch {
		o.Watch = history.DataWatch
	}
	q := jute.PathWatchRequest{Path: path, Watch: watch}
	c.request(o, jute.OpGetData, q.Append(nil), func(_ jute.ReplyHeader, r *jute.Reader) history.Result {
		if r == nil {
			delete(c.work.seen, path)
			return history.Result{}
		}
		var p jute.GetDataResponse
		p.Read(r)
		c.work.seen[path] = p.Stat.Version
		if watch {
			c.data[path] = true
		}
		return history.Result{Value: string(p.Data), Version: p.Stat.Version, Czxid: p.Stat.Czxid, Mzxid: p.Stat.Mzxid}
	}, then)
}

func (c *client) exists(path string, watch bool, then func(history.Result)) {
	o := history.Op{Kind: history.Exists, Path: path}
	if watch {
		o.Watch = history.DataWatch
	}
	q := jute.PathWatchRequest{Path: path, Watch: watch}
	c.request(o, jute.OpExists, q.Append(nil), func(h jute.ReplyHeader, r *jute.Reader) history.Result {
		if r == nil {
			if watch && h.Err == jute.NoNode {
				c.exist[path] = true
			}
			return history.Result{}
		}
		var s jute.Stat
		s.Read(r)
		if watch {
			c.data[path] = true
		}
		return history.Result{Version: s.Version, Czxid: s.Czxid, Mzxid: s.Mzxid}
	}, then)
}

func (c *client) children(path string, watch bool, then func(history.Result)) {
	o := history.Op{Kind: history.Children, Path: path}
	if watch {
		o.Watch = history.ChildWatch
	}
	q := jute.PathWatchRequest{Path: path, Watch: watch}
	c.request(o, jute.OpGetChildren2, q.Append(nil), func(_ jute.ReplyHeader, r *jute.Reader) history.Result {
		if r == nil {
			return history.Result{}
		}
		var p jute.GetChildren2Response
		p.Read(r)
		if watch {
			c.child[path] = true
		}
		return history.Result{Children: slices.Clone(p.Children), Pzxid: p.Stat.Pzxid}
	}, then)
}

func (c *client) sequential(prefix string, ephemeral bool, then func(history.Result)) {
	mode := jute.PersistentSequential
	if ephemeral {
		mode = jute.EphemeralSequential
	}
	q := jute.CreateRequest{Path: prefix, Data: []byte{}, ACL: jute.OpenACL(), Flags: int32(mode)}
	c.request(history.Op{Kind: history.CreateSequential, Path: prefix, Ephemeral: ephemeral}, jute.OpCreate2, q.Append(nil),
		func(_ jute.ReplyHeader, r *jute.Reader) history.Result {
			if r == nil {
				return history.Result{}
			}
			var p jute.Create2Response
			p.Read(r)
			return history.Result{Name: p.Path, Czxid: p.Stat.Czxid}
		}, then)
}

// multi sets both of the pair, at a version or not; now and then one part must fail and undo the others.
func (c *client) multi() {
	value := c.value()
	version := int32(-1)
	if v, ok := c.work.seen[pair[0]]; ok && c.w.rand().IntN(2) == 0 {
		version = v
	}
	o := history.Op{Kind: history.Multi, Parts: []history.Part{
		{Check: true, Path: pair[0], Version: version},
		{Kind: history.Set, Path: pair[0], Value: value, Version: -1},
		{Kind: history.Set, Path: pair[1], Value: value, Version: -1},
	}}
	ops := []jute.Op{
		{Type: jute.OpCheck, Path: pair[0], Version: version},
		{Type: jute.OpSetData, Path: pair[0], Data: []byte(value), Version: -1},
		{Type: jute.OpSetData, Path: pair[1], Data: []byte(value), Version: -1},
	}
	if c.w.rand().IntN(8) == 0 { // a version that cannot be
		o.Parts = append(o.Parts, history.Part{Check: true, Path: pair[1], Version: 1 << 30})
		ops = append(ops, jute.Op{Type: jute.OpCheck, Path: pair[1], Version: 1 << 30})
	}
	c.request(o, jute.OpMulti, jute.AppendMulti(nil, ops), func(_ jute.ReplyHeader, r *jute.Reader) history.Result {
		if r == nil {
			return history.Result{}
		}
		for _, part := range jute.ReadMultiResponse(r, len(ops)) {
			if part.Err != jute.OK {
				return history.Result{Code: history.Code(part.Err)}
			}
		}
		return history.Result{}
	}, nil)
}

// closeSession ends the session in an orderly way; the next one begins on another connection.
func (c *client) closeSession() {
	c.work.closing = true
	c.request(history.Op{Kind: history.Other}, jute.OpCloseSession, nil, headerOnly, nil)
}

// release deletes the node that holds a lock.
func (c *client) release(node string, then func(history.Result)) {
	q := jute.PathVersionRequest{Path: node, Version: -1}
	c.request(history.Op{Kind: history.Release, Path: node, Version: -1, Ephemeral: true}, jute.OpDelete, q.Append(nil), headerOnly, then)
}

func (c *client) removeEphemeral(path string) {
	q := jute.PathVersionRequest{Path: path, Version: -1}
	c.request(history.Op{Kind: history.Delete, Path: path, Version: -1, Ephemeral: true}, jute.OpDelete, q.Append(nil), headerOnly, nil)
}
