package znode

import "unsafe"

// viewBytes shows an immutable string as bytes, without a copy. Nobody may write to them; they are given out as data
// that must not be changed. An empty string gives an empty slice, not nil: nil is null data.
func viewBytes(s string) []byte {
	if len(s) == 0 {
		return []byte{}
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}

// viewString shows bytes as a string, without a copy, to what does not keep it.
func viewString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
