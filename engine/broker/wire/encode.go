package wire

import "encoding/binary"

// encoder appends fields in the form that a version asks for: compact lengths and tags from flexibleFrom on.
type encoder struct {
	buf          []byte
	version      int16
	flexibleFrom int16
}

// nodes writes the one tag that both kinds of response end with.
func (e *encoder) nodes(key byte, nodes []FetchNode) {
	body := encoder{version: e.version, flexibleFrom: e.flexibleFrom}
	body.count(len(nodes))
	for _, n := range nodes {
		body.int32(n.ID)
		body.string(n.Host)
		body.int32(n.Port)
		body.nullable(n.Rack)
		body.noTags()
	}
	e.buf = append(e.buf, 1, key)
	e.uvarint(uint32(len(body.buf)))
	e.buf = append(e.buf, body.buf...)
}

func (e *encoder) flexible() bool { return e.version >= e.flexibleFrom }

func (e *encoder) int16(v int16)    { e.buf = binary.BigEndian.AppendUint16(e.buf, uint16(v)) }
func (e *encoder) int32(v int32)    { e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(v)) }
func (e *encoder) int64(v int64)    { e.buf = binary.BigEndian.AppendUint64(e.buf, uint64(v)) }
func (e *encoder) uvarint(v uint32) { e.buf = binary.AppendUvarint(e.buf, uint64(v)) }

func (e *encoder) noTags() {
	if e.flexible() {
		e.buf = append(e.buf, 0)
	}
}

func (e *encoder) count(n int) {
	if e.flexible() {
		e.uvarint(uint32(n) + 1)
		return
	}
	e.int32(int32(n))
}

func (e *encoder) bytesLength(n int64) {
	if e.flexible() {
		e.uvarint(uint32(n) + 1)
		return
	}
	e.int32(int32(n))
}

func (e *encoder) string(s string) {
	if e.flexible() {
		e.uvarint(uint32(len(s)) + 1)
	} else {
		e.int16(int16(len(s)))
	}
	e.buf = append(e.buf, s...)
}

func (e *encoder) nullable(s *string) {
	switch {
	case s != nil:
		e.string(*s)
	case e.flexible():
		e.buf = append(e.buf, 0)
	default:
		e.int16(-1)
	}
}
