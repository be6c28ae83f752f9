package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/packaging/conformance/boxes"
)

const (
	root       = "/faults"
	paceMin    = 20 * time.Millisecond // between two writes of a session
	paceMax    = 60 * time.Millisecond
	createOdds = 10 // one write in so many creates a child
	probePause = 40 * time.Millisecond
	probesMax  = 512 // without an answer: more than during the longest stop
)

// timeouts are those of the sessions in turn; the first is the shortest that the servers grant.
var timeouts = []time.Duration{4 * time.Second, 6 * time.Second, 10 * time.Second}

// idleCount is how many sessions only ping, with the shortest timeout: they are the first to expire wrongly.
const idleCount = 4 * boxes.Count

// probeTimeout is that of the sessions that stay with one box, so long that they outlive a stop of it.
const probeTimeout = 36 * time.Second

// Load is the sessions that write, and those that look whether a box answers with an old state.
type Load struct {
	ledger   *Ledger
	sessions []*Session
	idle     []*Session
	probes   []*Session
	parent   atomic.Pointer[string] // where children are created
	probed   atomic.Int64           // reads that were judged
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu     sync.Mutex // protects what follows
	shut   chan struct{}
	active int
}

// StartLoad makes the sessions' nodes and begins to write.
func StartLoad(ctx context.Context, c *boxes.Cluster, ledger *Ledger, seed uint64) (*Load, error) {
	l := &Load{ledger: ledger}
	hooks := Hooks{Expired: ledger.Expired}
	for i := range ledger.Accounts {
		l.sessions = append(l.sessions, StartSession(c, i%boxes.Count+1, timeouts[i%len(timeouts)], false, hooks))
	}
	for i := range idleCount {
		l.idle = append(l.idle, StartSession(c, i%boxes.Count+1, timeouts[0], false, hooks))
	}
	for box := 1; box <= boxes.Count; box++ {
		l.probes = append(l.probes, StartSession(c, box, probeTimeout, true, hooks))
	}
	working, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	paths := []string{root, root + "/e"}
	for _, a := range ledger.Accounts {
		paths = append(paths, a.Path)
	}
	for _, path := range paths {
		if err := l.make(ctx, path, "0"); err != nil {
			l.Close()
			return nil, err
		}
	}
	l.Shut(ctx)
	for i, s := range l.sessions {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		l.running.Go(func() { l.write(working, s, ledger.Accounts[i], random) })
	}
	for i, s := range l.probes {
		random := rand.New(rand.NewPCG(seed, uint64(1000+i)))
		l.running.Go(func() { l.probe(working, s, i+1, random) })
	}
	return l, nil
}

// make creates a node through any session.
func (l *Load) make(ctx context.Context, path, data string) error {
	for {
		_, err := l.sessions[0].Do(ctx, jute.OpCreate, &jute.CreateRequest{Path: path, Data: []byte(data), ACL: jute.OpenACL()}, nil)
		switch {
		case err == nil || errors.Is(err, jute.NodeExists):
			return nil
		case !errors.Is(err, errLost):
			return fmt.Errorf("create %s: %w", path, err)
		}
	}
}

// Close ends the sessions.
func (l *Load) Close() {
	l.cancel()
	l.running.Wait()
	for _, s := range slices.Concat(l.sessions, l.idle, l.probes) {
		s.Close()
	}
}

// Open spreads the sessions evenly over the boxes, as users' are, and lets them write below a parent.
func (l *Load) Open(ctx context.Context, parent string) error {
	var moving sync.WaitGroup
	for i, s := range slices.Concat(l.sessions, l.idle) {
		moving.Go(func() { s.Move(ctx, i%boxes.Count+1) })
	}
	moving.Wait()
	if err := l.make(ctx, parent, ""); err != nil {
		return err
	}
	l.parent.Store(&parent)
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.shut)
	l.shut = nil
	return nil
}

// Shut lets no session begin another write, and waits until those under way have their outcome.
func (l *Load) Shut(ctx context.Context) bool {
	l.mu.Lock()
	if l.shut == nil {
		l.shut = make(chan struct{})
	}
	l.mu.Unlock()
	for {
		l.mu.Lock()
		active := l.active
		l.mu.Unlock()
		if active == 0 || ctx.Err() != nil {
			return active == 0
		}
		boxes.Pause(ctx, boxes.PollPause)
	}
}

// enter waits until writes are allowed.
func (l *Load) enter(ctx context.Context) bool {
	for {
		l.mu.Lock()
		shut := l.shut
		if shut == nil && ctx.Err() == nil {
			l.active++
		}
		l.mu.Unlock()
		if ctx.Err() != nil {
			return false
		}
		if shut == nil {
			return true
		}
		select {
		case <-shut:
		case <-ctx.Done():
			return false
		}
	}
}

func (l *Load) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
}

// write is one session's life.
func (l *Load) write(ctx context.Context, s *Session, a *Account, random *rand.Rand) {
	owner := int64(0)
	for l.enter(ctx) {
		if id := s.ID(); id != owner && l.live(ctx, s, a) {
			owner = id
		}
		if random.IntN(createOdds) == 0 {
			l.create(ctx, s, a)
		} else {
			l.set(ctx, s, a)
		}
		l.leave()
		boxes.Pause(ctx, paceMin+time.Duration(random.Int64N(int64(paceMax-paceMin))))
	}
}

