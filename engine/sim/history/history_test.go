package history

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// script makes a history by hand: one line after the other, a millisecond apart.
type script struct {
	*Recorder
	now  time.Duration
	open map[string]Token
}

func newScript() *script {
	s := &script{open: map[string]Token{}}
	s.Recorder = NewRecorder(func() time.Duration {
		s.now += time.Millisecond
		return s.now
	})
	return s
}

// on is a client's operation on its first connection. Clients and sessions have the same numbers.
func on(client int, kind Kind, path, value string) Op {
	return Op{Client: client, Session: int64(client), Conn: 1, Box: 1, Kind: kind, Path: path, Value: value, Version: -1}
}

func (s *script) ask(name string, o Op)        { s.open[name] = s.Invoke(o) }
func (s *script) answer(name string, r Result) { s.open[name].Return(r) }
func (s *script) do(o Op, r Result)            { s.Invoke(o).Return(r) }
func (s *script) create(client int, zxid int64) {
	s.do(on(client, Create, "/a", "0"), Result{Zxid: zxid})
}

func (s *script) set(client int, value string, version int32, zxid int64) {
	s.do(on(client, Set, "/a", value), Result{Zxid: zxid, Version: version, Mzxid: zxid})
}

func got(value string, version int32, mzxid, zxid int64) Result {
	return Result{Zxid: zxid, Value: value, Version: version, Mzxid: mzxid, Czxid: 1}
}

// wants checks that exactly the rules named are broken, each once or more, in a text that has all the words.
func (s *script) wants(t *testing.T, rules string, words ...string) {
	t.Helper()
	broken := map[string]bool{}
	text := ""
	for _, v := range Check(s.History(), Options{}) {
		broken[v.Rule] = true
		text += v.String() + "\n"
	}
	for _, rule := range strings.Fields(rules) {
		if !broken[rule] {
			t.Errorf("the rule %q should be broken; what was found:\n%s", rule, text)
		}
		delete(broken, rule)
	}
	if len(broken) > 0 {
		t.Errorf("broken beyond %q:\n%s", rules, text)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not told in\n%s", word, text)
		}
	}
}

func TestLinearizableRegisters(t *testing.T) {
	s := newScript()
	s.create(1, 1)
	s.ask("w", on(1, Set, "/a", "1"))
	s.do(on(2, SyncRead, "/a", ""), got("1", 1, 2, 2)) // while the write is under way
	s.answer("w", Result{Zxid: 2, Version: 1})
	s.do(on(1, Delete, "/a", ""), Result{Zxid: 3})
	s.do(on(2, SyncRead, "/a", ""), Result{Zxid: 3, Code: NoNode})
	s.do(on(2, Set, "/a", "2"), Result{Zxid: 4, Code: NoNode})
	s.wants(t, "")
}

func TestAnUnknownWriteMayHappenLateOrNever(t *testing.T) {
	s := newScript()
	s.create(1, 1)
	s.ask("lost", on(1, Set, "/a", "lost"))
	s.ask("never", on(1, Set, "/a", "never"))
	s.set(2, "1", 1, 2)
	s.do(on(2, SyncRead, "/a", ""), got("1", 1, 2, 2))
	s.do(on(2, SyncRead, "/a", ""), got("lost", 2, 3, 3)) // now it came to pass
	s.wants(t, "")
	s.do(on(2, SyncRead, "/a", ""), got("1", 1, 2, 3)) // and it cannot be undone
	s.wants(t, "linearizability reads", "lost", "must come next")
}

// Writes without an answer that nobody saw are many and alike: their subsets are not all tried.
func TestManyUnknownWritesAreDecidedFast(t *testing.T) {
	run := func(version int32) *script {
		s := newScript()
		s.create(1, 1)
		for i := range 60 {
			s.ask(fmt.Sprint(i), on(2, Set, "/a", fmt.Sprint("lost", i)))
			s.ask(fmt.Sprint("multi", i), multi(3, Part{Kind: Set, Path: "/a", Value: fmt.Sprint("m", i), Version: -1}, Part{Kind: Set, Path: "/b", Value: fmt.Sprint("m", i), Version: -1}))
			if i%3 == 0 { // one of them has happened
				s.set(1, fmt.Sprint(i), int32(2*(i/3+1)), int64(10+10*i))
			}
		}
		s.do(on(1, SyncRead, "/a", ""), got("57", version, 580, 600))
		return s
	}
	run(40).wants(t, "")
	run(41).wants(t, "linearizability reads")
}

