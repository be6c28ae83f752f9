package group

import (
	"errors"
	"strings"
	"testing"
	"time"

	"cairn/engine/limits"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func ptr(v string) *string { return &v }

// TestGroupValuesOfAllVersions reads what kmsg writes at each version that Kafka has had.
func TestGroupValuesOfAllVersions(t *testing.T) {
	for version := int16(0); version <= valueVersionMax; version++ {
		v := kmsg.NewGroupMetadataValue()
		v.Version, v.ProtocolType, v.Generation, v.Protocol, v.Leader = version, "consumer", 7, ptr("range"), ptr("b")
		v.CurrentStateTimestamp = 99
		for _, id := range []string{"a", "b"} {
			m := kmsg.NewGroupMetadataValueMember()
			m.MemberID, m.ClientID, m.ClientHost, m.SessionTimeoutMillis = id, "client", "/1.2.3.4", 10000
			m.RebalanceTimeoutMillis = 20000
			m.InstanceID = ptr("instance " + id)
			m.Subscription, m.Assignment = metadata([]string{"t"}), []byte("assigned "+id)
			v.Members = append(v.Members, m)
		}
		s := New(DefaultSettings(), limits.Derive(0).Group)
		now := Time{Mono: time.Second, Wall: 1}
		if err := s.Replay(now, 0, -1, groupKey("g"), v.AppendTo(nil)); err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		g := s.groups["g"]
		if g.state != Stable || g.generation != 7 || g.leader != "b" || len(g.members) != 2 || !g.subscribed("t") || g.subscribed("u") {
			t.Fatalf("version %d: %+v", version, g)
		}
		m := g.members[1]
		rebalance, since, instance := 20*time.Second, int64(99), "instance b"
		if version < 1 {
			rebalance = 10 * time.Second
		}
		if version < 2 {
			since = -1
		}
		if m.rebalance != rebalance || m.session != 10*time.Second || string(m.assignment) != "assigned b" || g.since != since {
			t.Fatalf("version %d: %+v, since %d", version, m, g.since)
		}
		if (version >= 3) != (m.instance != nil && *m.instance == instance) {
			t.Fatalf("version %d: instance %v", version, m.instance)
		}
		if err := checkInvariants(s); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOffsetValuesOfAllVersions(t *testing.T) {
	for version := int16(0); version <= valueVersionMax; version++ {
		v := kmsg.NewOffsetCommitValue()
		v.Version, v.Offset, v.LeaderEpoch, v.Metadata, v.CommitTimestamp, v.ExpireTimestamp = version, 5, 6, "text", 7, 8
		v.TopicID[3] = 1
		o, err := parseOffset(v.AppendTo(nil))
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		epoch, expire := int32(6), int64(-1)
		if version < 3 {
			epoch = -1
		}
		if version == 1 {
			expire = 8
		}
		if o.offset != 5 || o.leaderEpoch != epoch || o.metadata != "text" || o.committed != 7 || o.expire != expire {
			t.Fatalf("version %d: %+v", version, o)
		}
	}
}

func TestUnknownAndDamagedRecords(t *testing.T) {
	s := New(DefaultSettings(), limits.Derive(0).Group)
	now := Time{Mono: time.Second, Wall: 1}
	good := offsetValue(&offset{offset: 1, expire: -1})
	for name, c := range map[string]struct {
		key, value []byte
		bad        bool
	}{
		"consumer group of KIP-848":    {[]byte{0, 3, 0, 1, 'g'}, []byte{0, 0}, false},
		"share group":                  {[]byte{0, 15, 0, 1, 'g'}, nil, false},
		"no key":                       {nil, good, true},
		"short key":                    {[]byte{0}, good, true},
		"negative version":             {[]byte{0xff, 0xff, 0, 0}, good, true},
		"key cut off":                  {offsetKey("g", "t", 1)[:8], good, true},
		"negative partition":           {offsetKey("g", "t", -1), good, true},
		"value of the future":          {offsetKey("g", "t", 1), []byte{0, 5, 0, 0}, true},
		"value cut off":                {offsetKey("g", "t", 1), good[:12], true},
		"empty value":                  {offsetKey("g", "t", 1), []byte{}, true},
		"group of the future":          {groupKey("g"), []byte{0, 5}, true},
		"group of many members":        {groupKey("g"), append([]byte{0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff}, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff), true},
		"members without a protocol":   {groupKey("g"), memberless(), true},
		"tombstone of nothing":         {offsetKey("g", "t", 1), nil, false},
		"tombstone of no group at all": {groupKey("g"), nil, false},
	} {
		err := s.Replay(now, 0, -1, c.key, c.value)
		if c.bad != errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
		if s.Len() != 0 {
			t.Fatalf("%s: left a group behind", name)
		}
	}
}

func memberless() []byte {
	v := kmsg.NewGroupMetadataValue()
	v.Version = 3
	v.Members = append(v.Members, kmsg.NewGroupMetadataValueMember())
	return v.AppendTo(nil)
}

func TestSubscription(t *testing.T) {
	for name, c := range map[string]struct {
		b  []byte
		ok bool
	}{
		"two topics":      {metadata([]string{"a", "b"}), true},
		"none":            {[]byte{0, 0, 0, 0, 0, 0}, true},
		"empty":           {nil, false},
		"version alone":   {[]byte{0, 1}, false},
		"old version":     {[]byte{0xff, 0xff, 0, 0, 0, 0}, false},
		"lying count":     {[]byte{0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0}, false},
		"negative count":  {[]byte{0, 0, 0xff, 0xff, 0xff, 0xff}, false},
		"negative length": {[]byte{0, 0, 0, 0, 0, 1, 0xff, 0xff}, false},
		"topic cut off":   {[]byte{0, 0, 0, 0, 0, 1, 0, 5, 'a'}, false},
	} {
		if got := subscription(c.b, map[string]struct{}{}); got != c.ok {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestLongNamesAreRefused shows that no name reaches a record that cannot hold it.
func TestLongNamesAreRefused(t *testing.T) {
	long := strings.Repeat("x", stringBytesMax)
	w := newWorld()
	base := func() *Join {
		return &Join{Target: Target{Group: "g", Ticket: 1}, Session: 10 * time.Second, ProtocolType: "consumer", Protocols: []Protocol{{Name: "range"}}, Unique: "u"}
	}
	for name, q := range map[string]Request{
		"group":    &Join{Target: Target{Group: long + "x", Ticket: 1}},
		"commit":   &Commit{Target: Target{Group: long, Ticket: 1}, Generation: -1},
		"member":   func() Request { q := base(); q.MemberID = long + "x"; return q }(),
		"instance": func() Request { q := base(); q.InstanceID = &long; return q }(),
		"client":   func() Request { q := base(); q.ClientID = long; return q }(),
		"protocol": func() Request { q := base(); q.Protocols[0].Name = long; return q }(),
		"type":     func() Request { q := base(); q.ProtocolType = long; return q }(),
		"many":     func() Request { q := base(); q.Protocols = make([]Protocol, 1000); return q }(),
	} {
		w.s.Step(w.now, q)
		r := w.s.TakeReplies()
		if len(r) != 1 || r[0].Answer.Failure() == nil || w.s.Len() != 0 {
			t.Errorf("%s: answered %v, %d groups", name, r, w.s.Len())
		}
	}
}

// TestMemoryIsBounded fills a small allowance from all sides.
func TestMemoryIsBounded(t *testing.T) {
	l := limits.Derive(0).Group
	s := New(DefaultSettings(), l)
	s.Configure(DefaultSettings(), 1<<20)
	now := Time{Mono: time.Second, Wall: 1}
	big := make([]byte, 1000)
	for i := range 20000 {
		n := string(rune('a'+i%26)) + strings.Repeat("n", i%50) + time.Duration(i).String()
		s.Step(now, &Join{Target: To(n), Version: int16(i % 10), ClientID: "c", Session: 10 * time.Second, ProtocolType: "consumer", Protocols: []Protocol{{"range", big}}, Unique: n})
		s.Step(now, &Commit{Target: To(n + "o"), Generation: -1, Retention: -1, Topics: []CommitTopic{{n, []CommitPartition{{Offset: 1}}}}})
	}
	if s.Bytes() > 1<<20+1<<13 {
		t.Fatalf("%d bytes in an allowance of 1 MiB", s.Bytes())
	}
	if s.Len() == 0 || s.Offsets() == 0 {
		t.Fatal("nothing was let in")
	}
}

func FuzzReplay(f *testing.F) {
	f.Add(groupKey("g"), memberless())
	f.Add(offsetKey("g", "t", 1), offsetValue(&offset{offset: 1, metadata: "x", expire: -1}))
	f.Add(offsetKey("g", "t", 1), offsetValue(&offset{offset: 1, metadata: "x", expire: 5}))
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Protocol = 4, "consumer", ptr("range")
	m := kmsg.NewGroupMetadataValueMember()
	m.MemberID, m.Subscription = "a", metadata([]string{"t"})
	v.Members = append(v.Members, m)
	f.Add(groupKey("g"), v.AppendTo(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		s := New(DefaultSettings(), limits.Derive(0).Group)
		now := Time{Mono: time.Second, Wall: 1}
		if err := s.Replay(now, 0, -1, key, value); err != nil && !errors.Is(err, ErrRecord) {
			t.Fatal(err)
		}
		if s.Bytes() > int64(2000*(len(key)+len(value)+1)) {
			t.Fatalf("%d bytes from a record of %d", s.Bytes(), len(key)+len(value))
		}
		s.Loaded(now)
		if err := checkInvariants(s); err != nil {
			t.Fatal(err)
		}
		// What was read and is written again reads the same.
		for _, g := range s.groups {
			if len(g.members) > 0 {
				s.writeGroup(g)
			}
		}
		again := New(DefaultSettings(), limits.Derive(0).Group)
		for _, r := range s.records {
			if len(r.Key) > 40000 {
				return
			}
			if err := again.Replay(now, 0, -1, r.Key, r.Value); err != nil {
				t.Fatal(err)
			}
		}
		s.Tick(Time{Mono: 100 * time.Hour, Wall: 1})
	})
}

func FuzzSubscription(f *testing.F) {
	f.Add(metadata([]string{"a", "b"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		topics := map[string]struct{}{}
		if subscription(b, topics) && 2*len(topics) > len(b) {
			t.Fatalf("%d topics in %d bytes", len(topics), len(b))
		}
	})
}
