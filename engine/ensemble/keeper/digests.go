package keeper

// DigestEvery is the number of zxids between two comparisons of the tree's digest among the boxes. Every box notes the
// same ones, so that the leader only has to tell {zxid, digest}.
const DigestEvery = 1024

// digestsKept is how many a box remembers: one that lags behind by more is told nothing.
const digestsKept = 64

// DigestDue tells whether the digest is to be noted after this zxid was applied.
func DigestDue(zxid int64) bool { return zxid%DigestEvery == 0 }

// Verdict is what a comparison found.
type Verdict int

// The verdicts.
const (
	DigestUnknown Verdict = iota // this box has not noted it, or no longer has it
	DigestSame
	DigestDiffers // this box stops and rejoins by snapshot
)

// Digests are the last digests of a box. The zero value is empty.
type Digests struct {
	notes [digestsKept]struct {
		zxid   int64
		digest uint64
		set    bool
	}
}

// Note remembers the digest after a zxid for which DigestDue is true.
func (d *Digests) Note(zxid int64, digest uint64) {
	n := &d.notes[(zxid/DigestEvery)%digestsKept]
	n.zxid, n.digest, n.set = zxid, digest, true
}

// Compare compares another box's digest with the one that was noted.
func (d *Digests) Compare(zxid int64, digest uint64) Verdict {
	if zxid < 0 {
		return DigestUnknown
	}
	n := &d.notes[(zxid/DigestEvery)%digestsKept]
	switch {
	case !n.set || n.zxid != zxid:
		return DigestUnknown
	case n.digest == digest:
		return DigestSame
	}
	return DigestDiffers
}
