package catalog

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// describe writes everything that a snapshot shows, so that two can be compared.
func describe(s *Snapshot) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %q controller %d epoch %d version %d partitions %d\n", s.ClusterID, s.ControllerID, s.ControllerEpoch, s.ControllerEpochVersion, s.PartitionCount())
	if s.ProducerIDs != nil {
		fmt.Fprintf(&b, "producer ids %+v\n", *s.ProducerIDs)
	}
	for broker := range s.Brokers() {
		fmt.Fprintf(&b, "broker %d epoch %d rack %q endpoints %v dirs %v\n", broker.ID, broker.Epoch, broker.Rack, broker.Endpoints, broker.LogDirs)
	}
	for t := range s.Topics() {
		if s.TopicByID(t.ID) != t {
			fmt.Fprintf(&b, "INDEX BROKEN for %s\n", t.Name)
		}
		fmt.Fprintf(&b, "topic %s %s version %d deleting %v auto %v node %v overrides %v min isr %d retention %v\n",
			t.Name, t.ID, t.Version, t.Deleting, t.AutoReplication, t.PartitionsNode, sorted(t.Overrides), t.Settings.MinInSyncReplicas(1), t.Settings.Retention)
		for i, p := range t.Partitions {
			fmt.Fprintf(&b, "  %d %+v\n", i, *p)
		}
	}
	for name, m := range s.ConfiguredTopics() {
		fmt.Fprintf(&b, "config topic %s %v\n", name, sorted(m))
	}
	for name, m := range s.ConfiguredBrokers() {
		fmt.Fprintf(&b, "config broker %s %v\n", name, sorted(m))
	}
	fmt.Fprintf(&b, "deletions %v\n", slices.Collect(s.Deletions()))
	return b.String()
}

func sorted(m map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return out
}

// drawChanges makes a stream of changes as a tree would give it: with parents, children and versions that fit, some
// nonsense, and topics that are deleted and created anew.
func drawChanges(t *rapid.T) []Change {
	tree := map[string]int32{} // path → version
	var changes []Change
	zxid := int64(100)
	write := func(path string, data []byte) {
		zxid++
		v, ok := tree[path]
		if ok {
			tree[path] = v + 1
			changes = append(changes, Change{Kind: Changed, Path: path, Data: data, Version: v + 1, Czxid: zxid})
			return
		}
		tree[path] = 0
		changes = append(changes, Change{Kind: Created, Path: path, Data: data, Czxid: zxid})
	}
	del := func(path string) {
		if _, ok := tree[path]; ok {
			delete(tree, path)
			changes = append(changes, Change{Kind: Deleted, Path: path})
		}
	}
	names := []string{"a", "a.b", "orders", "__consumer_offsets"}
	sizes := map[string]int{}
	id := byte(2)
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		name := rapid.SampledFrom(names).Draw(t, "topic")
		switch rapid.IntRange(0, 11).Draw(t, "what") {
		case 0, 1:
			if sizes[name] == 0 {
				id++
				sizes[name] = rapid.IntRange(1, 4).Draw(t, "partitions")
				write(TopicPath(name), EncodeTopic(TopicAssignment{ID: UUID{1, id}, Partitions: assignment(sizes[name])}))
			}
		case 2:
			if sizes[name] > 0 {
				sizes[name]++
				write(TopicPath(name), EncodeTopic(TopicAssignment{ID: UUID{1, id}, Partitions: assignment(sizes[name]), Adding: map[int32][]int32{0: {2}}}))
			}
		case 3, 4, 5:
			if n := sizes[name]; n > 0 {
				p := int32(rapid.IntRange(0, n-1).Draw(t, "p"))
				if _, ok := tree[PartitionsPath(name)]; !ok {
					write(PartitionsPath(name), nil)
				}
				if _, ok := tree[PartitionPath(name, p)]; !ok {
					write(PartitionPath(name, p), nil)
				}
				write(StatePath(name, p), EncodeState(PartitionState{Leader: 1, LeaderEpoch: int32(zxid), LeaderBrokerEpoch: 7, ISR: []int32{1}, Directories: map[int32]UUID{1: {9}}}))
			}
		case 6:
			if n := sizes[name]; n > 0 {
				write(DeleteTopicPath(name), nil)
				for p := range n {
					del(StatePath(name, int32(p)))
					del(PartitionPath(name, int32(p)))
				}
				del(PartitionsPath(name))
				del(TopicConfigPath(name))
				del(TopicPath(name))
				del(DeleteTopicPath(name))
				sizes[name] = 0
			}
		case 7:
			write(TopicConfigPath(name), EncodeConfig(map[string]string{"retention.ms": fmt.Sprint(zxid)}))
		case 8:
			write(DefaultBrokerConfigPath(), EncodeConfig(map[string]string{"log.retention.ms": fmt.Sprint(zxid * 10)}))
		case 9:
			write(BrokerPath(1), EncodeBroker(&Broker{Rack: "r", Endpoints: []Endpoint{{"PLAINTEXT", "PLAINTEXT", "", 9092}}, LogDirs: []LogDir{{ID: UUID{9}, Path: "/x"}}, Offline: map[UUID][]int32{{byte(zxid)}: {0, 2}}}))
		case 10:
			write(ControllerEpochPath, EncodeControllerEpoch(int32(zxid)))
			write(ProducerIDBlockPath, EncodeProducerIDBlock(ProducerIDBlock{Broker: 1, Start: zxid, End: zxid + 999}))
		case 11:
			path := rapid.SampledFrom([]string{TopicPath("a"), StatePath("a", 0), BrokerPath(3), TopicConfigPath("a"), Root + "/brokers/topics/a/partitions/x/state", "/elsewhere"}).Draw(t, "path")
			changes = append(changes, Change{Kind: Changed, Path: path, Data: rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "nonsense"), Version: 9})
		}
	}
	return changes
}

