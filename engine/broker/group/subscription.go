package group

import "encoding/binary"

// subscription adds the topics of a consumer's metadata to topics: version int16, then an array (int32) of strings
// (int16). What later versions add comes behind and is not looked at (ConsumerProtocol.deserializeConsumerProtocolSubscription
// at version 0). It reports false for bytes that are not such metadata; then topics may hold some of it.
func subscription(metadata []byte, topics map[string]struct{}) bool {
	r := reader{b: metadata}
	if r.int16() < 0 {
		return false
	}
	count := r.int32()
	// A topic takes two bytes at least, so a count that lies is found before it costs anything.
	if r.bad || count < 0 || int64(count)*2 > int64(len(r.b)) {
		return false
	}
	for range count {
		topic := r.string()
		if r.bad {
			return false
		}
		topics[topic] = struct{}{}
	}
	return true
}

// reader takes Kafka's primitive types off a byte slice. After the first one that does not fit it is bad and returns
// zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) int64() int64 {
	if b := r.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// uvarint reads an unsigned varint of at most 32 bits.
func (r *reader) uvarint() uint32 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > 1<<32-1 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

func (r *reader) string() string { return string(r.take(int(r.int16()))) }

func (r *reader) nullableString() *string {
	n := r.int16()
	if n == -1 && !r.bad {
		return nil
	}
	v := string(r.take(int(n)))
	return &v
}

// compact reads the length of a compact string or byte array; -1 for null.
func (r *reader) compact() int {
	n := r.uvarint()
	if int64(n)-1 > int64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n) - 1
}

func (r *reader) compactString() string { return string(r.take(r.compact())) }

func (r *reader) compactNullableString() *string {
	n := r.compact()
	if n == -1 && !r.bad {
		return nil
	}
	v := string(r.take(n))
	return &v
}

// tags skips tagged fields: each has two bytes at least, so a count that lies ends the walk early.
func (r *reader) tags() {
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.uvarint()
		size := r.uvarint()
		if int64(size) > int64(len(r.b)) {
			r.bad, r.b = true, nil
			return
		}
		r.take(int(size))
	}
}
