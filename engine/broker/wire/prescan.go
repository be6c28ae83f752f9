package wire

import (
	"encoding/binary"
	"fmt"
)

const (
	// DecodedFactor and DecodedSlack bound what a request may decode into: at most factor times the size of its body,
	// plus slack, in bytes. The slack lets through honest small requests of many tiny elements.
	DecodedFactor = 4
	DecodedSlack  = 256 << 10
	// unknownTagsMax bounds the tags in one request that this server does not know. They must be skipped, not refused
	// (KIP-482), but kmsg keeps them in maps of hundreds of bytes, and no client sends more than one or two.
	unknownTagsMax = 32
)

// Prescan checks a request body against its API's layout without allocating anything: every length and count lies
// within the body, counts are no more than the rest of the body can hold, tags ascend. It returns how many bytes
// decoding will allocate, or ErrBody. borrowed says that strings are decoded without being copied.
//
// What it accepts, kmsg's ReadFrom decodes without error. Bytes behind the body are allowed, as Kafka allows them.
func Prescan(s *Schema, version int16, body []byte, borrowed bool) (decoded int64, err error) {
	sc := scanner{b: body, version: version, flexible: s.Flexible(version), copies: !borrowed}
	sc.limit = DecodedFactor*int64(len(body)) + DecodedSlack
	sc.record(&s.body)
	if sc.bad != "" {
		return 0, fmt.Errorf("%w: key %d version %d, %d bytes: %s, %d bytes before its end",
			ErrBody, s.Key, version, len(body), sc.bad, len(sc.b))
	}
	return sc.decoded, nil
}

// scanner walks a body. After the first fault bad says what it is and everything returns at once.
type scanner struct {
	b        []byte
	version  int16
	flexible bool
	copies   bool
	decoded  int64
	limit    int64
	unknown  int
	bad      string
}

func (s *scanner) fail(what string) {
	if s.bad == "" {
		s.bad = what
	}
}

func (s *scanner) skip(n int) {
	if n < 0 || n > len(s.b) {
		s.fail("length beyond the end")
		return
	}
	s.b = s.b[n:]
}

// spend counts n elements of size bytes each. n is at most the length of the body, so nothing overflows.
func (s *scanner) spend(n, size int) {
	s.decoded += int64(n) * int64(size)
	if s.decoded > s.limit {
		s.fail("would decode into more memory than its size allows")
	}
}

// uvarint reads at most 32 bits in at most five bytes, as kmsg does.
func (s *scanner) uvarint() uint32 {
	var v uint64
	for i := 0; i < 5; i++ {
		if i >= len(s.b) {
			s.fail("varint cut off")
			return 0
		}
		c := s.b[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if v > 1<<32-1 {
				s.fail("varint too large")
				return 0
			}
			s.b = s.b[i+1:]
			return uint32(v)
		}
	}
	s.fail("varint too long")
	return 0
}

// length reads a length or count: -1 for null.
func (s *scanner) length(wide bool) int {
	if s.flexible {
		return int(int64(s.uvarint()) - 1)
	}
	if wide {
		if len(s.b) < 4 {
			s.fail("length cut off")
			return 0
		}
		n := int32(binary.BigEndian.Uint32(s.b))
		s.b = s.b[4:]
		return int(n)
	}
	if len(s.b) < 2 {
		s.fail("length cut off")
		return 0
	}
	n := int16(binary.BigEndian.Uint16(s.b))
	s.b = s.b[2:]
	return int(n)
}

func (s *scanner) record(r *record) {
	for i := range r.fields {
		if s.bad != "" {
			return
		}
		f := &r.fields[i]
		if int16(f.min) <= s.version && s.version <= int16(f.max) {
			s.field(f)
		}
	}
	if s.flexible && s.bad == "" {
		s.tags(r.tags)
	}
}

func (s *scanner) field(f *field) {
	switch f.kind {
	case kindFixed:
		s.skip(int(f.size))
	case kindString, kindBytes:
		n := s.length(f.kind == kindBytes)
		if n < 0 {
			if n != -1 || s.version < int16(f.nullableFrom) {
				s.fail("null or negative length")
			}
			return
		}
		s.skip(n)
		s.spend(1, int(f.size))
		if f.kind == kindString && s.copies {
			s.spend(n, 1)
		}
	case kindArray:
		s.array(f)
	case kindRecord:
		s.record(f.record)
	case kindNullableRecord:
		if len(s.b) == 0 {
			s.fail("cut off")
			return
		}
		present := int8(s.b[0])
		s.b = s.b[1:]
		if present != -1 {
			s.spend(1, int(f.size))
			s.record(f.record)
		}
	}
}

func (s *scanner) array(f *field) {
	n := s.length(true)
	if n <= 0 {
		if n < -1 {
			s.fail("negative count")
		}
		return
	}
	e := f.element
	if e.kind == kindFixed {
		if n > len(s.b)/int(e.size) {
			s.fail("count beyond the end")
			return
		}
		s.spend(n, int(f.size))
		s.b = s.b[n*int(e.size):]
		return
	}
	// Every other element takes at least a byte, so that the loop runs at most as often as the body has bytes. kmsg
	// allocates the elements before it reads the first, which is why they are paid for here.
	if n > len(s.b) {
		s.fail("count beyond the end")
		return
	}
	s.spend(n, int(f.size))
	for range n {
		if s.bad != "" {
			return
		}
		s.field(e)
	}
}

// tags walks the tags behind a record. Known ones must hold what they should.
func (s *scanner) tags(known []tag) {
	count := s.uvarint()
	if int64(count)*2 > int64(len(s.b)) {
		s.fail("tag count beyond the end")
		return
	}
	previous := int64(-1)
	for range count {
		key, size := s.uvarint(), s.uvarint()
		if s.bad != "" {
			return
		}
		if int64(key) <= previous {
			s.fail("tags out of order")
			return
		}
		previous = int64(key)
		if int64(size) > int64(len(s.b)) {
			s.fail("tag beyond the end")
			return
		}
		inside, rest := s.b[:size], s.b[size:]
		s.b = inside
		s.tag(known, key)
		if s.bad != "" {
			return
		}
		s.b = rest
	}
}

func (s *scanner) tag(known []tag, key uint32) {
	for i := range known {
		if known[i].key == key {
			s.field(&known[i].field)
			return
		}
	}
	s.unknown++
	if s.unknown > unknownTagsMax {
		s.fail("too many unknown tags")
	}
}

// skipTags skips the tags of a request header.
func (s *scanner) skipTags() { s.tags(nil) }
