package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Record is one record of __consumer_offsets; a nil Value is a tombstone.
type Record struct{ Key, Value []byte }

// Layout of the records, big-endian, string = int16 length and bytes, bytes = int32 length and bytes (Kafka's
// OffsetCommitKey/Value.json and GroupMetadataKey/Value.json). These versions are what Kafka 4 writes; values of
// version 4, which nobody writes yet, have compact lengths and tagged fields and are read too.
//
//	offset key    int16 1 | group string | topic string | partition int32
//	offset value  int16 3 | offset int64 | leader epoch int32 | metadata string | commit time int64
//	              int16 1 | offset int64 | metadata string | commit time int64 | expire time int64
//	group key     int16 2 | group string
//	group value   int16 3 | protocol type string | generation int32 | protocol nullable string | leader nullable string |
//	              state time int64 | count int32 | members
//	member        id string | instance nullable string | client id string | client host string |
//	              rebalance timeout ms int32 | session timeout ms int32 | subscription bytes | assignment bytes
//
// Keys of version 3 and above belong to newer kinds of groups (KIP-848, KIP-932).
const (
	offsetKeyVersion         = 1
	groupKeyVersion          = 2
	offsetValueVersion       = 3
	offsetValueExpireVersion = 1
	groupValueVersion        = 3
	valueVersionMax          = 4
)

// stringBytesMax is the longest string that a record can hold, nameBytesMax the longest that a client may choose: a
// member id is a name, a dash and a UUID.
const (
	stringBytesMax = 1<<15 - 1
	nameBytesMax   = stringBytesMax - 64
)

// ErrRecord means a record that is not what its version says.
var ErrRecord = errors.New("malformed group record")

func appendString(b []byte, v string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
}

func appendNullable(b []byte, v *string) []byte {
	if v == nil {
		return append(b, 0xff, 0xff)
	}
	return appendString(b, *v)
}

func appendBytes(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

func offsetKey(group, topic string, partition int32) []byte {
	b := make([]byte, 0, 10+len(group)+len(topic))
	b = binary.BigEndian.AppendUint16(b, offsetKeyVersion)
	b = appendString(appendString(b, group), topic)
	return binary.BigEndian.AppendUint32(b, uint32(partition))
}

func offsetValue(o *offset) []byte {
	b := make([]byte, 0, 28+len(o.metadata))
	if o.expire >= 0 {
		b = binary.BigEndian.AppendUint16(b, offsetValueExpireVersion)
		b = binary.BigEndian.AppendUint64(b, uint64(o.offset))
		b = appendString(b, o.metadata)
		b = binary.BigEndian.AppendUint64(b, uint64(o.committed))
		return binary.BigEndian.AppendUint64(b, uint64(o.expire))
	}
	b = binary.BigEndian.AppendUint16(b, offsetValueVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(o.offset))
	b = binary.BigEndian.AppendUint32(b, uint32(o.leaderEpoch))
	b = appendString(b, o.metadata)
	return binary.BigEndian.AppendUint64(b, uint64(o.committed))
}

func groupKey(group string) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 4+len(group)), groupKeyVersion)
	return appendString(b, group)
}

// writeGroup writes the group as it is, members, assignments and all.
func (s *Groups) writeGroup(g *group) {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 64+len(g.members)*128), groupValueVersion)
	b = appendString(b, g.protocolType)
	b = binary.BigEndian.AppendUint32(b, uint32(g.generation))
	b = appendNullable(b, g.protocol)
	var leader *string
	if g.leader != "" {
		leader = &g.leader
	}
	b = appendNullable(b, leader)
	b = binary.BigEndian.AppendUint64(b, uint64(g.since))
	b = binary.BigEndian.AppendUint32(b, uint32(len(g.members)))
	for _, m := range g.members {
		b = appendNullable(appendString(b, m.id), m.instance)
		b = appendString(appendString(b, m.clientID), m.clientHost)
		b = binary.BigEndian.AppendUint32(b, milliseconds(m.rebalance))
		b = binary.BigEndian.AppendUint32(b, milliseconds(m.session))
		b = appendBytes(b, m.metadata(*g.protocol))
		b = appendBytes(b, m.assignment)
	}
	g.persisted = true
	s.write(g, Record{Key: groupKey(g.id), Value: b})
}

