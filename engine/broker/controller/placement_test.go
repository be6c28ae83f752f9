package controller

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"cairn/engine/broker/catalog"

	"pgregory.net/rapid"
)

// TestPlacement: wherever partitions are placed, a topic's leaders and, without racks, its replicas are even over the brokers, no
// two replicas of a partition share a rack while another has none, small topics are even over the cluster, and the counts that
// are kept are those of the snapshot.
func TestPlacement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		brokers, racks := rapid.IntRange(1, 9).Draw(t, "brokers"), rapid.IntRange(1, 4).Draw(t, "racks")
		w := &work{now: catalog.Empty(catalog.Base{}), unbounded: true}
		rackOf := map[int32]string{}
		for id := range int32(brokers) {
			rackOf[id] = fmt.Sprint(int(id) % racks)
			b := &catalog.Broker{ID: id, Rack: rackOf[id], UsedTenths: rapid.IntRange(0, 10).Draw(t, "used")}
			w.do(create(catalog.BrokerPath(id), catalog.EncodeBroker(b)))
		}
		f := &facts{}
		for n := range rapid.IntRange(1, 12).Draw(t, "topics") {
			id := catalog.UUID{byte(rapid.IntRange(0, 255).Draw(t, "id")), 1, 2, byte(rapid.IntRange(0, 255).Draw(t, "id")), byte(n)}
			partitions, factor := rapid.IntRange(1, 30).Draw(t, "partitions"), rapid.IntRange(1, brokers).Draw(t, "factor")
			name := fmt.Sprint("t", n)
			first, err := place(w.now, f, id, 0, partitions, factor)
			if err != nil {
				t.Fatal(err)
			}
			w.do(create(catalog.TopicPath(name), catalog.EncodeTopic(catalog.TopicAssignment{ID: id, Partitions: first})))
			grown := rapid.IntRange(0, 10).Draw(t, "grown")
			second, err := place(w.now, f, id, partitions, grown, factor)
			if err != nil {
				t.Fatal(err)
			}
			all := slices.Concat(first, second)
			w.do(set(catalog.TopicPath(name), catalog.EncodeTopic(catalog.TopicAssignment{ID: id, Partitions: all})))
			leaders, replicas := make([]int, brokers), make([]int, brokers)
			for i, p := range all {
				in := map[string]int{}
				for j, id := range p {
					if slices.Contains(p[:j], id) {
						t.Fatalf("%s-%d: %v", name, i, p)
					}
					replicas[id]++
					in[rackOf[id]]++
				}
				leaders[p[0]]++
				if len(in) != min(factor, racks, brokers) {
					t.Fatalf("%s-%d is %v, in racks %v of %v", name, i, p, in, rackOf)
				}
			}
			if slices.Max(leaders)-slices.Min(leaders) > 1 {
				t.Fatalf("%s: %v leaders", name, leaders)
			}
			if racks == 1 && slices.Max(replicas)-slices.Min(replicas) > 2 {
				t.Fatalf("%s: %v replicas: %v", name, replicas, all)
			}
			f.load.follow(w.now)
			var fresh load
			fresh.follow(w.now)
			if !maps.Equal(f.load.brokers, fresh.brokers) {
				t.Fatalf("counted %v, there is %v", f.load.brokers, fresh.brokers)
			}
		}
	})
}

// Of two brokers one of which has half the room of the other, it is given half as much.
func TestReplicasGoWhereThereIsRoom(t *testing.T) {
	for _, factor := range []int{1, 2} {
		w := &work{now: catalog.Empty(catalog.Base{}), unbounded: true}
		for id, used := range []int{0, 0, 0, 0, 5, 10} {
			b := &catalog.Broker{ID: int32(id), UsedTenths: used}
			w.do(create(catalog.BrokerPath(b.ID), catalog.EncodeBroker(b)))
		}
		f, replicas := &facts{}, make([]int, 6)
		for n := range 510 / factor { // 510 are ten times what the rooms of all add up to
			id := catalog.UUID{byte(n), 1, byte(n >> 8)}
			placed, err := place(w.now, f, id, 0, 1, factor)
			if err != nil {
				t.Fatal(err)
			}
			w.do(create(catalog.TopicPath(fmt.Sprint("t", n)), catalog.EncodeTopic(catalog.TopicAssignment{ID: id, Partitions: placed})))
			for _, id := range placed[0] {
				replicas[id]++
			}
		}
		for id, want := range []int{110, 110, 110, 110, 60, 10} {
			if off := replicas[id] - want; off < -3 || off > 3 {
				t.Errorf("factor %d: broker %d has %d replicas, its share is %d", factor, id, replicas[id], want)
			}
		}
	}
}

// Topics of one partition, as most are, go where the least is.
func TestSmallTopicsAreEven(t *testing.T) {
	r := newRoom(3, Config{})
	r.tree.lead(true)
	for id := range 5 {
		r.register([]string{fmt.Sprint(id)})
	}
	r.settle()
	for i := range 100 {
		r.create([]string{fmt.Sprint("t", i), "p=1", "rf=2"})
	}
	r.settle()
	r.out.Reset()
	r.load(nil)
	if got := r.out.String(); got != "load 0: 40 replicas, 20 preferred; 1: 40 replicas, 20 preferred; 2: 40 replicas, 20 preferred; 3: 40 replicas, 20 preferred; 4: 40 replicas, 20 preferred\n" {
		t.Error(got)
	}
	followers := map[[2]int32]int{}
	r.create([]string{"wide", "p=40", "rf=2"})
	r.settle()
	for _, p := range r.catalog.Current().Topic("wide").Partitions {
		followers[[2]int32(p.Replicas)]++
	}
	for pair, n := range followers {
		if n > 4 {
			t.Errorf("%d of 8 partitions that %d leads are followed by %d", n, pair[0], pair[1])
		}
	}
}
