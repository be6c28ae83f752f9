package kafkaserver

import (
	"slices"
	"sync"
)

// budget is the memory that requests in hand and answers not yet sent may take, over all connections. Whoever wants to
// read a frame waits in line for room; what has to be allocated anyway (an answer) is taken without waiting and makes
// those in line wait longer. Whoever holds memory and needs more is served before those who hold none, because they may be
// waiting for just what it holds.
type budget struct {
	mu    sync.Mutex // protects the fields below; nothing is called while it is held
	max   int64
	used  int64
	line  []*place
	more  []*place // of those who hold memory already: served first
	waits int64    // how often somebody had to wait, for the metrics
}

// place is a position in the line.
type place struct {
	n    int64
	room chan struct{}
}

// take takes n bytes as soon as there is room, in order of arrival. It reports false if done is closed first, or if n
// is more than there will ever be.
func (b *budget) take(n int64, done <-chan struct{}) bool { return b.queue(&b.line, n, done) }

// takeMore is take for who holds memory already. All who do may wait for each other, so that it must not wait for ever.
func (b *budget) takeMore(n int64, done <-chan struct{}) bool { return b.queue(&b.more, n, done) }

func (b *budget) queue(line *[]*place, n int64, done <-chan struct{}) bool {
	b.mu.Lock()
	if n > b.max {
		b.mu.Unlock()
		return false
	}
	if len(b.more) == 0 && len(*line) == 0 && b.used+n <= b.max { // without allocating
		b.used += n
		b.mu.Unlock()
		return true
	}
	p := &place{n: n, room: make(chan struct{})}
	*line = append(*line, p)
	b.admit() // who holds memory may find room that is too small for the first of those who do not
	b.waits++
	b.mu.Unlock()
	select {
	case <-p.room:
		return true
	case <-done:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(*line, p); i >= 0 {
		*line = slices.Delete(*line, i, i+1)
		b.admit()
		return false
	}
	b.used -= n // room was made at the same moment
	b.admit()
	return false
}

// force takes n bytes that are allocated in any case.
func (b *budget) force(n int64) {
	b.mu.Lock()
	b.used += n
	b.mu.Unlock()
}

// give gives n bytes back.
func (b *budget) give(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	b.used -= n
	b.admit()
	b.mu.Unlock()
}

// admit lets in the first of the lines, as many as there is room for. mu is held.
func (b *budget) admit() {
	for _, line := range [...]*[]*place{&b.more, &b.line} {
		for len(*line) > 0 && b.used+(*line)[0].n <= b.max {
			b.used += (*line)[0].n
			close((*line)[0].room)
			*line = (*line)[1:]
		}
		if len(*line) > 0 {
			return
		}
	}
}

// load is how much is taken and how often somebody waited.
func (b *budget) load() (used, waits int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.waits
}

// bufferPool keeps buffers for encoded answers. Large ones are not kept.
type bufferPool struct{ pool sync.Pool }

const bufferKeepMax = 64 << 10

func (p *bufferPool) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, 512)
	return &b
}

func (p *bufferPool) put(b *[]byte) {
	if b != nil && cap(*b) <= bufferKeepMax {
		p.pool.Put(b)
	}
}
