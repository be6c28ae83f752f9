package batch

import "errors"

// Scanner walks the batches of a byte slice. The slice may end in the middle of a batch, as fetched data does; that tail
// is left alone and reported by Tail. Use:
//
//	s := batch.Scan(b)
//	for s.Next() {
//		use(s.Header(), s.Bytes())
//	}
//	if err := s.Err(); err != nil { … }
type Scanner struct {
	b        []byte
	position int
	header   Header
	err      error
	size     int
}

// Scan starts a walk at the beginning of b, which is borrowed while the scanner is in use.
func Scan(b []byte) Scanner { return Scanner{b: b} }

// Next moves to the next whole batch. It returns false at the end, at a truncated tail, and at a damaged header.
func (s *Scanner) Next() bool {
	if s.err != nil {
		return false
	}
	s.position += s.size
	s.size = 0
	rest := s.b[s.position:]
	if len(rest) == 0 {
		return false
	}
	h, err := Parse(rest)
	if err != nil {
		if !errors.Is(err, ErrTruncated) {
			s.err = err
		}
		return false
	}
	if h.Size() > len(rest) {
		return false
	}
	s.header, s.size = h, h.Size()
	return true
}

// Header is the header of the present batch, valid until the next call of Next.
func (s *Scanner) Header() *Header { return &s.header }

// Bytes are the present batch: a part of the scanned slice, with no capacity beyond it.
func (s *Scanner) Bytes() []byte { return s.b[s.position : s.position+s.size : s.position+s.size] }

// Position is the index in the scanned slice at which the present batch begins.
func (s *Scanner) Position() int { return s.position }

// Tail is, after Next returned false, the number of bytes that are not part of a whole batch.
func (s *Scanner) Tail() int { return len(s.b) - s.position }

// Err is the damage at which the walk ended: ErrMagic, ErrCorrupt or ErrCodec. A truncated tail is none.
func (s *Scanner) Err() error { return s.err }