// A write without an answer whose value was read did happen, and then.
func TestAWitnessedWriteHasItsPlace(t *testing.T) {
	s := newScript()
	s.create(1, 1)
	s.ask("lost", on(2, Set, "/a", "lost"))
	s.do(on(3, Read, "/a", ""), got("lost", 1, 2, 2))
	s.set(1, "1", 2, 3)
	s.do(on(1, SyncRead, "/a", ""), got("1", 2, 3, 3))
	s.wants(t, "")
	s.do(on(1, SyncRead, "/a", ""), got("lost", 3, 4, 4)) // once only
	s.wants(t, "linearizability", "lost")
}

// A write that was sent before another on its connection has happened when the other has, though neither was answered.
func TestAWriteIsNotSkipped(t *testing.T) {
	run := func(version int32) *script {
		s := newScript()
		s.create(1, 1)
		first, second := on(2, Set, "/a", "first"), on(2, Set, "/a", "second")
		first.Order, second.Order = 1, 2
		s.ask("first", first)
		s.ask("second", second)
		s.do(on(1, SyncRead, "/a", ""), got("second", version, 3, 3))
		return s
	}
	run(2).wants(t, "")
	run(1).wants(t, "linearizability", "first", "second")
}

func TestAStaleSyncReadIsFound(t *testing.T) {
	s := newScript()
	s.create(1, 1)
	s.set(1, "1", 1, 2)
	s.do(on(2, SyncRead, "/a", ""), got("0", 0, 1, 1))
	s.wants(t, "linearizability", `sync+read /a → zxid 1, "0" v0`)
}

func TestTwoWinnersOfOneVersionAreFound(t *testing.T) {
	s := newScript()
	s.create(1, 1)
	for client := 1; client <= 2; client++ {
		o := on(client, Set, "/a", fmt.Sprint("by", client))
		o.Version = 0
		s.do(o, Result{Zxid: int64(1 + client), Version: 1})
	}
	s.wants(t, "linearizability", "by1", "by2")
}

func multi(client int, parts ...Part) Op {
	o := on(client, Multi, "", "")
	o.Parts = parts
	return o
}

func TestMultisAreWhole(t *testing.T) {
	both := []Part{{Kind: Set, Path: "/a", Value: "1", Version: -1}, {Kind: Set, Path: "/b", Value: "1", Version: -1}}
	run := func(b Result) *script {
		s := newScript()
		s.create(1, 1)
		s.do(on(1, Create, "/b", "0"), Result{Zxid: 2})
		s.do(multi(1, Part{Check: true, Path: "/a", Version: 7}, both[1]), Result{Zxid: 3, Code: BadVersion})
		s.do(multi(1, both...), Result{Zxid: 4})
		s.do(on(2, SyncRead, "/a", ""), got("1", 1, 4, 4))
		s.do(on(2, SyncRead, "/b", ""), b)
		return s
	}
	run(got("1", 1, 4, 4)).wants(t, "")
	run(got("0", 0, 2, 4)).wants(t, "linearizability reads", "[set /a")
}

func TestZxidsFollowTime(t *testing.T) {
	s := newScript()
	s.create(1, 5)
	s.do(on(2, Create, "/b", ""), Result{Zxid: 4})
	s.do(on(3, Create, "/c", ""), Result{Zxid: 5})
	s.wants(t, "zxids", "older zxid", "two writes with zxid 5")
	s = newScript()
	s.ask("a", on(1, Create, "/a", ""))
	s.do(on(2, Create, "/b", ""), Result{Zxid: 2})
	s.answer("a", Result{Zxid: 1})
	s.wants(t, "")
}

func TestASessionNeverGoesBack(t *testing.T) {
	read := on(1, Read, "/a", "")
	s := newScript()
	s.create(2, 1)
	s.set(2, "1", 1, 2)
	s.do(read, got("0", 0, 1, 1)) // behind, as a read without a sync may be
	s.do(read, got("1", 1, 2, 2))
	s.wants(t, "")
	other := read
	other.Conn, other.Box = 2, 3 // over a reconnect
	s.do(other, got("0", 0, 1, 1))
	s.wants(t, "reads", "had seen zxid 2 was answered as of zxid 1", "box 3")

	s = newScript() // the header tells of a newer tree than the value
	s.create(2, 1)
	s.set(2, "1", 1, 2)
	s.do(read, got("0", 0, 1, 2))
	s.wants(t, "reads", "and not as of zxid 2")
}

