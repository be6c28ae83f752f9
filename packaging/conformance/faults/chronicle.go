package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/sim/history"
	"cairn/packaging/conformance/boxes"
)

const (
	chroniclers   = 9
	historyTime   = 20 * time.Second
	historyPace   = 60 * time.Millisecond // between two bursts, at most
	burstMax      = 4
	answerMax     = 30 * time.Second
	checkPatience = 60 * time.Second
)

// Chronicle is the clients of one history: what they do is mixed, and all that they see is recorded.
type Chronicle struct {
	root    string
	record  *history.Recorder
	clients []*chronicler
}

// chronicler is one of them. Its worker sends; its session's goroutines record what arrives, in the order of arrival.
type chronicler struct {
	all     *Chronicle
	id      int
	session *Session
	random  *rand.Rand
	count   int
	conn    *conn // that of the last burst
	order   int
	lock    lock

	mu   sync.Mutex // protects seen
	seen map[string]int32
}

// registers come and go, the pair is set by multis alone, and the watched come and go.
func (c *Chronicle) registers() []string {
	return []string{c.root + "/r/0", c.root + "/r/1", c.root + "/r/2", c.root + "/r/3"}
}
func (c *Chronicle) pair() []string { return []string{c.root + "/m/a", c.root + "/m/b"} }
func (c *Chronicle) watched() []string {
	return []string{c.root + "/w/0", c.root + "/w/1", c.root + "/w/2"}
}
func (c *Chronicle) sequence() string { return c.root + "/q" }
func (c *Chronicle) locks() string    { return c.root + "/lock" }

// NewChronicle makes what the clients work on, and the clients.
func (s *Suite) NewChronicle(ctx context.Context, seed uint64) (*Chronicle, error) {
	began := time.Now()
	c := &Chronicle{root: fmt.Sprintf("%s/h%d", root, seed), record: history.NewRecorder(func() time.Duration { return time.Since(began) })}
	for _, path := range []string{c.root, c.root + "/r", c.root + "/m", c.root + "/w", c.sequence(), c.locks()} {
		if err := s.load.make(ctx, path, ""); err != nil {
			return nil, err
		}
	}
	for id := 1; id <= chroniclers; id++ {
		w := &chronicler{all: c, id: id, random: rand.New(rand.NewPCG(seed, uint64(id))), seen: map[string]int32{}}
		w.session = StartSession(s.cluster, id%boxes.Count+1, timeouts[id%len(timeouts)], false, Hooks{
			Connected: func(k *conn, timeout time.Duration) {
				w.observe(k, history.Event{Kind: history.Connected, Timeout: timeout})
			},
			Lost: func(k *conn) { w.observe(k, history.Event{Kind: history.Disconnected}) },
			Fired: func(k *conn, zxid int64, e jute.WatcherEvent) {
				w.observe(k, history.Event{Kind: history.Fired, Type: history.EventType(e.Type), Path: e.Path, Zxid: zxid})
			},
			Expired: func(session int64, timeout, silent time.Duration) {
				c.record.Observe(history.Event{Client: w.id, Session: session, Kind: history.Expired})
				s.ledger.Expired(session, timeout, silent)
			},
		})
		c.clients = append(c.clients, w)
	}
	return c, nil
}

func (w *chronicler) observe(k *conn, e history.Event) {
	e.Client, e.Session, e.Conn, e.Box = w.id, k.session, k.turn, uint64(k.box)
	w.all.record.Observe(e)
}

// Run lets the clients work until ctx ends, and returns when every answer has come.
func (c *Chronicle) Run(ctx context.Context) {
	var working sync.WaitGroup
	for _, w := range c.clients {
		working.Go(func() { w.work(ctx) })
	}
	working.Wait()
}

// Close ends the clients.
func (c *Chronicle) Close() {
	for _, w := range c.clients {
		w.session.Close()
	}
}

