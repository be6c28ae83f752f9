package znode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"cairn/engine/ensemble/jute"
)

// The encoding of an entry:
//
//	version  1 byte, entryVersion
//	kind     1 byte
//	flags, rules                      uvarint
//	timeMs, session                   varint
//	box                               uvarint
//	auth     count uvarint, then of each: scheme, id
//	ops      count uvarint, then of each: type varint, version varint, flags varint, path, data, acl, ttl varint
//	timeoutMs varint, incarnation uvarint, neverUsedMs varint, zxid varint, data
//
// A string is its length as uvarint and its bytes. Data and a list of ACLs are 0 for null, or their length plus one and
// their bytes or elements (perms varint, scheme, id). Nothing follows. A new field needs a new version, which is only
// written once the rules version says that every member reads it.

const entryVersion = 1

// ErrEntry is wrapped by every error of Unmarshal.
var ErrEntry = errors.New("malformed entry")

// Marshal appends the encoding of the entry.
func (e *Entry) Marshal(dst []byte) []byte {
	dst = append(dst, entryVersion, byte(e.Kind))
	dst = binary.AppendUvarint(dst, uint64(e.Flags))
	dst = binary.AppendUvarint(dst, uint64(e.Rules))
	dst = binary.AppendVarint(dst, e.TimeMs)
	dst = binary.AppendVarint(dst, e.Session)
	dst = binary.AppendUvarint(dst, e.Box)
	dst = binary.AppendUvarint(dst, uint64(len(e.Auth)))
	for i := range e.Auth {
		dst = appendText(appendText(dst, e.Auth[i].Scheme), e.Auth[i].ID)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Ops)))
	for i := range e.Ops {
		op := &e.Ops[i]
		dst = binary.AppendVarint(dst, int64(op.Type))
		dst = binary.AppendVarint(dst, int64(op.Version))
		dst = binary.AppendVarint(dst, int64(op.Flags))
		dst = appendText(dst, op.Path)
		dst = appendData(dst, op.Data)
		dst = appendACLs(dst, op.ACL)
		dst = binary.AppendVarint(dst, op.TTL)
	}
	dst = binary.AppendVarint(dst, int64(e.TimeoutMs))
	dst = binary.AppendUvarint(dst, e.Incarnation)
	dst = binary.AppendVarint(dst, e.NeverUsedMs)
	dst = binary.AppendVarint(dst, e.Zxid)
	return appendData(dst, e.Data)
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendData(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 0)
	}
	return append(binary.AppendUvarint(dst, uint64(len(b))+1), b...)
}

func appendACLs(dst []byte, acls []jute.ACL) []byte {
	if acls == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(acls))+1)
	for i := range acls {
		dst = binary.AppendVarint(dst, int64(acls[i].Perms))
		dst = appendText(appendText(dst, acls[i].ID.Scheme), acls[i].ID.ID)
	}
	return dst
}

// Least encoded lengths of the elements of lists, by which counts are checked before they are allocated from.
const (
	authMin = 2
	opMin   = 7
	aclMin  = 3
)

// Unmarshal decodes an entry. Data is borrowed from b, which must not change while the entry is used; Apply keeps
// nothing of it. What is malformed leaves the entry unspecified.
func (e *Entry) Unmarshal(b []byte) error {
	d := decoder{b: b}
	*e = Entry{}
	if v := d.byte(); d.err == nil && v != entryVersion {
		return fmt.Errorf("%w: version %d, this build reads %d", ErrEntry, v, entryVersion)
	}
	e.Kind = Kind(d.byte())
	e.Flags = Flags(d.uint32())
	e.Rules = d.uint32()
	e.TimeMs = d.varint()
	e.Session = d.varint()
	e.Box = d.uvarint()
	if n := d.count(authMin); n > 0 {
		e.Auth = make([]jute.ID, n)
		for i := range e.Auth {
			e.Auth[i] = jute.ID{Scheme: d.text(), ID: d.text()}
		}
	}
	if n := d.count(opMin); n > jute.MultiOpsMax {
		d.fail("%d ops", n)
	} else if n > 0 {
		e.Ops = make([]jute.Op, n)
		for i := range e.Ops {
			d.op(&e.Ops[i])
		}
	}
	e.TimeoutMs = d.int32()
	e.Incarnation = d.uvarint()
	e.NeverUsedMs = d.varint()
	e.Zxid = d.varint()
	e.Data = d.data()
	switch {
	case d.err != nil:
		return d.err
	case len(d.b) > d.off:
		d.fail("%d bytes behind the end", len(d.b)-d.off)
	case e.Kind == 0 || e.Kind >= kindEnd:
		d.fail("kind %d", e.Kind)
	case e.Flags >= flagEnd:
		d.fail("flags %#x", uint32(e.Flags))
	}
	return d.err
}

// decoder reads varints and what is made of them; its error is sticky.
type decoder struct {
	b   []byte
	off int
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s at byte %d of %d", ErrEntry, fmt.Sprintf(format, args...), d.off, len(d.b))
	}
}

func (d *decoder) byte() byte {
	if d.err != nil {
		return 0
	}
	if d.off == len(d.b) {
		d.fail("cut short")
		return 0
	}
	d.off++
	return d.b[d.off-1]
}

func (d *decoder) uvarint() uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b[d.off:])
	if n <= 0 {
		d.fail("bad number")
		return 0
	}
	d.off += n
	return v
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > math.MaxUint32 {
		d.fail("number %d beyond 32 bits", v)
	}
	return uint32(v)
}

func (d *decoder) int32() int32 {
	v := d.varint()
	if v != int64(int32(v)) {
		d.fail("number %d beyond 32 bits", v)
	}
	return int32(v)
}

// count reads the count of a list whose elements take at least least bytes each.
func (d *decoder) count(least int) int { return d.checkCount(d.uvarint(), least) }

func (d *decoder) checkCount(n uint64, least int) int {
	if d.err != nil {
		return 0
	}
	if n > uint64(len(d.b)-d.off)/uint64(least) {
		d.fail("list of %d elements, %d bytes remain", n, len(d.b)-d.off)
		return 0
	}
	return int(n)
}

func (d *decoder) take(n uint64) []byte {
	if d.err != nil {
		return nil
	}
	if n > uint64(len(d.b)-d.off) {
		d.fail("%d bytes, %d remain", n, len(d.b)-d.off)
		return nil
	}
	b := d.b[d.off : d.off+int(n) : d.off+int(n)]
	d.off += int(n)
	return b
}

// uint64 reads eight bytes, the least first.
func (d *decoder) uint64() uint64 {
	b := d.take(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func (d *decoder) text() string { return string(d.take(d.uvarint())) }

func (d *decoder) data() []byte {
	n := d.uvarint()
	if n == 0 {
		return nil
	}
	return d.take(n - 1)
}

func (d *decoder) acls() []jute.ACL {
	n := d.uvarint()
	if n == 0 {
		return nil
	}
	acls := make([]jute.ACL, d.checkCount(n-1, aclMin))
	for i := range acls {
		acls[i] = jute.ACL{Perms: d.int32(), ID: jute.ID{Scheme: d.text(), ID: d.text()}}
	}
	return acls
}

func (d *decoder) op(op *jute.Op) {
	op.Type = jute.OpCode(d.int32())
	op.Version = d.int32()
	op.Flags = d.int32()
	op.Path = d.text()
	op.Data = d.data()
	op.ACL = d.acls()
	op.TTL = d.varint()
}