func assignment(n int) [][]int32 {
	a := make([][]int32, n)
	for i := range a {
		a[i] = []int32{1, 2}
	}
	return a
}

// TestProjectAnySplit: however a stream of changes is cut into batches, the snapshot is the same, and the earlier
// snapshots stay what they were.
func TestProjectAnySplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		changes := drawChanges(t)
		whole := Project(Empty(Base{BrokerID: 1}), Batch{Zxid: 1, Changes: changes})
		s := Empty(Base{BrokerID: 1})
		type kept struct {
			s    *Snapshot
			text string
		}
		var earlier []kept
		for rest := changes; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
			before := s
			s = Project(s, Batch{Zxid: 1, Changes: rest[:n]})
			earlier = append(earlier, kept{s, describe(s)})
			checkDiff(t, before, s)
			rest = rest[n:]
		}
		if got, want := describe(s), describe(whole); got != want {
			t.Fatalf("split:\n%s\nwhole:\n%s", got, want)
		}
		for _, k := range earlier {
			if describe(k.s) != k.text {
				t.Fatalf("a published snapshot has changed")
			}
		}
	})
}

// checkDiff compares Diff with what walking both snapshots finds.
func checkDiff(t *rapid.T, before, after *Snapshot) {
	want := map[string]bool{}
	for topic := range before.Topics() {
		if after.Topic(topic.Name) != topic {
			want[topic.Name] = true
		}
	}
	for topic := range after.Topics() {
		if before.Topic(topic.Name) != topic {
			want[topic.Name] = true
		}
	}
	var got []string
	Diff(before, after, func(a, b *Topic) {
		if a != nil {
			got = append(got, a.Name)
		} else {
			got = append(got, b.Name)
		}
	})
	if !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Fatalf("diff %v, want %v", got, slices.Sorted(maps.Keys(want)))
	}
}

