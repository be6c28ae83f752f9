package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/zkserver"
	"cairn/engine/limits"
	"cairn/engine/node"
	"cairn/engine/sim/history"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/vfs"
)

// world is one run: everything follows from the seed.
type world struct {
	t     *testing.T
	cfg   config
	clock *clock.Virtual
	sched *mailbox.Scheduler
	net   *network
	began time.Time // of the bubble

	ids, voters, learners []uint64
	boxes                 map[uint64]*box
	wires                 []*wire
	wireCount             int
	clients               []*client
	record                *history.Recorder
	sessionTimeout        time.Duration
	limits                limits.Limits
	linearizable          bool // the servers answer no read that may be stale
	shardStepped          bool // in this step
	prepared              int  // of what everybody works on
	over                  bool
	kafka                 *kafka // nil: the boxes have no broker

	faults faults
	dir    string

	// What must hold at all times.
	leaders map[uint64]uint64 // by term
	digests map[uint64]digest // by index
	failure string
	stuck   bool           // what failed is that not all are whole in the end
	broken  map[string]int // rules of the history, by name

	ending []*process // being closed

	lines  *strings.Builder // the whole trace, where a test wants it
	recent []string         // its end
	hash   uint64
	steps  int

	snapshots, powerCuts int
	heldUp               bool // a step took so long that the runtime may have let other goroutines go between
}

type digest struct {
	box uint64
	sum uint64
}

// config is what a run is asked for.
type config struct {
	seed    uint64
	seconds int
	// calm: no faults.
	calm bool
	// power: nothing happens but that boxes lose power, or are killed, and that often.
	power bool
	// brokers: the boxes have the broker's wing, and Kafka's clients use it.
	brokers bool
	// bug has the boxes make a mistake.
	bug func(*node.Adjust)
	// trace keeps all of it.
	trace bool
	// server has the last word about the servers.
	server func(zkserver.Config) zkserver.Config
}

const (
	recentMax = 80
	// collectEvery is after how many steps garbage is collected: never during a step.
	collectEvery = 20_000
	// quietMax is how long the boxes may take to serve, all of them, and to agree, once nothing goes wrong any more.
	quietMax = 20 * time.Second
	// wholeMax is the same where replicas are made anew.
	wholeMax = 40 * time.Second
)

func newWorld(t *testing.T, cfg config) *world {
	w := &world{t: t, cfg: cfg, clock: clock.NewVirtual(time.Unix(1_700_000_000, 0)), began: time.Now()}
	w.sched = mailbox.NewScheduler(cfg.seed, w.clock)
	w.sched.Trace = func(line string) {
		w.shardStepped = w.shardStepped || strings.Contains(line, "step shard")
		w.note(line)
	}
	w.broken = map[string]int{}
	w.leaders, w.digests, w.boxes = map[uint64]uint64{}, map[uint64]digest{}, map[uint64]*box{}
	w.record = history.NewRecorder(func() time.Duration { return w.now() })
	if cfg.trace {
		w.lines = &strings.Builder{}
	}
	w.dir = tempDir(t)
	w.shape()
	if cfg.brokers {
		w.kafka = newKafka(w)
	}
	w.net = &network{w: w, lanes: map[lane][][]byte{}, cuts: map[[2]uint64]cut{}, delay: 2 * time.Millisecond}
	for _, id := range w.ids {
		w.boxes[id] = &box{w: w, id: id, dir: fmt.Sprintf("%s/box%d.0", w.dir, id), wall: wallClock{Virtual: w.clock}, mem: vfs.NewMem()}
	}
	return w
}

// shape chooses how many boxes and clients there are.
func (w *world) shape() {
	r := w.rand()
	voters, learners := 3, 0
	switch n := r.IntN(20); {
	case n < 4:
		voters = 5
	case n < 8:
		learners = 1
	}
	for id := uint64(1); id <= uint64(voters+learners); id++ {
		w.ids = append(w.ids, id)
		if id <= uint64(voters) {
			w.voters = append(w.voters, id)
		} else {
			w.learners = append(w.learners, id)
		}
	}
	slices.Reverse(w.learners)
	w.limits = smallLimits()
	if r.IntN(3) == 0 { // a box that lags is brought a snapshot soon
		w.limits.ZooKeeper.SnapshotEntries, w.limits.ZooKeeper.CatchUpEntries = 40, 10
	}
	w.linearizable = r.IntN(4) == 0 && w.cfg.server == nil
	w.sessionTimeout = 2*time.Second + time.Duration(r.Int64N(int64(4*time.Second)))
}

func (w *world) rand() *rand.Rand { return w.sched.Rand() }

func (w *world) now() time.Duration { return w.clock.Now().Mono }

