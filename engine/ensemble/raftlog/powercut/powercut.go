// Package powercut makes of a raft log's directory what a power cut may leave of it, for tests. The log's library writes
// real files, so that a cut cannot be simulated below it: instead a copy of the directory is made and the bytes of the
// last segment behind the flushed length, which raftlog reports, are taken away, zeroed or garbled. What was flushed is
// never touched. It holds no state and is imported by tests alone.
package powercut

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Kind is what happens to the bytes that were not flushed.
type Kind int

// The kinds of damage. At is a position between the flushed length and the file's end.
const (
	// Truncate ends the file at At.
	Truncate Kind = iota
	// Zero makes everything from At on zero: a length that was journaled, and data that was not.
	Zero
	// ZeroBeyond keeps the file's bytes to At and appends zeros up to twice its length.
	ZeroBeyond
	// Garble makes everything from At on random.
	Garble
	// Hole zeroes up to 64 bytes at At and keeps what follows: a later page was kept and an earlier one was lost.
	Hole
	// Flip changes one bit of the byte at At.
	Flip
	Kinds
)

var names = [...]string{"truncate", "zero", "zero-beyond", "garble", "hole", "flip"}

// String is the kind's name.
func (k Kind) String() string { return names[k] }

// Damage is one way in which the power went.
type Damage struct {
	Kind Kind
	At   int64
	Seed uint64
}

// String tells a damage apart in a failing test.
func (d Damage) String() string { return fmt.Sprintf("%v at byte %d (seed %d)", d.Kind, d.At, d.Seed) }

// Tail is the last segment of a log directory: its name and how much of it was flushed.
type Tail struct {
	File    string
	Flushed int64
}

// Copy copies the ensemble directory from to the new directory to, applies the damage to the last segment of the copy,
// and leaves out what no flush vouched for: segments behind the flushed one.
func Copy(from, to string, tail Tail, d Damage) error {
	err := filepath.WalkDir(from, func(name string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o750)
		}
		base := filepath.Base(name)
		inLog := strings.HasSuffix(filepath.Dir(rel), "wal")
		if inLog && base > tail.File && len(base) == len(tail.File) {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if inLog && base == tail.File {
			b = Apply(b, tail.Flushed, d)
		}
		return os.WriteFile(target, b, 0o640)
	})
	if err != nil {
		return fmt.Errorf("copy %s with %v: %w", from, d, err)
	}
	return nil
}

// Apply damages a file's bytes from d.At on, which is moved into what was not flushed.
func Apply(b []byte, flushed int64, d Damage) []byte {
	at := min(max(d.At, flushed), int64(len(b)))
	random := rand.New(rand.NewPCG(d.Seed, uint64(at)))
	out := append([]byte(nil), b...)
	tail := out[at:]
	switch d.Kind {
	case Truncate:
		return out[:at]
	case Zero:
		clear(tail)
	case ZeroBeyond:
		return append(out[:at], make([]byte, len(b)+512)...)
	case Garble:
		for i := range tail {
			tail[i] = byte(random.Uint32())
		}
	case Hole:
		clear(tail[:min(len(tail), 1+random.IntN(64))])
	case Flip:
		if len(tail) > 0 {
			tail[0] ^= 1 << random.IntN(8)
		}
	}
	return out
}
