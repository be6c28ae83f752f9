package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
)

// kafka is the broker's part of the world: who uses it, and what must hold.
type kafka struct {
	w          *world
	topics     []string
	deletes    []partitionName // where records are deleted
	partitions []partitionName
	truth      map[partitionName]*truth
	producers  []*producer
	consumers  []*consumer
	admin      *admin
	ids        map[int64]string // whose a producer id is
	looked     map[*replica.Replica]*replica.View
	all        []*replica.Replica // of the present look

	trap   trap
	sprung func()

	acks, reads, restarts, cutLogs, deletions int
}

// truth is what is known of a partition for good.
type truth struct {
	values  map[int64]string // what was acknowledged, or read, at an offset
	where   map[string]int64 // the offset of each
	last    int64            // the greatest offset in values
	written map[place]stamp  // what any box ever had
	leaders map[int32]uint64 // by epoch
	high    map[int32]int64  // the greatest high watermark in each epoch, by its leader

	deleting int64 // records before were asked to be deleted: the log may begin anywhere up to here
	deleted  int64 // and before here they are
	// again are records that were deleted before their producer had heard of them, and are there a second time: a replica that has begun
	// at the log's start knows nothing of who wrote before it, as with Kafka's. acked are those that their producer has heard of.
	again, acked map[string]bool
}

// offsetsPartitions is offsets.topic.num.partitions.
const offsetsPartitions = 2

// place is a batch's first offset under a leader epoch.
type place struct {
	epoch  int32
	offset int64
}

// stamp is what tells the bytes of batches apart.
type stamp struct {
	crc    uint32
	length int32
	box    uint64
}

func newKafka(w *world) *kafka {
	k := &kafka{w: w, truth: map[partitionName]*truth{}, ids: map[int64]string{}, looked: map[*replica.Replica]*replica.View{}}
	for _, name := range []string{"a", "b", "c"} {
		k.topics = append(k.topics, name)
		for n := range int32(2) {
			k.partitions = append(k.partitions, partitionName{name, n})
			if name == "c" {
				k.deletes = append(k.deletes, partitionName{name, n})
			}
		}
	}
	all := slices.Clone(k.partitions)
	for n := range int32(offsetsPartitions) {
		all = append(all, partitionName{catalog.GroupOffsetsTopic, n})
	}
	for _, p := range all {
		k.truth[p] = &truth{
			values: map[int64]string{}, where: map[string]int64{}, last: -1, written: map[place]stamp{}, leaders: map[int32]uint64{},
			high: map[int32]int64{}, again: map[string]bool{}, acked: map[string]bool{},
		}
	}
	return k
}

// start brings in who produces and consumes.
func (k *kafka) start() {
	for n := range 3 {
		k.producers = append(k.producers, newProducer(k.w, n))
	}
	for n := range 2 {
		k.consumers = append(k.consumers, newConsumer(k.w, n))
	}
}

// drain has nothing new begin.
func (k *kafka) drain() {
	k.admin.calm = true
	for _, p := range k.producers {
		p.draining = true
	}
}

func (t *truth) end() int64 { return t.last + 1 }

// settleOn notes a value for good.
func (k *kafka) settleOn(p partitionName, offset int64, value, how string) {
	t := k.truth[p]
	if known, ok := t.values[offset]; ok && known != value {
		k.w.failf("%v: at offset %d was %q, and %q is %s there", p, offset, known, value, how)
	}
	if at, ok := t.where[value]; ok && at < offset && at < t.deleting && !t.acked[value] {
		t.again[value] = true
	} else if ok && at != offset {
		k.w.failf("%v: %q was at offset %d, and is %s at %d", p, value, at, how, offset)
	}
	t.values[offset], t.where[value] = value, offset
	t.last = max(t.last, offset)
}

func (k *kafka) acknowledged(p partitionName, offset int64, values []string) {
	for i, v := range values {
		k.acks++
		k.settleOn(p, offset+int64(i), v, "acknowledged")
		k.truth[p].acked[v] = true
	}
}