// trace notes one thing that happens.
func (w *world) trace(format string, args ...any) {
	w.note(fmt.Sprintf(format, args...))
}

func (w *world) note(line string) {
	w.hash = w.hash*1_099_511_628_211 ^ sum([]byte(line))
	if w.lines != nil {
		w.lines.WriteString(line + "\n")
	}
	if len(w.recent) >= 2*recentMax {
		w.recent = append(w.recent[:0], w.recent[recentMax:]...)
	}
	w.recent = append(w.recent, line)
}

func sum(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

// failf is the end of the run. The first word counts.
func (w *world) failf(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf("at %v: ", w.now()) + fmt.Sprintf(format, args...)
	}
}

// step is the world's: one step of the scheduler, and then everything that follows from it at once.
func (w *world) step() {
	if w.steps++; w.steps%collectEvery == 0 {
		runtime.GC()
	}
	began := realTime(w.t)
	defer func() { w.heldUp = w.heldUp || realTime(w.t)-began >= sliceMax }()
	w.sched.Pass()
	before := w.now()
	w.sched.Step()
	if passed := w.now() - before; passed > 0 {
		w.sched.Pass()
		time.Sleep(passed) // the bubble's clock is the connections' deadlines'
	}
	w.sched.Pass()
	synctest.Wait()
	w.sched.Pass()
	for _, x := range w.wires {
		x.collect()
	}
	w.wires = slices.DeleteFunc(w.wires, (*wire).over)
	w.net.collect()
	w.reap()
	for _, id := range w.ids {
		w.look(w.boxes[id])
	}
	w.shardStepped = false
	if w.kafka != nil {
		w.kafka.spring()
	}
}

// sliceMax is how long a goroutine is let run before the runtime takes the processor from it (forcePreemptNS).
const sliceMax = 10 * time.Millisecond

// realTime is the machine's own, of which the bubble knows nothing.
func realTime(t *testing.T) time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// look checks what must hold of a box, and follows it when it ends by itself.
func (w *world) look(b *box) {
	b.watchPower()
	if b.proc == nil || b.stopping {
		return
	}
	s := b.proc.Ensemble.Status()
	if s.Role == "leader" && !b.proc.dead {
		if other, ok := w.leaders[s.Term]; ok && other != b.id {
			w.failf("boxes %d and %d lead in term %d", other, b.id, s.Term)
		}
		w.leaders[s.Term] = b.id
	}
	if w.kafka != nil && w.shardStepped {
		w.kafka.look(b)
	}
	if err := b.proc.Ensemble.Failed(); err != nil {
		if !b.proc.faulty() {
			w.failf("box %d failed: %v", b.id, err)
		}
		w.trace("box %d failed", b.id)
		b.kill()
		w.restart(b)
	}
}

// reap is what follows when a process has closed.
func (w *world) reap() {
	w.ending = slices.DeleteFunc(w.ending, func(p *process) bool {
		if !p.closed {
			return false
		}
		if p.left != "" {
			_ = os.RemoveAll(p.left) // memory, mostly
		}
		if b := p.box; b.proc == p {
			b.end(true)
			b.stopping = false
			b.stopped()
		}
		return true
	})
}

// restart opens a box that is down, after a while.
func (w *world) restart(b *box) {
	after := 50*time.Millisecond + time.Duration(w.rand().Int64N(int64(1500*time.Millisecond)))
	if w.rand().IntN(3) == 0 {
		after /= 50 // a supervisor that does not wait
	}
	w.sched.After(after, "restart", func() {
		if b.proc == nil && !w.over {
			b.open()
		}
	})
}

// applied is told of what every box applies: at one index all have one tree.
func (w *world) applied(b *box, batch ensemble.Batch) {
	d := digest{b.id, batch.Tree.Digest()}
	w.trace("box %d applied %d zxid %d digest %x", b.id, batch.Index, batch.Zxid, d.sum)
	if other, ok := w.digests[batch.Index]; ok && other.sum != d.sum {
		w.failf("at index %d box %d has digest %x and box %d %x", batch.Index, b.id, d.sum, other.box, other.sum)
	}
	w.digests[batch.Index] = d
}

// runUntil steps until cond holds, for some virtual time at the most.
func (w *world) runUntil(limit time.Duration, cond func() bool) bool {
	end := w.now() + limit
	for w.failure == "" && !cond() {
		if w.now() > end {
			return false
		}
		w.step()
	}
	return w.failure == ""
}

// run is the whole run.
func (w *world) run() {
	began := realTime(w.t)
	for _, id := range w.ids {
		w.boxes[id].open()
	}
	synctest.Wait()
	w.heldUp = realTime(w.t)-began >= sliceMax
	if !w.runUntil(quietMax, w.populate()) {
		w.failf("the ensemble does not come up: %s", w.describe())
	}
	if w.kafka != nil {
		w.kafka.start()
	}
	if !w.cfg.calm {
		w.faults.start(w)
	}
	w.runUntil(time.Duration(w.cfg.seconds)*time.Second, func() bool { return false })
	w.calmDown()
	w.settle()
	w.over = true
	w.end()
}