// work sends bursts, and waits for the answers of each.
func (w *chronicler) work(ctx context.Context) {
	first := w.id == 1
	for ctx.Err() == nil {
		k, err := w.session.await(ctx)
		if err != nil {
			return
		}
		if k != w.conn {
			w.conn, w.order = k, 0
		}
		var answers []<-chan reply
		if first { // the pair
			first = false
			answers = append(answers, w.create(k, w.all.pair()[0], "0"), w.create(k, w.all.pair()[1], "0"))
		}
		for range 1 + w.random.IntN(burstMax) {
			answers = append(answers, w.one(k))
		}
		if w.random.IntN(3) == 0 {
			answers = append(answers, w.lockStep(k))
		}
		for _, answer := range answers {
			if answer == nil {
				continue
			}
			select {
			case <-answer:
			case <-time.After(answerMax): // the session ends the connection long before
				return
			}
		}
		if w.random.IntN(300) == 0 {
			w.session.Move(ctx, 1+w.random.IntN(boxes.Count))
		}
		boxes.Pause(ctx, time.Duration(w.random.Int64N(int64(historyPace))))
	}
}

// one sends one request.
func (w *chronicler) one(k *conn) <-chan reply {
	pick := func(paths []string) string { return paths[w.random.IntN(len(paths))] }
	readable := slices.Concat(w.all.registers(), w.all.pair())
	register := pick(w.all.registers())
	switch n := w.random.IntN(100); {
	case n < 15:
		return w.set(k, register, -1)
	case n < 27:
		w.mu.Lock()
		version, known := w.seen[register]
		w.mu.Unlock()
		if !known {
			return w.read(k, history.Read, register, false)
		}
		return w.set(k, register, version)
	case n < 42:
		return w.read(k, history.Read, pick(readable), n >= 36)
	case n < 58:
		return w.read(k, history.SyncRead, pick(readable), false)
	case n < 64:
		return w.create(k, register, w.value())
	case n < 67:
		return w.remove(k, register)
	case n < 72:
		return w.exists(k, pick(slices.Concat(w.all.registers(), w.all.watched())))
	case n < 78:
		return w.sequential(k, w.all.sequence()+"/n-", jute.PersistentSequential, nil)
	case n < 83:
		return w.create(k, pick(w.all.watched()), "")
	case n < 88:
		return w.remove(k, pick(w.all.watched()))
	case n < 93:
		return w.children(k, w.all.root+"/w", true, nil)
	}
	return w.multi(k)
}

// value is one that nobody else writes.
func (w *chronicler) value() string {
	w.count++
	return fmt.Sprintf("c%d-%d", w.id, w.count)
}

// request records one operation and sends it. read, which may be nil, reads the answer's body; then, which may be nil, is
// told of the result after it was recorded.
func (w *chronicler) request(k *conn, o history.Op, op jute.OpCode, body []byte, read func(*jute.Reader) history.Result, then func(history.Result)) <-chan reply {
	w.order++
	o.Client, o.Session, o.Conn, o.Order, o.Box = w.id, k.session, k.turn, w.order, uint64(k.box)
	token := w.all.record.Invoke(o)
	if o.Kind == history.SyncRead {
		if _, err := k.send(jute.OpSync, 0, (&jute.PathRequest{Path: o.Path}).Append(nil)); err != nil {
			return nil
		}
	}
	answer, err := k.ask(op, 0, body, func(a reply) {
		result := history.Result{}
		if a.head.Err == jute.OK && read != nil {
			result = read(jute.NewReader(a.body))
		}
		if a.head.Err != jute.OK {
			result.Code = history.Code(a.head.Err)
		}
		result.Zxid = a.head.Zxid
		token.Return(result)
		if then != nil {
			then(result)
		}
	})
	if err != nil {
		return nil // it is over: the operation has no answer
	}
	return answer
}

// remember notes the version that a register had, or that it is not there.
func (w *chronicler) remember(path string) func(history.Result) {
	return func(r history.Result) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if r.Code == history.OK {
			w.seen[path] = r.Version
		} else {
			delete(w.seen, path)
		}
	}
}

