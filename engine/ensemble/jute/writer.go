package jute

import (
	"encoding/binary"
	"math"
)

// AppendInt32 appends an int.
func AppendInt32(dst []byte, v int32) []byte { return binary.BigEndian.AppendUint32(dst, uint32(v)) }

// AppendInt64 appends a long.
func AppendInt64(dst []byte, v int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(v)) }

// AppendBool appends a boolean.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendBuffer appends a buffer; nil is the null buffer, an empty slice the empty one.
func AppendBuffer(dst, v []byte) []byte {
	if v == nil {
		return AppendInt32(dst, -1)
	}
	return append(AppendInt32(dst, length(len(v))), v...)
}

// AppendString appends a ustring.
func AppendString(dst []byte, v string) []byte {
	return append(AppendInt32(dst, length(len(v))), v...)
}

// AppendStrings appends a vector of ustring; nil is the null vector.
func AppendStrings(dst []byte, v []string) []byte {
	if v == nil {
		return AppendInt32(dst, -1)
	}
	dst = AppendInt32(dst, length(len(v)))
	for _, s := range v {
		dst = AppendString(dst, s)
	}
	return dst
}

// AppendFrame appends the four bytes of a packet's length, to be filled in by EndFrame. It returns where they stand.
func AppendFrame(dst []byte) (out []byte, start int) {
	return append(dst, 0, 0, 0, 0), len(dst)
}

// EndFrame fills in the length of the packet that AppendFrame began at start.
func EndFrame(dst []byte, start int) {
	binary.BigEndian.PutUint32(dst[start:], uint32(length(len(dst)-start-4)))
}

// length is n as the wire carries it. Nothing that is encoded here can be near 2 GiB: frames and nodes are bounded far
// below; a caller that breaks that has a bug which must not become a negative length on the wire.
func length(n int) int32 {
	if n > math.MaxInt32 {
		panic("jute: more than 2 GiB in one record")
	}
	return int32(n)
}