// ephemeral is the node that tells that the session lives.
func (a *Account) ephemeral() string { return fmt.Sprintf("%s/e/s%02d", root, a.Index) }

// live makes the session's ephemeral.
func (l *Load) live(ctx context.Context, s *Session, a *Account) bool {
	_, err := s.Do(ctx, jute.OpCreate, &jute.CreateRequest{Path: a.ephemeral(), ACL: jute.OpenACL(), Flags: int32(jute.Ephemeral)}, nil)
	return err == nil || errors.Is(err, jute.NodeExists)
}

// set writes the account's next number. Without an answer it looks what became of it.
func (l *Load) set(ctx context.Context, s *Session, a *Account) {
	number, version := a.attempt()
	var stat jute.Stat
	sent := time.Now()
	_, err := s.Do(ctx, jute.OpSetData, &jute.SetDataRequest{Path: a.Path, Data: strconv.AppendInt(nil, int64(number), 10), Version: version}, &stat)
	switch {
	case err == nil:
		if err := a.acked(number, stat.Version, Ack{sent, time.Now(), stat.Mzxid}); err != nil {
			l.ledger.Lost("%v", err)
		}
	case errors.Is(err, errLost) || errors.Is(err, jute.BadVersion): // one that was in doubt came first
		l.settle(ctx, s, a)
	case ctx.Err() == nil:
		l.ledger.Lost("%s: write %d was answered with %v", a.Path, number, err)
	}
}

// settle reads until it has an answer.
func (l *Load) settle(ctx context.Context, s *Session, a *Account) {
	for ctx.Err() == nil {
		p, err := s.SyncRead(ctx, a.Path)
		if errors.Is(err, errLost) {
			continue
		}
		if ctx.Err() == nil {
			l.judge(a, &p, err, "")
		}
		return
	}
}

// judge compares an answer with the account.
func (l *Load) judge(a *Account, p *jute.GetDataResponse, err error, where string) {
	number, malformed := strconv.Atoi(string(p.Data))
	if err == nil {
		err = malformed
	}
	if err == nil {
		err = a.found(number, p.Stat.Version, p.Stat.Mzxid)
	}
	if err != nil {
		l.ledger.Lost("%s%v", where, err)
	}
}

// create makes a sequential child with a name of its own.
func (l *Load) create(ctx context.Context, s *Session, a *Account) {
	number, _ := a.attempt()
	name := fmt.Sprintf("s%02d-%d-", a.Index, number)
	var p jute.Create2Response
	sent := time.Now()
	_, err := s.Do(ctx, jute.OpCreate2, &jute.CreateRequest{
		Path: *l.parent.Load() + "/" + name, ACL: jute.OpenACL(), Flags: int32(jute.PersistentSequential),
	}, &p)
	switch {
	case err == nil:
		a.create(name, p.Path, &Ack{sent, time.Now(), p.Stat.Czxid})
	case errors.Is(err, errLost):
		a.create(name, "", nil)
	case ctx.Err() == nil:
		l.ledger.Lost("create %s was answered with %v", name, err)
	}
}

// probe reads behind a sync, through one box, again and again, without waiting for the answers: what was acknowledged before
// the question must be in the answer, also when the box was stopped or cut off between the two.
func (l *Load) probe(ctx context.Context, s *Session, box int, random *rand.Rand) {
	room := make(chan struct{}, probesMax)
	var asked sync.WaitGroup
	defer asked.Wait()
	for ctx.Err() == nil {
		a := l.ledger.Accounts[random.IntN(len(l.ledger.Accounts))]
		c, err := s.await(ctx)
		if err != nil {
			return
		}
		floor, at := a.floor(), time.Now()
		synced, syncErr := c.send(jute.OpSync, 0, (&jute.PathRequest{Path: a.Path}).Append(nil))
		answer, err := c.send(jute.OpGetData, 0, (&jute.PathWatchRequest{Path: a.Path}).Append(nil))
		if syncErr == nil && err == nil {
			room <- struct{}{}
			asked.Go(func() {
				defer func() { <-room }()
				l.judgeProbe(ctx, synced, answer, a, floor, box, at)
			})
		}
		boxes.Pause(ctx, probePause)
	}
}

// judgeProbe compares an answer with what was acknowledged before it was asked for.
func (l *Load) judgeProbe(ctx context.Context, synced, answer <-chan reply, a *Account, floor, box int, asked time.Time) {
	var p jute.GetDataResponse
	if _, err := take(ctx, synced, nil); err != nil {
		return // the answer of the read is that of one without a sync
	}
	if _, err := take(ctx, answer, &p); err != nil {
		return
	}
	l.probed.Add(1)
	if number, err := strconv.Atoi(string(p.Data)); err != nil || number < floor {
		l.ledger.Lost("box %d answers a read of %s behind a sync with %q after %v; acknowledged before was %d", box, a.Path, p.Data,
			time.Since(asked).Round(time.Millisecond), floor)
	}
}