func (w *chronicler) set(k *conn, path string, version int32) <-chan reply {
	o := history.Op{Kind: history.Set, Path: path, Value: w.value(), Version: version}
	q := jute.SetDataRequest{Path: path, Data: []byte(o.Value), Version: version}
	return w.request(k, o, jute.OpSetData, q.Append(nil), func(r *jute.Reader) history.Result {
		var s jute.Stat
		s.Read(r)
		return history.Result{Version: s.Version, Mzxid: s.Mzxid, Czxid: s.Czxid}
	}, w.remember(path))
}

func (w *chronicler) create(k *conn, path, value string) <-chan reply {
	q := jute.CreateRequest{Path: path, Data: []byte(value), ACL: jute.OpenACL()}
	return w.request(k, history.Op{Kind: history.Create, Path: path, Value: value}, jute.OpCreate, q.Append(nil), nil, nil)
}

func (w *chronicler) remove(k *conn, path string) <-chan reply {
	q := jute.PathVersionRequest{Path: path, Version: -1}
	return w.request(k, history.Op{Kind: history.Delete, Path: path, Version: -1}, jute.OpDelete, q.Append(nil), nil, nil)
}

func (w *chronicler) read(k *conn, kind history.Kind, path string, watch bool) <-chan reply {
	o := history.Op{Kind: kind, Path: path}
	if watch {
		o.Watch = history.DataWatch
	}
	q := jute.PathWatchRequest{Path: path, Watch: watch}
	return w.request(k, o, jute.OpGetData, q.Append(nil), func(r *jute.Reader) history.Result {
		var p jute.GetDataResponse
		p.Read(r)
		return history.Result{Value: string(p.Data), Version: p.Stat.Version, Czxid: p.Stat.Czxid, Mzxid: p.Stat.Mzxid}
	}, w.remember(path))
}

func (w *chronicler) exists(k *conn, path string) <-chan reply {
	q := jute.PathWatchRequest{Path: path, Watch: true}
	return w.request(k, history.Op{Kind: history.Exists, Path: path, Watch: history.DataWatch}, jute.OpExists, q.Append(nil), func(r *jute.Reader) history.Result {
		var s jute.Stat
		s.Read(r)
		return history.Result{Version: s.Version, Czxid: s.Czxid, Mzxid: s.Mzxid}
	}, nil)
}

func (w *chronicler) children(k *conn, path string, watch bool, then func(history.Result)) <-chan reply {
	o := history.Op{Kind: history.Children, Path: path}
	if watch {
		o.Watch = history.ChildWatch
	}
	q := jute.PathWatchRequest{Path: path, Watch: watch}
	return w.request(k, o, jute.OpGetChildren2, q.Append(nil), func(r *jute.Reader) history.Result {
		var p jute.GetChildren2Response
		p.Read(r)
		return history.Result{Children: slices.Clone(p.Children), Pzxid: p.Stat.Pzxid}
	}, then)
}

func (w *chronicler) sequential(k *conn, prefix string, mode jute.CreateMode, then func(history.Result)) <-chan reply {
	q := jute.CreateRequest{Path: prefix, Data: []byte{}, ACL: jute.OpenACL(), Flags: int32(mode)}
	o := history.Op{Kind: history.CreateSequential, Path: prefix, Ephemeral: mode.Ephemeral()}
	return w.request(k, o, jute.OpCreate2, q.Append(nil), func(r *jute.Reader) history.Result {
		var p jute.Create2Response
		p.Read(r)
		return history.Result{Name: p.Path, Czxid: p.Stat.Czxid}
	}, then)
}