// populate brings in who uses the boxes; the result tells whether what they work on is there.
func (w *world) populate() (ready func() bool) {
	if k := w.kafka; k != nil {
		k.admin = newAdmin(w)
		return func() bool { return k.admin.ready }
	}
	for id := range 5 {
		w.clients = append(w.clients, newClient(w, id+1))
	}
	return func() bool { return w.prepared == len(directories)+len(pair) }
}

// settle waits until all serve, have the same tree, and the clients have read everything once more.
func (w *world) settle() {
	if w.failure != "" {
		return
	}
	for _, c := range w.clients {
		c.draining = true
	}
	if w.kafka != nil {
		w.kafka.drain()
	}
	calm := func() bool {
		if w.kafka != nil && !w.kafka.whole() {
			return false
		}
		for _, c := range w.clients {
			if !c.ready || len(c.pending) > 0 || !c.audited() {
				return false
			}
		}
		index, _ := w.boxes[w.ids[0]].appliedIndex()
		for _, id := range w.ids {
			b := w.boxes[id]
			if i, serves := b.appliedIndex(); !serves || i != index {
				return false
			}
		}
		return true
	}
	limit := quietMax
	if w.kafka != nil {
		limit = wholeMax
	}
	if w.stuck = !w.runUntil(limit, calm) && w.failure == ""; w.stuck {
		w.failf("all faults ended %v ago, and not all serve and agree: %s", limit, w.describe())
	}
}

func (b *box) appliedIndex() (uint64, bool) {
	if b.proc == nil {
		return 0, false
	}
	index, _ := b.proc.Ensemble.Applied()
	return index, b.proc.Ensemble.Serving()
}

func (w *world) describe() string {
	var parts []string
	for _, id := range w.ids {
		b := w.boxes[id]
		if b.proc == nil {
			parts = append(parts, fmt.Sprintf("box %d is down", id))
			continue
		}
		s := b.proc.Ensemble.Status()
		parts = append(parts, fmt.Sprintf("box %d %s term %d leader %d applied %d serving %v paused %v voters %v learners %v", id, s.Role, s.Term, s.Leader,
			s.Applied, s.Serving, b.paused, s.Voters, s.Learners))
	}
	for _, c := range w.clients {
		parts = append(parts, fmt.Sprintf("client %d ready %v box %d pending %d audited %d", c.id, c.ready, c.lastBox, len(c.pending), c.work.audited))
	}
	if w.kafka != nil {
		parts = append(parts, w.kafka.describe())
	}
	return strings.Join(parts, "; ")
}

// end takes everything down, so that no goroutine is left in the bubble. The trees are judged before.
func (w *world) end() {
	if w.failure == "" && w.kafka != nil {
		w.kafka.judge()
	} else if w.failure == "" {
		w.judgeTrees()
	}
	for _, c := range w.clients {
		if c.wire != nil {
			c.wire.hangUp()
		}
	}
	for _, id := range w.ids {
		if b := w.boxes[id]; b.proc != nil {
			b.end(true).close()
			w.sched.Pass()
			synctest.Wait() // what it woke has its turn before anything else
		}
	}
	w.sched.Pass()
	for range endSteps {
		if len(w.ending) == 0 {
			return
		}
		w.step()
	}
	panic(fmt.Sprintf("seed %d: %d processes do not close", w.cfg.seed, len(w.ending)))
}

// endSteps is how many steps all processes together may take to close.
const endSteps = 1 << 20

// judgeTrees compares every box's tree with what was acknowledged.
func (w *world) judgeTrees() {
	h := w.record.History()
	for _, id := range w.ids {
		tree := map[string]history.Node{}
		err := w.boxes[id].tree(func(path string, data []byte, stat jute.Stat) {
			tree[path] = history.Node{Value: string(data), Version: stat.Version, Czxid: stat.Czxid, Mzxid: stat.Mzxid}
		})
		if err != nil {
			w.failf("box %d shows no tree: %v", id, err)
			return
		}
		for _, v := range history.Final(h, tree) {
			w.failf("box %d: %v", id, v)
		}
	}
}

// judge checks the history.
func (w *world) judge() {
	if w.failure != "" {
		return
	}
	for _, v := range history.Check(w.record.History(), history.Options{ExpirySlack: w.expirySlack(), Patience: 60 * time.Second}) {
		w.broken[v.Rule]++
		w.failf("%v", v)
	}
}

// tempDir is a directory in memory where there is one.
func tempDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "sim")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
