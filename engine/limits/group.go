package limits

import "fmt"

// Group are the maxima of the consumer groups and of their coordinator.
type Group struct {
	// GroupsMax is how many groups one partition of __consumer_offsets may hold; joins and commits of one more are refused.
	GroupsMax int
	// MembersMax is how many members one group may have, ids that were given out and not yet used included.
	MembersMax int
	// ProtocolsMax is how many assignors one member may name.
	ProtocolsMax int
	// OffsetsMax is how many offsets one group may have committed.
	OffsetsMax int
	// GroupBytesMax bounds the members of one group with their metadata and assignments, in bytes: they are one record.
	GroupBytesMax int64
	// BytesMax bounds what all groups of a box may grow to in memory, in bytes. What the log holds is loaded in any case.
	BytesMax int64
	// ParkedMax is how many requests may wait for an answer of the coordinator: joins, syncs, commits under way.
	ParkedMax int
	// MailboxMax is how many messages may wait before the coordinator's owner.
	MailboxMax int
	// AppendBytesMax is the size in bytes at which the records of one append are split into batches.
	AppendBytesMax int
	// LoadBytes is how much of the log is read at a time while groups are loaded, in bytes.
	LoadBytes int
	// OpenBatchBytesMax bounds what one compressed batch of __consumer_offsets may unpack to, in bytes.
	OpenBatchBytesMax int
}

func deriveGroup(memory uint64) Group {
	m := int64(min(memory, 1<<46))
	return Group{
		GroupsMax:         int(clamp(m>>13, 4096, 1<<20)),
		MembersMax:        int(clamp(m>>15, 1024, 1<<16)),
		ProtocolsMax:      64,
		OffsetsMax:        int(clamp(m>>11, 32<<10, 1<<20)),
		GroupBytesMax:     clamp(m/64, 2<<20, 64<<20),
		BytesMax:          clamp(m/8, 8<<20, 4<<30),
		ParkedMax:         int(clamp(m>>13, 8192, 1<<18)),
		MailboxMax:        int(clamp(m>>15, 2048, 16384)),
		AppendBytesMax:    512 << 10,
		LoadBytes:         256 << 10,
		OpenBatchBytesMax: int(clamp(m/16, 4<<20, 128<<20)),
	}
}

func (g Group) check(memory uint64) error {
	switch {
	case g.GroupsMax < 1 || g.MembersMax < 1 || g.ProtocolsMax < 1 || g.OffsetsMax < 1:
		return fmt.Errorf("%d groups, %d members, %d protocols, %d offsets must be positive", g.GroupsMax, g.MembersMax, g.ProtocolsMax, g.OffsetsMax)
	case g.BytesMax < g.GroupBytesMax || uint64(g.BytesMax) > memory/2:
		return fmt.Errorf("%d bytes of groups, %d of one group, may fill the memory", g.BytesMax, g.GroupBytesMax)
	case g.GroupBytesMax < 1<<20:
		return fmt.Errorf("%d bytes of members are too few for a group", g.GroupBytesMax)
	case g.ParkedMax < 1 || g.MailboxMax < 1:
		return fmt.Errorf("%d parked requests, %d messages must be positive", g.ParkedMax, g.MailboxMax)
	case g.AppendBytesMax < 16<<10 || g.LoadBytes < 16<<10 || uint64(g.OpenBatchBytesMax) > memory/2:
		return fmt.Errorf("appends of %d bytes, reads of %d, batches of %d", g.AppendBytesMax, g.LoadBytes, g.OpenBatchBytesMax)
	}
	return nil
}