// TestOrderedLikeMap compares the persistent map with Go's.
func TestOrderedLikeMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m ordered[int]
		model := map[string]int{}
		for i := range rapid.IntRange(0, 200).Draw(t, "n") {
			key := fmt.Sprint(rapid.IntRange(0, 40).Draw(t, "key"))
			old := m
			oldLen := old.len
			if rapid.Bool().Draw(t, "put") {
				m = m.put(key, i)
				model[key] = i
			} else {
				m = m.without(key)
				delete(model, key)
			}
			n := 0
			for range old.all("") {
				n++
			}
			if n != oldLen {
				t.Fatalf("an old version has %d entries, had %d", n, oldLen)
			}
		}
		var keys []string
		for k, v := range m.all("") {
			keys = append(keys, k)
			if model[k] != v {
				t.Fatalf("%s is %d, want %d", k, v, model[k])
			}
		}
		if !slices.Equal(keys, slices.Sorted(maps.Keys(model))) || m.len != len(model) {
			t.Fatalf("keys %v (len %d), want %v", keys, m.len, model)
		}
	})
}

// TestOneChangeCopiesLittle: one changed partition among 10,000 topics shares all other topics.
func TestOneChangeCopiesLittle(t *testing.T) {
	s := manyTopics(10_000)
	next := Project(s, Batch{Zxid: 2, Changes: []Change{{Kind: Created, Path: StatePath("t00042", 0),
		Data: EncodeState(PartitionState{Leader: 1, ISR: []int32{1}})}}})
	changed := 0
	Diff(s, next, func(_, _ *Topic) { changed++ })
	if changed != 1 || !next.Topic("t00042").Partitions[0].HasState || s.Topic("t00042").Partitions[0].HasState {
		t.Fatalf("%d topics changed", changed)
	}
	allocs := testing.AllocsPerRun(100, func() {
		Project(s, Batch{Zxid: 2, Changes: []Change{{Kind: Created, Path: StatePath("t00042", 0), Data: []byte(`{"leader":1,"leader_epoch":0,"isr":[1]}`)}}})
	})
	if allocs > 200 {
		t.Fatalf("one change costs %.0f allocations", allocs)
	}
}

func manyTopics(n int) *Snapshot {
	var changes []Change
	for i := range n {
		changes = append(changes, Change{Kind: Created, Path: TopicPath(fmt.Sprintf("t%05d", i)),
			Data: EncodeTopic(TopicAssignment{ID: UUID{7, byte(i >> 8), byte(i)}, Partitions: [][]int32{{1}}})})
	}
	return Project(Empty(Base{BrokerID: 1}), Batch{Zxid: 1, Reset: true, Changes: changes})
}

func BenchmarkProjectOneOfManyPartitions(b *testing.B) {
	s := Project(Empty(Base{}), Batch{Zxid: 1, Changes: []Change{{Kind: Created, Path: TopicPath("t"),
		Data: EncodeTopic(TopicAssignment{ID: UUID{7}, Partitions: assignment(10_000)})}}})
	change := []Change{{Kind: Created, Path: StatePath("t", 5000), Data: []byte(`{"leader":1,"leader_epoch":0,"isr":[1]}`)}}
	for b.Loop() {
		Project(s, Batch{Zxid: 2, Changes: change})
	}
}

// TestUUID: the text is Kafka's, and random ids keep its promises.
func TestUUID(t *testing.T) {
	if s := (UUID{15: 1}).String(); s != "AAAAAAAAAAAAAAAAAAAAAQ" {
		t.Fatal(s)
	}
	random := rand.NewChaCha8([32]byte{1})
	for range 5000 {
		id, err := NewUUID(random)
		if err != nil || id.Reserved() || id.String()[0] == '-' {
			t.Fatal(id, err)
		}
		if back, err := ParseUUID(id.String()); err != nil || back != id {
			t.Fatal(back, err)
		}
	}
	if _, err := NewUUID(bytes.NewReader(make([]byte, 8))); err == nil {
		t.Fatal("an exhausted source of randomness gave an id")
	}
	for _, bad := range []string{"", "x", "AAAAAAAAAAAAAAAAAAAAA*", strings.Repeat("A", 100)} {
		if _, err := ParseUUID(bad); err == nil {
			t.Fatalf("%q was taken for an id", bad)
		}
	}
}

