package wire

import (
	"encoding/binary"

	"cairn/platform/sockio"
)

// FetchPartition is one partition of a Fetch response.
type FetchPartition struct {
	Partition     int32
	ErrorCode     int16
	HighWatermark int64
	LastStable    int64 // v4+
	LogStart      int64 // v5+
	// Aborted are the aborted transactions in the records, v4+; nil is null, for read_uncommitted.
	Aborted []FetchAborted
	// PreferredReplica is the replica that the consumer should read from, -1 for none, v11+ (KIP-392).
	PreferredReplica int32
	// Records are bytes, or a range of a file. The zero Part is an empty set of records.
	Records sockio.Part

	// Tags of v12+; they stand behind the records.
	Diverging     *FetchEpochEnd // where the fetcher's log parted from this one (KIP-595)
	CurrentLeader *FetchLeader   // who leads instead (KIP-951)
	SnapshotID    *FetchEpochEnd // the snapshot to fetch instead; Kafka's metadata topic alone uses it
}

// FetchAborted is an aborted transaction of a Fetch response.
type FetchAborted struct{ ProducerID, FirstOffset int64 }

// FetchEpochEnd is a leader epoch and an offset.
type FetchEpochEnd struct {
	Epoch     int32
	EndOffset int64
}

// FetchLeader is a leader and its epoch.
type FetchLeader struct{ ID, Epoch int32 }

// FetchNode says where a leader is, v16+ (KIP-951).
type FetchNode struct {
	ID   int32
	Host string
	Port int32
	Rack *string
}

// FetchEncoder writes Fetch responses of versions 4 to 18 as a list of parts: what is computed as bytes, records as
// they are. kmsg's encoder would copy the records. The order of calls is Begin, for each topic Topic, as many
// Partition as were promised and EndTopic, at last End. The encoder may be used again once the parts have been sent.
type FetchEncoder struct {
	encoder
	cuts    []fetchCut
	parts   []sockio.Part
	records int64
}

// fetchCut is where records stand between the encoded bytes.
type fetchCut struct {
	at      int
	records sockio.Part
}

// Begin starts a response that will have topics topics.
func (e *FetchEncoder) Begin(version int16, correlation int32, errorCode int16, session int32, topics int) {
	clear(e.cuts)
	clear(e.parts)
	e.version, e.flexibleFrom, e.cuts, e.parts, e.records = version, 12, e.cuts[:0], e.parts[:0], 0
	e.buf = appendResponseHeader(e.buf[:0], correlation, e.flexible())
	e.int32(0) // throttle time
	if version >= 7 {
		e.int16(errorCode)
		e.int32(session)
	}
	e.count(topics)
}

// Topic starts a topic of partitions partitions. The name is written up to version 12, the id after.
func (e *FetchEncoder) Topic(name string, id [16]byte, partitions int) {
	switch {
	case e.version >= 13:
		e.buf = append(e.buf, id[:]...)
	default:
		e.string(name)
	}
	e.count(partitions)
}

// Partition writes one partition of the topic.
func (e *FetchEncoder) Partition(p *FetchPartition) {
	e.int32(p.Partition)
	e.int16(p.ErrorCode)
	e.int64(p.HighWatermark)
	e.int64(p.LastStable)
	if e.version >= 5 {
		e.int64(p.LogStart)
	}
	e.aborted(p.Aborted)
	if e.version >= 11 {
		e.int32(p.PreferredReplica)
	}
	length := int64(len(p.Records.Bytes))
	if p.Records.File != nil {
		length = p.Records.Length
	}
	e.bytesLength(length)
	if length > 0 {
		e.cuts = append(e.cuts, fetchCut{len(e.buf), p.Records})
		e.records += length
	}
	if e.flexible() {
		e.partitionTags(p)
	}
}

func (e *FetchEncoder) aborted(list []FetchAborted) {
	switch {
	case list != nil:
		e.count(len(list))
	case e.flexible():
		e.buf = append(e.buf, 0)
	default:
		e.int32(-1)
	}
	for _, a := range list {
		e.int64(a.ProducerID)
		e.int64(a.FirstOffset)
		e.noTags()
	}
}

func (e *FetchEncoder) partitionTags(p *FetchPartition) {
	n := byte(0)
	for _, is := range [...]bool{p.Diverging != nil, p.CurrentLeader != nil, p.SnapshotID != nil} {
		if is {
			n++
		}
	}
	e.buf = append(e.buf, n)
	if d := p.Diverging; d != nil {
		e.buf = append(e.buf, 0, 4+8+1) // key, size
		e.int32(d.Epoch)
		e.int64(d.EndOffset)
		e.noTags()
	}
	if l := p.CurrentLeader; l != nil {
		e.buf = append(e.buf, 1, 4+4+1)
		e.int32(l.ID)
		e.int32(l.Epoch)
		e.noTags()
	}
	if s := p.SnapshotID; s != nil {
		e.buf = append(e.buf, 2, 8+4+1)
		e.int64(s.EndOffset)
		e.int32(s.Epoch)
		e.noTags()
	}
}

// EndTopic ends a topic.
func (e *FetchEncoder) EndTopic() { e.noTags() }

// End ends the response and returns the whole frame. nodes are written from version 16 on. The parts, and the records
// in them, are borrowed until they have been sent. It fails if the response is longer than a frame can be.
func (e *FetchEncoder) End(nodes []FetchNode) ([]sockio.Part, error) {
	switch {
	case !e.flexible():
	case e.version < 16 || len(nodes) == 0:
		e.noTags()
	default:
		e.nodes(0, nodes)
	}
	total := int64(len(e.buf)) - 4 + e.records
	if err := checkResponseLength(total); err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(e.buf, uint32(total))
	from := 0
	for _, c := range e.cuts {
		e.parts = append(e.parts, sockio.Part{Bytes: e.buf[from:c.at]}, c.records)
		from = c.at
	}
	if from < len(e.buf) {
		e.parts = append(e.parts, sockio.Part{Bytes: e.buf[from:]})
	}
	return e.parts, nil
}