func TestASessionReadsItsOwnWrites(t *testing.T) {
	s := newScript()
	s.create(1, 1)
	s.ask("w", on(1, Set, "/a", "1"))
	s.ask("r", on(1, Read, "/a", ""))
	s.answer("w", Result{Zxid: 2, Version: 1})
	s.answer("r", got("0", 0, 1, 1))
	s.wants(t, "reads")

	s = newScript()
	s.create(1, 1)
	s.do(on(1, Read, "/a", ""), Result{Zxid: 1, Code: NoNode})
	s.wants(t, "reads", "did not find /a")
	s = newScript() // unless somebody may have deleted it
	s.create(1, 1)
	s.ask("d", on(2, Delete, "/a", ""))
	s.do(on(1, Read, "/a", ""), Result{Zxid: 2, Code: NoNode})
	s.wants(t, "")
}

func TestWhatIsReadWasWritten(t *testing.T) {
	s := newScript()
	s.create(1, 1)
	s.ask("lost", on(2, Set, "/a", "lost"))
	s.do(on(1, Read, "/a", ""), got("lost", 1, 2, 2))
	s.wants(t, "")
	s.do(on(1, Read, "/a", ""), got("phantom", 2, 3, 3))
	s.wants(t, "reads", "nobody wrote")
	s = newScript()
	s.create(1, 1)
	s.do(on(1, Read, "/a", ""), got("1", 0, 1, 1))
	s.wants(t, "reads", "another value")
}

func TestAnswersComeInOrder(t *testing.T) {
	ops := func(s *script) {
		for i := range 3 {
			o := on(1, Create, fmt.Sprint("/", i), "")
			o.Order = i + 1
			s.ask(fmt.Sprint(i), o)
		}
	}
	s := newScript()
	ops(s)
	s.answer("0", Result{Zxid: 1})
	s.answer("1", Result{Zxid: 2})
	s.wants(t, "") // the last is lost with the connection
	s = newScript()
	ops(s)
	s.answer("0", Result{Zxid: 1})
	s.answer("2", Result{Zxid: 2})
	s.wants(t, "fifo", "before it on the connection has none")
	s.answer("1", Result{Zxid: 3})
	s.wants(t, "fifo", "another order")
	s = newScript()
	ops(s)
	s.answer("0", Result{Zxid: 2})
	s.answer("1", Result{Zxid: 1})
	s.wants(t, "fifo reads", "do not rise")
}

func TestSequentialNames(t *testing.T) {
	s := newScript()
	add := func(client int, name string, zxid int64) {
		s.do(on(client, CreateSequential, "/q/n", ""), Result{Zxid: zxid, Name: name})
	}
	s.ask("slow", on(3, CreateSequential, "/q/n", ""))
	add(1, "/q/n0000000000", 1)
	add(2, "/q/n0000000002", 3)
	s.answer("slow", Result{Zxid: 2, Name: "/q/n0000000001"})
	s.wants(t, "")
	add(1, "/q/n0000000002", 4)
	s.wants(t, "sequence", "two creates were given the name")

	s = newScript()
	add(1, "/q/n0000000005", 1)
	add(2, "/q/n0000000003", 2)
	s.wants(t, "sequence", "came later was given a lower number", "do not rise with the zxids")
	s = newScript()
	add(1, "/q/nine", 1)
	s.wants(t, "sequence", "no sequential name")
}

// acquired is a client's finding that it holds the lock.
func (s *script) acquired(client int, czxid, zxid int64) {
	s.do(on(client, Acquire, "/lock", ""), Result{Zxid: zxid, Czxid: czxid, Name: fmt.Sprint("/lock/", client)})
}