// FuzzProject: no bytes in a znode make the projection panic, and what it refuses changes nothing.
func FuzzProject(f *testing.F) {
	f.Add(uint8(0), []byte(`{"version":3,"topic_id":"AAECAwQFBgcICQoLDA0ODw","partitions":{"0":[1]},"adding_replicas":{},"removing_replicas":{}}`))
	f.Add(uint8(1), []byte(`{"controller_epoch":1,"leader":1,"version":1,"leader_epoch":0,"isr":[1],"directories":{"1":"AAECAwQFBgcICQoLDA0ODw"}}`))
	f.Add(uint8(2), []byte(`{"version":5,"host":"h","port":9092,"endpoints":["PLAINTEXT://h:9092"],"listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"},"features":{"x":{"min_version":1,"max_version":2}}}`))
	f.Add(uint8(3), []byte(`{"version":1,"config":{"retention.ms":"x","cleanup.policy":"compact"}}`))
	f.Add(uint8(4), []byte(`{"version":1,"config":{"log.retention.ms":"1"}}`))
	f.Add(uint8(5), []byte(`12`))
	f.Add(uint8(6), []byte(`{"version":1,"broker":1,"block_start":"0","block_end":"999"}`))
	paths := []string{TopicPath("t"), StatePath("t", 0), BrokerPath(1), TopicConfigPath("t"), DefaultBrokerConfigPath(), ControllerEpochPath, ProducerIDBlockPath, ClusterIDPath, ControllerPath}
	base := Project(Empty(Base{BrokerID: 1}), Batch{Zxid: 1, Changes: []Change{{Kind: Created, Path: TopicPath("t"),
		Data: EncodeTopic(TopicAssignment{ID: UUID{7}, Partitions: assignment(2)})}}})
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		before := describe(base)
		next := Project(base, Batch{Zxid: 2, Changes: []Change{{Kind: Changed, Path: paths[int(which)%len(paths)], Data: data, Version: 1}}})
		after := describe(next)
		if len(next.Problems) > 0 && after != before {
			t.Fatalf("refused %q and still changed\n%s\nto\n%s", data, before, after)
		}
		if describe(base) != before {
			t.Fatal("the previous snapshot has changed")
		}
	})
}

// TestEncodeDecode: what is written is read back.
func TestEncodeDecode(t *testing.T) {
	a := TopicAssignment{ID: UUID{1, 2}, Partitions: [][]int32{{1, 2}, {2, 1}}, Adding: map[int32][]int32{1: {1}}, AutoReplication: true}
	back, err := DecodeTopic(EncodeTopic(a))
	if err != nil || fmt.Sprint(back) != fmt.Sprint(a) {
		t.Fatal(back, err)
	}
	s := PartitionState{Leader: 2, LeaderEpoch: 5, LeaderBrokerEpoch: 1 << 40, ISR: []int32{2}, ELR: []int32{1}, Directories: map[int32]UUID{2: {3}}, ControllerEpoch: 4}
	if got, err := decodeState(EncodeState(s)); err != nil || fmt.Sprint(got) != fmt.Sprint(s) {
		t.Fatal(got, err)
	}
	for _, bad := range []string{
		`{"topic_id":"AAAAAAAAAAAAAAAAAAAAAA","partitions":{"0":[1]}}`,
		`{"topic_id":"AAECAwQFBgcICQoLDA0ODw","partitions":{"1":[1]}}`,
		`{"topic_id":"AAECAwQFBgcICQoLDA0ODw","partitions":{"0":[]}}`,
		`{"topic_id":"AAECAwQFBgcICQoLDA0ODw","partitions":{"0":[1,1]}}`,
		`{"topic_id":"AAECAwQFBgcICQoLDA0ODw","partitions":{"0":[-1]}}`,
		`{"topic_id":"AAECAwQFBgcICQoLDA0ODw","partitions":{}}`, `[]`, ``,
	} {
		if _, err := DecodeTopic([]byte(bad)); err == nil {
			t.Errorf("%s was taken for a topic", bad)
		}
	}
}