func (k *kafka) consumed(p partitionName, offset int64, value string) {
	k.reads++
	k.settleOn(p, offset, value, "read")
}

func (k *kafka) producerID(p *producer, id int64) {
	if other, ok := k.ids[id]; ok {
		k.w.failf("%s is given the producer id %d, as was %s", p.name, id, other)
	}
	k.ids[id] = p.name
}

// parse reads what a producer wrote into a record.
func (k *kafka) parse(value string, p partitionName, number *int32) (who string, err error) {
	at := strings.Index(value, " "+p.String()+" ")
	if at < 0 {
		return "", fmt.Errorf("%q does not belong here", value)
	}
	_, err = fmt.Sscan(value[at+len(p.String())+2:], number)
	return value[:at], err
}

// nameOf names a replica's partition.
func nameOf(r *replica.Replica) partitionName {
	tp := r.TopicPartition()
	return partitionName{tp.Topic, tp.Partition}
}

// replicaOf is the process's open replica of a partition, nil where it has none.
func (p *process) replicaOf(name partitionName) (found *replica.Replica) {
	p.Replicas(func(r *replica.Replica) {
		if nameOf(r) == name {
			found = r
		}
	})
	return found
}

// look checks what must hold of a box's partitions whenever something may have changed.
func (k *kafka) look(b *box) {
	if b.proc.Replicas == nil {
		return
	}
	k.all = k.all[:0]
	b.proc.Replicas(func(r *replica.Replica) {
		if r.View() != k.looked[r] {
			k.all = append(k.all, r)
		}
	})
	slices.SortFunc(k.all, func(x, y *replica.Replica) int {
		a, b := nameOf(x), nameOf(y)
		return cmp.Or(strings.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	})
	for _, r := range k.all {
		v, old := r.View(), k.looked[r]
		k.looked[r] = v
		k.changed(b, r, old, v)
	}
}

func (k *kafka) changed(b *box, r *replica.Replica, old, v *replica.View) {
	p := nameOf(r)
	t := k.truth[p]
	if t == nil || v.Err != nil {
		return
	}
	k.w.trace("box %d %v leader %v epoch %d start %d high %d end %d flushed %d epochs %v", b.id, p, v.Leader, v.LeaderEpoch, v.Start, v.HighWatermark, v.End,
		v.Log.FlushedEnd(), v.Log.Epochs())
	if v.Leader {
		if other, ok := t.leaders[v.LeaderEpoch]; ok && other != b.id {
			k.w.failf("%v: boxes %d and %d lead in epoch %d", p, other, b.id, v.LeaderEpoch)
		}
		t.leaders[v.LeaderEpoch] = b.id
		if v.LeaderEpoch == slices.Max(slices.Collect(maps.Keys(t.leaders))) && v.Start < t.deleted {
			k.w.failf("%v: box %d leads in epoch %d from %d on, and everything before %d was deleted", p, b.id, v.LeaderEpoch, v.Start, t.deleted)
		}
		for epoch, high := range t.high {
			if epoch < v.LeaderEpoch && v.End < high {
				k.w.failf("%v: box %d leads in epoch %d with a log that ends at %d, and %d was acknowledged in epoch %d", p, b.id, v.LeaderEpoch, v.End, high, epoch)
			}
		}
		t.high[v.LeaderEpoch] = max(t.high[v.LeaderEpoch], v.HighWatermark)
	}
	if old != nil && old.Err == nil && v.HighWatermark < old.HighWatermark {
		k.w.failf("%v: the high watermark of box %d goes back from %d to %d", p, b.id, old.HighWatermark, v.HighWatermark)
	}
	if v.Start > t.deleting {
		k.w.failf("%v: the log of box %d begins at %d, and nothing beyond %d was to be deleted", p, b.id, v.Start, t.deleting)
	}
	if v.HighWatermark > v.End {
		k.w.failf("%v: the high watermark of box %d is %d, its log ends at %d", p, b.id, v.HighWatermark, v.End)
	}
	if v.Leader && (old == nil || v.HighWatermark > old.HighWatermark) {
		k.promised(b, p, v)
	}
	k.written(b, p, t, old, v)
	k.watchTrap(b, p, old, v)
}

// promised looks whether what a leader acknowledges is on stable storage wherever it is said to be in sync.
func (k *kafka) promised(b *box, p partitionName, v *replica.View) {
	topic := b.proc.Catalog().Topic(p.topic)
	if topic == nil || int(p.partition) >= len(topic.Partitions) || topic.Partitions[p.partition].LeaderEpoch != v.LeaderEpoch {
		return
	}
	for _, id := range topic.Partitions[p.partition].ISR {
		other := k.w.boxes[uint64(id)]
		if other.proc == nil || other.proc.doomed {
			continue
		}
		r := other.proc.replicaOf(p)
		if r == nil || r.View().Err != nil {
			continue
		}
		if flushed := r.View().Log.FlushedEnd(); flushed < v.HighWatermark {
			k.w.failf("%v: box %d acknowledges up to %d, and box %d, in sync, has flushed up to %d", p, b.id, v.HighWatermark, id, flushed)
		}
	}
}

// written looks at the batches that are new: no two that differ under one epoch and offset.
func (k *kafka) written(b *box, p partitionName, t *truth, old, v *replica.View) {
	if p.topic == catalog.GroupOffsetsTopic {
		return // each replica compacts it for itself
	}
	from := v.Start
	if old != nil && old.Err == nil && old.End <= v.End && old.Log.LatestEpoch() == v.Log.LatestEpoch() {
		from = max(old.End, v.Start)
	} else if old != nil && old.End > v.End {
		k.cutLogs++
	}
	if from >= v.End {
		return
	}
	err := v.Log.Scan(from, v.End, func(h *batch.Header, _ []byte) error {
		at, is := place{h.LeaderEpoch, h.BaseOffset}, stamp{h.CRC, h.Length, b.id}
		if was, ok := t.written[at]; ok && (was.crc != is.crc || was.length != is.length) {
			return fmt.Errorf("boxes %d and %d have batches that differ in epoch %d at %d", was.box, b.id, at.epoch, at.offset)
		} else if !ok {
			t.written[at] = is
		}
		return nil
	})
	if err != nil && !b.proc.faulty() {
		k.w.failf("%v: box %d: %v", p, b.id, err)
	}
}

// whole tells whether every partition is led, all its replicas are in sync and have everything, and everybody has read it.
func (k *kafka) whole() bool {
	for _, p := range k.producers {
		if !p.idle() {
			return false
		}
	}
	for _, c := range k.consumers {
		if !c.done() {
			return false
		}
	}
	return k.describe() == ""
}

// inSync tells whether all replicas of everything are in sync, as every box knows it.
func (k *kafka) inSync() bool { return k.lacks(false) == "" }

// describe says what is missing for everybody to have everything.
func (k *kafka) describe() string { return k.lacks(true) }

func (k *kafka) lacks(records bool) string {
	var lacks []string
	for _, id := range k.w.ids {
		b := k.w.boxes[id]
		if b.proc == nil {
			return fmt.Sprintf("box %d is down", id)
		}
		s := b.proc.Catalog()
		for _, p := range k.partitions {
			topic := s.Topic(p.topic)
			if topic == nil || int(p.partition) >= len(topic.Partitions) {
				lacks = append(lacks, fmt.Sprintf("box %d does not know %v", id, p))
				continue
			}
			state := topic.Partitions[p.partition]
			switch {
			case s.LeaderOf(state) == catalog.NoLeader:
				lacks = append(lacks, fmt.Sprintf("box %d knows no leader of %v", id, p))
			case len(state.ISR) != len(state.Replicas) || len(state.Adding)+len(state.Removing) > 0:
				lacks = append(lacks, fmt.Sprintf("box %d knows %v in sync of the replicas %v of %v, adding %v, removing %v", id, state.ISR, state.Replicas, p, state.Adding, state.Removing))
			}
		}
		if !records {
			continue
		}
		b.proc.Replicas(func(r *replica.Replica) {
			p := nameOf(r)
			if t := k.truth[p]; t != nil {
				if v := r.View(); v.Err != nil || v.HighWatermark != v.End || v.End < t.end() {
					lacks = append(lacks, fmt.Sprintf("box %d has %v up to %d, high watermark %d, %v", id, p, v.End, v.HighWatermark, v.Err))
				} else if v.Start < t.deleted {
					lacks = append(lacks, fmt.Sprintf("box %d has %v from %d on, and everything before %d was deleted", id, p, v.Start, t.deleted))
				}
			}
		})
	}
	return strings.Join(lacks, "; ")
}

// judge compares all replicas with what was acknowledged and read, and with each other.
func (k *kafka) judge() {
	for _, p := range k.partitions {
		var boxes []uint64
		var start int64 // from where on all have it
		for _, id := range k.w.ids {
			if r := k.w.boxes[id].proc.replicaOf(p); r != nil {
				boxes = append(boxes, id)
				start = max(start, r.View().Start)
			}
		}
		var first []string
		for i, id := range boxes {
			values, err := readValues(k.w.boxes[id].proc.replicaOf(p).View(), start)
			switch {
			case err != nil:
				k.w.failf("%v: box %d: %v", p, id, err)
			case i == 0:
				first = values
				k.judgeValues(p, id, start, values)
			case strings.Join(first, "\n") != strings.Join(values, "\n"):
				k.w.failf("%v: boxes %d and %d have different records from %d on: %s", p, boxes[0], id, start, difference(first, values))
			}
		}
	}
}

// judgeValues looks at a box's records from offset start on.
func (k *kafka) judgeValues(p partitionName, box uint64, start int64, values []string) {
	t := k.truth[p]
	for offset, value := range t.values {
		if offset >= start && (offset-start >= int64(len(values)) || values[offset-start] != value) {
			k.w.failf("%v: box %d: %q at offset %d was acknowledged or read, and is lost", p, box, value, offset)
			return
		}
	}
	next := map[string]int32{}
	for i, value := range values {
		var number int32
		who, err := k.parse(value, p, &number)
		if _, ok := next[who]; !ok && start > 0 {
			next[who] = number // what was before is deleted
		}
		if err == nil && number < next[who] && t.again[value] {
			continue
		}
		if err != nil || number != next[who] {
			k.w.failf("%v: box %d: at offset %d is %q, and record %d of %s is expected: %v", p, box, start+int64(i), value, next[who], who, err)
			return
		}
		next[who]++
	}
}

// readValues reads a log from an offset on.
func readValues(v *replica.View, from int64) ([]string, error) {
	values := []string{}
	for offset := from; offset < v.End; {
		span, err := v.Log.Read(offset, 1<<20, v.End, true)
		if err != nil {
			return nil, err
		}
		b := make([]byte, span.Length)
		_, err = span.File.ReadAt(b, span.Position)
		span.Release()
		if err != nil {
			return nil, err
		}
		s := batch.Scan(b)
		before := offset
		for s.Next() {
			h := s.Header()
			if err := batch.VerifyCRC(s.Bytes()); err != nil {
				return nil, err
			}
			if err := batch.Walk(h, s.Bytes()[batch.HeaderSize:], func(r *batch.Record) error {
				if h.BaseOffset+int64(r.OffsetDelta) >= from {
					values = append(values, string(r.Value))
				}
				return nil
			}); err != nil {
				return nil, err
			}
			offset = h.NextOffset()
		}
		if offset == before {
			return nil, fmt.Errorf("nothing is read at offset %d of %d", offset, v.End)
		}
	}
	return values, nil
}

// difference says where two logs part.
func difference(a, b []string) string {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	around := func(s []string) []string { return s[min(max(i-2, 0), len(s)):min(i+3, len(s))] }
	return fmt.Sprintf("of %d and %d, the first that differs is number %d, in %q and in %q", len(a), len(b), i, around(a), around(b))
}