func TestLocksExclude(t *testing.T) {
	release := func(client int) Op { return on(client, Release, fmt.Sprint("/lock/", client), "") }
	s := newScript()
	s.acquired(1, 1, 3)
	s.do(release(1), Result{Zxid: 4})
	s.acquired(2, 2, 4)
	s.wants(t, "")

	s = newScript() // held as of a tree in which the first still held it
	s.acquired(1, 1, 3)
	s.acquired(2, 2, 3)
	s.do(release(1), Result{Zxid: 4})
	s.wants(t, "lock", "held by two")

	s = newScript() // the first never let go, and its session lives
	s.acquired(1, 1, 3)
	s.acquired(2, 2, 4)
	s.wants(t, "") // its session may have ended
	s.do(on(1, Exists, "/x", ""), Result{Zxid: 6, Code: OK, Mzxid: 1})
	s.wants(t, "lock", "lived on")

	s = newScript() // the first try to let go has no answer and came to pass, the second found nothing, or has none either
	s.acquired(1, 1, 3)
	s.ask("lost", release(1))
	s.acquired(2, 2, 4)
	s.ask("again", release(1))
	s.do(on(1, Exists, "/x", ""), Result{Zxid: 6, Code: OK, Mzxid: 1})
	s.wants(t, "")

	s = newScript() // a fencing token that goes back
	s.acquired(1, 5, 6)
	s.acquired(2, 2, 7)
	s.wants(t, "lock", "not newer")
}

func fired(client int, kind EventType, path string, zxid int64) Event {
	return Event{Client: client, Session: int64(client), Conn: 1, Box: 1, Kind: Fired, Type: kind, Path: path, Zxid: zxid}
}

func (s *script) watched(client int, zxid int64) {
	o := on(client, Read, "/a", "")
	o.Watch = DataWatch
	s.do(o, got("0", 0, 1, zxid))
}

func TestAWatchComesBeforeWhatItTellsOf(t *testing.T) {
	s := newScript()
	s.create(2, 1)
	s.watched(1, 1)
	s.set(2, "1", 1, 2)
	s.Observe(fired(1, NodeDataChanged, "/a", 2))
	s.do(on(1, Read, "/a", ""), got("1", 1, 2, 2))
	s.wants(t, "")
	s.Observe(fired(1, NodeDataChanged, "/a", 2))
	s.wants(t, "watch", "without a watch")

	s = newScript()
	s.create(2, 1)
	s.watched(1, 1)
	s.set(2, "1", 1, 2)
	s.do(on(1, Exists, "/elsewhere", ""), Result{Zxid: 2, Code: NoNode}) // any answer as of the change is one too many
	s.wants(t, "watch", "was not told of zxid 2")

	s = newScript() // an event of what the watch was set behind
	s.create(2, 1)
	s.watched(1, 1)
	s.Observe(fired(1, NodeCreated, "/a", 1))
	s.wants(t, "watch", "set behind")
}

func TestAWatchIsToldOfAfterAReconnect(t *testing.T) {
	begin := func() *script {
		s := newScript()
		s.create(2, 1)
		s.watched(1, 1)
		s.Observe(Event{Client: 1, Session: 1, Conn: 1, Kind: Disconnected})
		s.set(2, "1", 1, 2)
		s.Observe(Event{Client: 1, Session: 1, Conn: 2, Kind: Connected, Timeout: time.Second})
		return s
	}
	again := on(1, Read, "/a", "")
	again.Conn = 2
	s := begin() // a client that does not ask again has no watch
	s.do(again, got("1", 1, 2, 2))
	s.wants(t, "")
	s = begin()
	s.Observe(Event{Client: 1, Session: 1, Conn: 2, Kind: Rearmed})
	s.do(again, got("1", 1, 2, 2))
	s.wants(t, "watch", "was not told")
	s = begin()
	s.Observe(Event{Client: 1, Session: 1, Conn: 2, Kind: Rearmed})
	s.Observe(fired(1, NodeDataChanged, "/a", -1))
	s.do(again, got("1", 1, 2, 2))
	s.wants(t, "")
}

// What came and went while a client was away, setWatches cannot tell; what came and stayed it must.
func TestAWatchForWhatIsNotThere(t *testing.T) {
	begin := func() *script {
		s := newScript()
		o := on(1, Exists, "/a", "")
		o.Watch = DataWatch
		s.do(o, Result{Zxid: 1, Code: NoNode})
		s.Observe(Event{Client: 1, Session: 1, Conn: 1, Kind: Disconnected})
		s.create(2, 2)
		return s
	}
	end := func(s *script, zxid int64) {
		s.Observe(Event{Client: 1, Session: 1, Conn: 2, Kind: Connected, Timeout: time.Second})
		s.Observe(Event{Client: 1, Session: 1, Conn: 2, Kind: Rearmed})
		s.do(on(1, Exists, "/other", ""), Result{Zxid: zxid, Code: NoNode})
	}
	s := begin()
	end(s, 2)
	s.wants(t, "watch", "was not told of zxid 2")
	s = begin()
	s.do(on(2, Delete, "/a", ""), Result{Zxid: 3})
	end(s, 3)
	s.wants(t, "")
}