// multi sets both of the pair; now and then one part must fail and undo the others.
func (w *chronicler) multi(k *conn) <-chan reply {
	value, pair := w.value(), w.all.pair()
	o := history.Op{Kind: history.Multi}
	var ops []jute.Op
	for _, path := range pair {
		o.Parts = append(o.Parts, history.Part{Kind: history.Set, Path: path, Value: value, Version: -1})
		ops = append(ops, jute.Op{Type: jute.OpSetData, Path: path, Data: []byte(value), Version: -1})
	}
	if w.random.IntN(6) == 0 { // a version that cannot be
		o.Parts = append(o.Parts, history.Part{Check: true, Path: pair[1], Version: 1 << 30})
		ops = append(ops, jute.Op{Type: jute.OpCheck, Path: pair[1], Version: 1 << 30})
	}
	return w.request(k, o, jute.OpMulti, jute.AppendMulti(nil, ops), func(r *jute.Reader) history.Result {
		for _, part := range jute.ReadMultiResponse(r, len(ops)) {
			if part.Err != jute.OK {
				return history.Result{Code: history.Code(part.Err)}
			}
		}
		return history.Result{}
	}, nil)
}

// lock is a client's part in ZooKeeper's recipe for locks, without its watches: it looks again instead.
type lock struct {
	mu      sync.Mutex // protects what follows: answers come on the session's goroutine
	session int64      // that all of it belongs to
	state   lockState
	node    string
	czxid   int64
}

type lockState uint8

const (
	lockNone lockState = iota
	lockWaits
	lockHeld
	lockUnsure // a create or a delete has no answer: what there is must be found and removed first
)

// lockStep goes on with the recipe.
func (w *chronicler) lockStep(k *conn) <-chan reply {
	l := &w.lock
	l.mu.Lock()
	if l.session != k.session {
		l.session, l.state, l.node = k.session, lockNone, ""
	}
	state, node, czxid := l.state, l.node, l.czxid
	prefix := fmt.Sprintf("%s/c%d-%x-", w.all.locks(), w.id, uint64(k.session))
	if state == lockNone || state == lockHeld {
		l.state = lockUnsure // until there is an answer
	}
	l.mu.Unlock()
	become := func(state lockState, node string, czxid int64) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.session == k.session {
			l.state, l.node, l.czxid = state, node, czxid
		}
	}
	switch state {
	case lockNone:
		return w.sequential(k, prefix, jute.EphemeralSequential, func(r history.Result) {
			if r.Code == history.OK {
				become(lockWaits, r.Name, r.Czxid)
			}
		})
	case lockWaits:
		token := w.all.record.Invoke(history.Op{
			Client: w.id, Session: k.session, Conn: k.turn, Box: uint64(k.box), Kind: history.Acquire, Path: w.all.locks(),
		})
		return w.children(k, w.all.locks(), false, func(r history.Result) {
			if r.Code == history.OK && firstOf(r.Children) == node[strings.LastIndexByte(node, '/')+1:] {
				token.Return(history.Result{Zxid: r.Zxid, Name: node, Czxid: czxid})
				become(lockHeld, node, czxid)
			}
		})
	case lockHeld:
		q := jute.PathVersionRequest{Path: node, Version: -1}
		o := history.Op{Kind: history.Release, Path: node, Version: -1, Ephemeral: true}
		return w.request(k, o, jute.OpDelete, q.Append(nil), nil, func(history.Result) { become(lockNone, "", 0) })
	}
	return w.children(k, w.all.locks(), false, func(r history.Result) { w.clean(k, r, prefix, become) })
}

// clean removes what a request without an answer has left.
func (w *chronicler) clean(k *conn, r history.Result, prefix string, become func(lockState, string, int64)) {
	if r.Code != history.OK {
		return
	}
	for _, name := range r.Children {
		if path := w.all.locks() + "/" + name; strings.HasPrefix(path, prefix) {
			become(lockHeld, path, 0) // it is released as one that was held
			return
		}
	}
	become(lockNone, "", 0)
}

// firstOf is the name with the lowest number.
func firstOf(names []string) string {
	number := func(name string) string { return name[strings.LastIndexByte(name, '-')+1:] }
	first := ""
	for _, name := range names {
		if first == "" || number(name) < number(first) {
			first = name
		}
	}
	return first
}
