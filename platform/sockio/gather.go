package sockio

import (
	"sync"
)

// gatherMax is how many slices go into one writev; the kernel takes 1024 (IOV_MAX), and a response seldom has more than
// a header and a few parts.
const gatherMax = 64

// gather is what is staged for the next write: slices that are borrowed from the caller, and slices of its own buffer.
// It is taken from a pool for the time of one Send, so that idle connections hold nothing.
type gather struct {
	slices [gatherMax][]byte
	n      int
	used   int      // of buf
	small  *[]byte  // SendfileMin long
	large  *[]byte  // copyPiece long
	iov    iovector // what the kernel is given
}

// Two sizes, so that a small answer to a slow reader does not hold a large buffer meanwhile.
var (
	gathers = sync.Pool{New: func() any { return new(gather) }}
	smalls  = sync.Pool{New: func() any { b := make([]byte, SendfileMin); return &b }}
	larges  = sync.Pool{New: func() any { b := make([]byte, copyPiece); return &b }}
)

func takeGather() *gather { return gathers.Get().(*gather) }

// free gives buffers back and forgets the caller's slices.
func (g *gather) free() {
	g.reset()
	if g.small != nil {
		smalls.Put(g.small)
		g.small = nil
	}
	if g.large != nil {
		larges.Put(g.large)
		g.large = nil
	}
	gathers.Put(g)
}

func (g *gather) reset() {
	clear(g.slices[:g.n])
	g.n, g.used = 0, 0
	g.iov.reset()
}

func (g *gather) full() bool { return g.n == gatherMax }

func (g *gather) parts() [][]byte { return g.slices[:g.n] }

// add stages a borrowed slice.
func (g *gather) add(b []byte) {
	g.slices[g.n] = b
	g.n++
}

// space is the free part of the buffer that the next take is for, at most want long.
func (g *gather) space(want int) []byte {
	switch {
	case g.large != nil:
		return cutTo((*g.large)[g.used:], want)
	case g.small == nil && want <= SendfileMin:
		g.small = smalls.Get().(*[]byte)
		return cutTo(*g.small, want)
	case g.small != nil && g.used+want <= len(*g.small):
		return (*g.small)[g.used:][:want]
	}
	// From here on the buffer is the large one; slices of the small one that are staged stay valid until free.
	g.large = larges.Get().(*[]byte)
	g.used = 0
	return cutTo(*g.large, want)
}

func cutTo(b []byte, n int) []byte { return b[:min(n, len(b))] }

// take stages the first n bytes of the last space, joined with the slice before if they touch.
func (g *gather) take(n int) {
	buf := g.small
	if g.large != nil {
		buf = g.large
	}
	b := (*buf)[g.used : g.used+n]
	g.used += n
	if g.n > 0 {
		last := g.slices[g.n-1]
		if start := g.used - n - len(last); start >= 0 && len(last) > 0 && &last[0] == &(*buf)[start] {
			g.slices[g.n-1] = (*buf)[start:g.used]
			return
		}
	}
	g.add(b)
}
