package coordinator

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kerr"
)

// load is the reading of a partition, off the owner. It owns what it builds until the owner is sent it.
type load struct {
	partition int32
	life      uint64
	log       Log
	epoch     int32
	bytes     int // read at a time
	openMax   int
	at        group.Time
	stop      atomic.Bool // set by the owner when nobody wants the result

	groups  *group.Groups
	end     int64 // what was read up to
	records int
	skipped int   // records that made no sense
	example error // why the first of them did not
	err     error
}

// lead begins with a partition.
func (o *owner) lead(partition int32, log Log, epoch int32) {
	if o.draining {
		return
	}
	p, i := o.find(partition)
	if p == nil {
		p = &part{id: partition, waiting: map[group.Ticket]waiter{}}
		o.parts = append(o.parts, nil)
		copy(o.parts[i+1:], o.parts[i:])
		o.parts[i] = p
	} else if p.epoch == epoch && p.log == log && p.phase != suspended {
		return // said twice
	}
	o.unload(p)
	o.fail(p, kerr.NotCoordinator)
	p.log, p.epoch, p.failures, p.gone = log, epoch, 0, false
	o.begin(p)
}

// begin reads the partition from its start.
func (o *owner) begin(p *part) {
	o.lives++
	p.life, p.phase = o.lives, loading
	p.load = &load{
		partition: p.id, life: p.life, log: p.log, epoch: p.epoch, bytes: o.cfg.Limits.LoadBytes,
		openMax: o.cfg.Limits.OpenBatchBytesMax, at: o.time(), groups: group.New(o.settings, o.cfg.Limits),
	}
	l := p.load
	o.metrics.loads.Inc()
	o.deps.Runtime.Spawn("load groups", l.run, func() { o.box.Post(message{kind: msgLoaded, load: l}) })
}

// unload forgets what is in memory of a partition. Completions that are under way will find another life.
func (o *owner) unload(p *part) {
	if p.load != nil {
		p.load.stop.Store(true)
	}
	o.lives++
	p.life, p.load, p.groups, p.inFlight, p.expireAt = o.lives, nil, nil, 0, 0
}

// drop ends a partition here.
func (o *owner) drop(partition int32, err *kerr.Error) {
	p, i := o.find(partition)
	if p == nil {
		return
	}
	o.unload(p)
	o.fail(p, err)
	o.parts = append(o.parts[:i], o.parts[i+1:]...)
}

// errStopped ends a load that nobody waits for.
var errStopped = errors.New("load stopped")

// run reads and replays. It runs on a goroutine of its own.
func (l *load) run() {
	v, err := l.log.View(l.epoch)
	if err != nil {
		l.err = err
		return
	}
	l.end = v.End
	var opener batch.Opener
	var buf []byte
	for offset := v.Start; offset < v.End; {
		if l.stop.Load() {
			l.err = errStopped
			return
		}
		if buf, err = l.log.Read(offset, l.bytes, buf); err != nil {
			l.err = fmt.Errorf("read groups at offset %d: %w", offset, err)
			return
		}
		next, err := l.replay(buf, offset, &opener)
		if err != nil {
			l.err = fmt.Errorf("load groups at offset %d: %w", next, err)
			return
		}
		if next <= offset {
			if len(buf) == 0 {
				return // nothing but gaps up to the end
			}
			l.err = fmt.Errorf("load groups at offset %d: %w", offset, batch.ErrTruncated)
			return
		}
		offset = next
	}
}

// replay takes whole batches off b and returns the offset after them. A batch that is damaged ends the load: going on
// without it could bring back what it had replaced.
func (l *load) replay(b []byte, offset int64, opener *batch.Opener) (int64, error) {
	s := batch.Scan(b)
	for s.Next() {
		h, whole := s.Header(), s.Bytes()
		if h.NextOffset() <= offset {
			continue
		}
		if err := batch.VerifyCRC(whole); err != nil {
			return offset, err
		}
		if err := l.replayBatch(h, whole, opener); err != nil {
			return offset, err
		}
		offset = h.NextOffset()
	}
	return offset, s.Err()
}

func (l *load) replayBatch(h *batch.Header, whole []byte, opener *batch.Opener) error {
	if h.Attributes.Control() {
		if h.Count == 0 {
			return nil // compaction has left it, for its producer's sake
		}
		marker, err := batch.ReadMarker(h, whole)
		if err != nil {
			l.skip(err)
			return nil
		}
		if marker.Type == batch.Commit || marker.Type == batch.Abort {
			l.groups.EndTransaction(h.ProducerID, marker.Type == batch.Commit)
		}
		return nil
	}
	producer := int64(-1)
	if h.Attributes.Transactional() {
		producer = h.ProducerID
	}
	records, err := opener.Records(h, whole, l.openMax)
	if err != nil {
		return err
	}
	return batch.Walk(h, records, func(r *batch.Record) error {
		l.records++
		if err := l.groups.Replay(l.at, h.BaseOffset+int64(r.OffsetDelta), producer, r.Key, r.Value); err != nil {
			l.skip(err)
		}
		return nil
	})
}

func (l *load) skip(err error) {
	if l.skipped++; l.example == nil {
		l.example = err
	}
}

// loaded takes what was read.
func (o *owner) loaded(l *load) {
	p, _ := o.find(l.partition)
	if p == nil || p.life != l.life {
		return
	}
	if l.err != nil {
		o.suspend(p, l.err, "cannot load the groups of a partition")
		return
	}
	p.phase = catchUp
}

// catchUpPoll is how often the high watermark is looked at after a load. It is behind only for a moment.
const catchUpPoll = 5 * time.Millisecond

// tryActivate lets a partition answer once all that was read is committed: who fetches an offset must not be told of
// one that another leader might not have.
func (o *owner) tryActivate(p *part) (wake time.Duration) {
	l := p.load
	v, err := p.log.View(p.epoch)
	if err != nil {
		o.suspend(p, err, "cannot load the groups of a partition")
		return p.retryAt
	}
	if v.Committed < l.end {
		return o.now.Mono + catchUpPoll
	}
	p.groups, p.load, p.phase, p.gone = l.groups, nil, active, false
	p.groups.Configure(o.settings, o.cfg.Limits.BytesMax-o.metrics.bytes.Load())
	p.groups.Loaded(o.time())
	p.deletedIn = 0
	o.deleteTopics(p, p.deleted)
	took := o.now.Mono - l.at.Mono
	o.metrics.loadSeconds.Observe(took.Seconds())
	o.deps.Observer.Log.Info("groups loaded", "partition", p.id, "epoch", p.epoch, "groups", p.groups.Len(),
		"offsets", p.groups.Offsets(), "records", l.records, "took", took)
	if l.skipped > 0 {
		o.deps.Observer.Log.Warn("records of a group partition made no sense and were left out",
			"partition", p.id, "count", l.skipped, "first", l.example)
	}
	return o.settle(p)
}