func TestChildWatches(t *testing.T) {
	children := on(1, Children, "/", "")
	children.Watch = ChildWatch
	s := newScript()
	s.do(children, Result{Zxid: 1})
	s.create(2, 2)
	s.set(2, "1", 1, 3) // is no change of the parent
	s.Observe(fired(1, NodeChildrenChanged, "/", 2))
	s.do(on(1, Read, "/a", ""), got("1", 1, 3, 3))
	s.wants(t, "")
	s = newScript()
	s.do(children, Result{Zxid: 1})
	s.create(2, 2)
	s.do(on(1, Read, "/a", ""), got("0", 0, 2, 2))
	s.wants(t, "watch")
}

func TestSessionsLiveForTheirTimeout(t *testing.T) {
	run := func(silence time.Duration) *script {
		s := newScript()
		s.Observe(Event{Client: 1, Session: 1, Conn: 1, Kind: Connected, Timeout: time.Second})
		s.do(on(1, Other, "", ""), Result{})
		s.now += silence
		s.Observe(Event{Client: 1, Session: 1, Conn: 2, Kind: Expired})
		return s
	}
	run(time.Second).wants(t, "")
	run(900*time.Millisecond).wants(t, "session", "was over")
	s := run(time.Second)
	s.create(1, 1)
	s.wants(t, "session", "was over was answered")
}

func TestFinal(t *testing.T) {
	s := newScript()
	s.create(1, 1)
	s.set(1, "1", 1, 2)
	s.do(on(1, CreateSequential, "/q/n", ""), Result{Zxid: 3, Name: "/q/n0000000000"})
	s.do(on(1, Create, "/gone", ""), Result{Zxid: 4})
	s.do(on(1, Delete, "/gone", ""), Result{Zxid: 5})
	s.ask("lost", on(2, Set, "/a", "lost"))
	good := func() map[string]Node {
		return map[string]Node{"/a": {Value: "1", Version: 1, Czxid: 1, Mzxid: 2}, "/q/n0000000000": {Czxid: 3, Mzxid: 3}}
	}
	for name, c := range map[string]struct {
		change func(map[string]Node)
		want   string
	}{
		"as acknowledged":        {func(map[string]Node) {}, ""},
		"and the unknown write":  {func(m map[string]Node) { m["/a"] = Node{Value: "lost", Version: 2, Czxid: 1, Mzxid: 6} }, ""},
		"a lost create":          {func(m map[string]Node) { delete(m, "/q/n0000000000") }, "/q/n0000000000 is not there"},
		"a lost set":             {func(m map[string]Node) { m["/a"] = Node{Value: "0", Czxid: 1, Mzxid: 1} }, "is as of zxid 1"},
		"another value":          {func(m map[string]Node) { m["/a"] = Node{Value: "2", Version: 1, Czxid: 1, Mzxid: 2} }, "was another"},
		"a value out of nowhere": {func(m map[string]Node) { m["/a"] = Node{Value: "2", Version: 2, Czxid: 1, Mzxid: 6} }, "nobody wrote"},
		"back from the dead":     {func(m map[string]Node) { m["/gone"] = Node{Czxid: 4, Mzxid: 4} }, "is there after its delete"},
	} {
		tree := good()
		c.change(tree)
		text := fmt.Sprint(Final(s.History(), tree))
		if c.want == "" && text != "[]" || !strings.Contains(text, c.want) {
			t.Errorf("%s: %s, want %q", name, text, c.want)
		}
	}
}

// Many goroutines may record at a time; the copies are their own.
func TestRecorderIsSafe(t *testing.T) {
	r := NewRecorder(func() time.Duration { return 1 })
	var all sync.WaitGroup
	for client := range 8 {
		all.Go(func() {
			for range 200 {
				r.Invoke(on(client, Other, "", "")).Return(Result{})
				r.Observe(Event{Client: client})
				_ = r.History()
			}
		})
	}
	all.Wait()
	if h := r.History(); len(h.Ops) != 1600 || len(h.Events) != 1600 {
		t.Fatalf("%d operations and %d events", len(h.Ops), len(h.Events))
	}
	Token{}.Return(Result{})
}