func milliseconds(d time.Duration) uint32 { return uint32(min(d/time.Millisecond, 1<<31-1)) }

// key is a decoded record key. kind is 0 for offsets, 1 for groups, -1 for kinds that this version does not know.
type key struct {
	kind         int
	group, topic string
	partition    int32
}

func parseKey(b []byte) (key, error) {
	r := reader{b: b}
	version := r.int16()
	var k key
	switch {
	case r.bad || version < 0:
		return k, fmt.Errorf("%w: key of %d bytes", ErrRecord, len(b))
	case version <= offsetKeyVersion:
		k.group, k.topic, k.partition = r.string(), r.string(), r.int32()
	case version == groupKeyVersion:
		k.kind, k.group = 1, r.string()
	default:
		return key{kind: -1}, nil
	}
	if r.bad || k.partition < 0 {
		return k, fmt.Errorf("%w: key version %d of %d bytes", ErrRecord, version, len(b))
	}
	return k, nil
}

func parseOffset(b []byte) (*offset, error) {
	r := reader{b: b}
	version := r.int16()
	if r.bad || version < 0 || version > valueVersionMax {
		return nil, fmt.Errorf("%w: offset version %d of %d bytes", ErrRecord, version, len(b))
	}
	o := &offset{leaderEpoch: -1, expire: -1}
	o.offset = r.int64()
	if version >= 3 {
		o.leaderEpoch = r.int32()
	}
	if version >= 4 {
		o.metadata = r.compactString()
	} else {
		o.metadata = r.string()
	}
	o.committed = r.int64()
	if version == offsetValueExpireVersion {
		o.expire = r.int64()
	}
	if version >= 4 {
		r.tags()
	}
	if r.bad {
		return nil, fmt.Errorf("%w: offset version %d of %d bytes", ErrRecord, version, len(b))
	}
	return o, nil
}

// stored is a decoded group value.
type stored struct {
	protocolType     string
	generation       int32
	protocol, leader *string
	since            int64
	members          []*member
}

// memberBytesMin is the least that a member takes in a record.
const memberBytesMin = 16

func parseGroup(b []byte) (*stored, error) {
	r := reader{b: b}
	version := r.int16()
	if r.bad || version < 0 || version > valueVersionMax {
		return nil, fmt.Errorf("%w: group version %d of %d bytes", ErrRecord, version, len(b))
	}
	text, nullable, count := r.string, r.nullableString, func() int { return int(r.int32()) }
	if version >= 4 {
		text, nullable, count = r.compactString, r.compactNullableString, r.compact
	}
	g := &stored{since: -1}
	g.protocolType, g.generation, g.protocol, g.leader = text(), r.int32(), nullable(), nullable()
	if version >= 2 {
		g.since = r.int64()
	}
	n := count()
	if r.bad || n < 0 || int64(n)*memberBytesMin > int64(len(r.b)) {
		return nil, fmt.Errorf("%w: group version %d of %d bytes with %d members", ErrRecord, version, len(b), n)
	}
	for range n {
		m := &member{}
		m.id = text()
		if version >= 3 {
			m.instance = nullable()
		}
		m.clientID, m.clientHost = text(), text()
		rebalance := int32(-1)
		if version >= 1 {
			rebalance = r.int32()
		}
		session := r.int32()
		if rebalance == -1 {
			rebalance = session
		}
		m.session = time.Duration(max(session, 0)) * time.Millisecond
		m.rebalance = time.Duration(max(rebalance, 0)) * time.Millisecond
		m.protocols = []Protocol{{Metadata: append([]byte{}, r.take(count())...)}}
		m.assignment = append([]byte(nil), r.take(count())...)
		if version >= 4 {
			r.tags()
		}
		if r.bad {
			return nil, fmt.Errorf("%w: group version %d of %d bytes", ErrRecord, version, len(b))
		}
		g.members = append(g.members, m)
	}
	if version >= 4 {
		r.tags()
	}
	if r.bad {
		return nil, fmt.Errorf("%w: group version %d of %d bytes", ErrRecord, version, len(b))
	}
	return g, nil
}
