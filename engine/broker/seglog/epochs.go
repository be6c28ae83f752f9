package seglog

import "sort"

// EpochEntry says at which offset a leader epoch begins.
type EpochEntry struct {
	Epoch       int32
	StartOffset int64
}

// epochs is the leader-epoch cache (KIP-101, LeaderEpochFileCache): ascending in both fields. It is immutable: every
// change makes a new slice, because views share it.
type epochs []EpochEntry

func (e epochs) latest() int32 {
	if len(e) == 0 {
		return -1
	}
	return e[len(e)-1].Epoch
}

// assign notes that epoch begins at offset. Epochs that are not above the latest change nothing; entries at or beyond the
// offset gave way to the new epoch.
func (e epochs) assign(epoch int32, offset int64) epochs {
	if epoch < 0 || epoch <= e.latest() {
		return e
	}
	n := len(e)
	for n > 0 && e[n-1].StartOffset >= offset {
		n--
	}
	out := make(epochs, n, n+1)
	copy(out, e)
	return append(out, EpochEntry{epoch, offset})
}

// cutEnd forgets epochs that begin at or beyond offset.
func (e epochs) cutEnd(offset int64) epochs {
	n := len(e)
	for n > 0 && e[n-1].StartOffset >= offset {
		n--
	}
	return e[:n:n]
}

// cutStart forgets epochs that end before offset; the one that holds it begins there.
func (e epochs) cutStart(offset int64) epochs {
	i := sort.Search(len(e), func(i int) bool { return e[i].StartOffset > offset }) - 1
	if i < 0 || e[i].StartOffset == offset && i == 0 {
		return e
	}
	out := append(epochs{}, e[i:]...)
	out[0].StartOffset = offset
	return out
}

// before puts what was found in batches before the known epochs in front of them. The first of them may begin there.
func (e epochs) before(known epochs) epochs {
	n := sort.Search(len(e), func(i int) bool { return e[i].Epoch > known[0].Epoch })
	out := append(epochs{}, e[:n]...)
	if n > 0 && e[n-1].Epoch == known[0].Epoch {
		known = known[1:]
	}
	return append(out, known...)
}

// end answers OffsetForLeaderEpoch: the greatest epoch at or below the asked one and the offset at which it ends
// (LeaderEpochFileCache.endOffsetFor, KIP-279).
func (e epochs) end(epoch int32, logStart, logEnd int64) (int32, int64) {
	if epoch < 0 || len(e) == 0 {
		return -1, -1
	}
	if epoch == e.latest() {
		return epoch, logEnd
	}
	i := sort.Search(len(e), func(i int) bool { return e[i].Epoch > epoch })
	switch {
	case i == len(e): // above every epoch that is known
		return -1, -1
	case i == 0: // below: its end is where the first known one begins
		return epoch, e[0].StartOffset
	default:
		return e[i-1].Epoch, e[i].StartOffset
	}
}

// at is the epoch of an offset, or -1.
func (e epochs) at(offset int64) int32 {
	i := sort.Search(len(e), func(i int) bool { return e[i].StartOffset > offset }) - 1
	if i < 0 {
		return -1
	}
	return e[i].Epoch
}
