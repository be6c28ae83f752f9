package group

import "time"

// Time is one reading of the owner's clocks.
type Time struct {
	// Mono is what sessions and rebalances are timed by. It is never zero.
	Mono time.Duration
	// Wall is milliseconds since 1970: what commits are stamped with and offsets expire by. It may jump.
	Wall int64
}

// Settings are the group settings of a broker. They may change between two steps.
type Settings struct {
	// SessionMin and SessionMax bound session timeouts (group.min.session.timeout.ms, group.max.session.timeout.ms).
	SessionMin, SessionMax time.Duration
	// InitialDelay is how long an empty group waits for more members (group.initial.rebalance.delay.ms).
	InitialDelay time.Duration
	// MembersMax is how many members a group may have (group.max.size).
	MembersMax int
	// MetadataMax is the longest text that may be committed with an offset, in UTF-16 units (offset.metadata.max.bytes).
	MetadataMax int
	// Retention is how long offsets outlive their group's last member (offsets.retention.minutes).
	Retention time.Duration
}

// DefaultSettings are Kafka's.
func DefaultSettings() Settings {
	return Settings{
		SessionMin: 6 * time.Second, SessionMax: 30 * time.Minute, InitialDelay: 3 * time.Second,
		MembersMax: 1<<31 - 1, MetadataMax: 4096, Retention: 7 * 24 * time.Hour,
	}
}

// newMemberJoinTimeout removes a new member that waits in JoinGroup and may be gone (GroupCoordinatorConfig
// CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS). A client that is still there asks again.
const newMemberJoinTimeout = 5 * time.Minute
