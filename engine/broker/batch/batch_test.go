package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

type row struct {
	ts         int64
	key, value []byte
	headers    []HeaderField
}

func nullable(t *rapid.T, label string, max int) []byte {
	if rapid.Bool().Draw(t, label+" null") {
		return nil
	}
	return rapid.SliceOfN(rapid.Byte(), 0, max).Draw(t, label)
}

func drawRows(t *rapid.T) []row {
	n := rapid.IntRange(1, 20).Draw(t, "records")
	rows := make([]row, n)
	base := rapid.Int64Range(-1, 1<<42).Draw(t, "base")
	for i := range rows {
		rows[i] = row{
			ts:    base + rapid.Int64Range(-1<<40, 1<<40).Draw(t, "delta"),
			key:   nullable(t, "key", 20),
			value: nullable(t, "value", 300),
		}
		for range rapid.IntRange(0, 3).Draw(t, "headers") {
			rows[i].headers = append(rows[i].headers, HeaderField{
				Key:   rapid.StringN(0, 10, 20).Draw(t, "header key"),
				Value: nullable(t, "header value", 10),
			})
		}
	}
	return rows
}

func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// Encode and decode are inverse for every codec, and what the header says is what the records hold.
func TestBuildThenOpenIsIdentity(t *testing.T) {
	var opener Opener
	rapid.Check(t, func(t *rapid.T) {
		rows := drawRows(t)
		opts := NewOptions()
		opts.BaseOffset = rapid.Int64Range(0, math.MaxInt64-100).Draw(t, "base offset")
		opts.Codec = Codec(rapid.IntRange(0, 4).Draw(t, "codec"))
		opts.ProducerID = rapid.Int64Range(-1, 1<<40).Draw(t, "producer")
		if opts.ProducerID >= 0 {
			opts.BaseSequence = rapid.Int32Range(0, math.MaxInt32).Draw(t, "sequence")
		}
		b := NewBuilder(opts)
		lowest, highest := int64(math.MaxInt64), int64(math.MinInt64)
		for _, r := range rows {
			b.Append(r.ts, r.key, r.value, r.headers...)
			lowest, highest = min(lowest, r.ts), max(highest, r.ts)
		}
		prefix := []byte("prefix")
		out, err := b.Build(prefix)
		if err != nil {
			t.Fatal(err)
		}
		out = out[len(prefix):]
		if err := VerifyCRC(out); err != nil {
			t.Fatal(err)
		}
		h, err := Parse(out)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.CheckProduced(len(out)); err != nil {
			t.Fatal(err)
		}
		if h.Size() != len(out) || h.BaseOffset != opts.BaseOffset || int(h.Count) != len(rows) || h.MaxTimestamp != highest ||
			h.Attributes.Codec() != opts.Codec || h.ProducerID != opts.ProducerID || h.BaseSequence != opts.BaseSequence {
			t.Fatalf("header %+v of %+v", h, opts)
		}
		records, err := opener.Records(&h, out, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		s, err := CheckRecords(&h, records)
		if err != nil {
			t.Fatal(err)
		}
		if s.MaxTimestamp != highest || s.MinTimestamp != lowest {
			t.Fatalf("summary %+v, want %d..%d", s, lowest, highest)
		}
		i := 0
		if err := Walk(&h, records, func(r *Record) error {
			want := rows[i]
			if r.Timestamp(&h) != want.ts || !sameBytes(r.Key, want.key) || !sameBytes(r.Value, want.value) || r.HeaderCount() != len(want.headers) {
				t.Fatalf("record %d: %+v, want %+v", i, r, want)
			}
			for j, f := range r.Headers() {
				if f.Key != want.headers[j].Key || !sameBytes(f.Value, want.headers[j].Value) {
					t.Fatalf("record %d header %d: %+v, want %+v", i, j, f, want.headers[j])
				}
			}
			i++
			return nil
		}); err != nil || i != len(rows) {
			t.Fatalf("walked %d of %d: %v", i, len(rows), err)
		}
	})
}

// What we build, kmsg reads: an encoder and a decoder that share a mistake would agree.
func TestKmsgReadsWhatWeBuild(t *testing.T) {
	opts := NewOptions()
	opts.BaseOffset, opts.LeaderEpoch, opts.ProducerID, opts.ProducerEpoch, opts.BaseSequence = 42, 7, 99, 3, 1000
	b := NewBuilder(opts)
	b.Append(1_700_000_000_000, []byte("k"), []byte("v"), HeaderField{"h", []byte("x")}, HeaderField{"n", nil})
	b.Append(1_700_000_000_500, nil, []byte{})
	out, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	var theirs kmsg.RecordBatch
	if err := theirs.ReadFrom(out); err != nil {
		t.Fatal(err)
	}
	if theirs.FirstOffset != 42 || theirs.PartitionLeaderEpoch != 7 || theirs.ProducerID != 99 || theirs.ProducerEpoch != 3 ||
		theirs.FirstSequence != 1000 || theirs.NumRecords != 2 || theirs.LastOffsetDelta != 1 ||
		theirs.FirstTimestamp != 1_700_000_000_000 || theirs.MaxTimestamp != 1_700_000_000_500 || uint32(theirs.CRC) != Checksum(out) {
		t.Fatalf("kmsg reads %+v", theirs)
	}
	records := theirs.Records
	for i := range 2 {
		var r kmsg.Record
		length, n := kbin.Varint(records)
		if err := r.ReadFrom(records[:n+int(length)]); err != nil {
			t.Fatal(err)
		}
		records = records[n+int(length):]
		if int(r.OffsetDelta) != i || r.TimestampDelta64 != int64(i)*500 {
			t.Fatalf("record %d: %+v", i, r)
		}
		if i == 0 && (string(r.Key) != "k" || string(r.Value) != "v" || len(r.Headers) != 2 || r.Headers[1].Value != nil) {
			t.Fatalf("record %d: %+v", i, r)
		}
	}
	if len(records) != 0 {
		t.Fatalf("%d bytes left", len(records))
	}
}

func TestStampingKeepsTheCRC(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBuilder(NewOptions())
		for _, r := range drawRows(t) {
			b.Append(r.ts, r.key, r.value, r.headers...)
		}
		out, _ := b.Build(nil)
		before := bytes.Clone(out)
		offset := rapid.Int64Range(0, 1<<60).Draw(t, "offset")
		epoch := rapid.Int32Range(0, math.MaxInt32).Draw(t, "epoch")
		Stamp(out, offset, epoch)
		if err := VerifyCRC(out); err != nil {
			t.Fatal(err)
		}
		h, err := Parse(out)
		if err != nil || h.BaseOffset != offset || h.LeaderEpoch != epoch {
			t.Fatalf("%+v %v", h, err)
		}
		if !bytes.Equal(before[16:], out[16:]) || !bytes.Equal(before[8:12], out[8:12]) {
			t.Fatal("stamping changed more than base offset and leader epoch")
		}
		StampLogAppendTime(out, 12345)
		if err := VerifyCRC(out); err != nil {
			t.Fatal(err)
		}
		h, _ = Parse(out)
		if !h.Attributes.LogAppendTime() || h.MaxTimestamp != 12345 {
			t.Fatalf("%+v", h)
		}
		if s, err := CheckRecords(&h, out[HeaderSize:]); err != nil || s.MaxTimestamp != 12345 || s.MinTimestamp != 12345 {
			t.Fatalf("%+v %v", s, err)
		}
	})
}

func buildOne(t testing.TB, codec Codec, values ...string) []byte {
	t.Helper()
	opts := NewOptions()
	opts.Codec = codec
	b := NewBuilder(opts)
	for i, v := range values {
		b.Append(int64(1000+i), []byte("key"), []byte(v))
	}
	out, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParseRefuses(t *testing.T) {
	good := buildOne(t, None, "a", "b")
	for _, c := range []struct {
		name string
		edit func(b []byte) []byte
		want error
	}{
		{"short", func(b []byte) []byte { return b[:60] }, ErrTruncated},
		{"empty", func(b []byte) []byte { return nil }, ErrTruncated},
		{"magic 1", func(b []byte) []byte { b[16] = 1; return b }, ErrMagic},
		{"magic 3", func(b []byte) []byte { b[16] = 3; return b }, ErrMagic},
		{"length 48", func(b []byte) []byte { binary.BigEndian.PutUint32(b[8:], 48); return b }, ErrCorrupt},
		{"length negative", func(b []byte) []byte { binary.BigEndian.PutUint32(b[8:], 1<<31); return b }, ErrCorrupt},
		{"length greatest", func(b []byte) []byte { binary.BigEndian.PutUint32(b[8:], math.MaxInt32); return b }, ErrCorrupt},
		{"last delta negative", func(b []byte) []byte { binary.BigEndian.PutUint32(b[23:], math.MaxUint32); return b }, ErrCorrupt},
		{"count over delta", func(b []byte) []byte { binary.BigEndian.PutUint32(b[57:], 3); return b }, ErrCorrupt},
		{"count negative", func(b []byte) []byte { binary.BigEndian.PutUint32(b[57:], 1<<31); return b }, ErrCorrupt},
		{"offset overflow", func(b []byte) []byte { binary.BigEndian.PutUint64(b, math.MaxInt64); return b }, ErrCorrupt},
		{"codec 5", func(b []byte) []byte { b[22] |= 5; return b }, ErrCodec},
	} {
		if _, err := Parse(c.edit(bytes.Clone(good))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	for i := range good[16:] { // every byte that the CRC covers, and the CRC itself
		if i == 0 {
			continue
		}
		bad := bytes.Clone(good)
		bad[16+i] ^= 0x40
		if err := VerifyCRC(bad); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d changed: %v", 16+i, err)
		}
	}
}

func TestCheckProducedRefuses(t *testing.T) {
	good, _ := Parse(buildOne(t, None, "a", "b"))
	for _, c := range []struct {
		name string
		edit func(h *Header)
		want error
	}{
		{"fits", func(h *Header) {}, nil},
		{"too large", func(h *Header) { h.Length = 1000 }, ErrTooLarge},
		{"no records", func(h *Header) { h.Count = 0 }, ErrInvalid},
		{"compacted", func(h *Header) { h.Count = 1 }, ErrInvalid},
		{"control", func(h *Header) { h.Attributes |= controlBit }, ErrInvalid},
		{"delete horizon", func(h *Header) { h.Attributes |= deleteHorizonBit }, ErrInvalid},
		{"sequence missing", func(h *Header) { h.ProducerID = 4 }, ErrInvalid},
		{"transactional without id", func(h *Header) { h.Attributes |= transactionalBit }, ErrInvalid},
		{"idempotent", func(h *Header) { h.ProducerID, h.BaseSequence = 4, 0 }, nil},
	} {
		h := good
		c.edit(&h)
		if err := h.CheckProduced(500); !errors.Is(err, c.want) || (c.want == nil && err != nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestCheckRecordsRefuses(t *testing.T) {
	record := func(parts ...int64) []byte { // attributes and varints, with their length in front
		body := []byte{0}
		for _, p := range parts {
			body = binary.AppendVarint(body, p)
		}
		return append(binary.AppendVarint(nil, int64(len(body))), body...)
	}
	good0, good1 := record(0, 0, -1, -1, 0), record(0, 1, -1, -1, 0)
	for _, c := range []struct {
		name    string
		count   int32
		records []byte
		ok      bool
	}{
		{"two", 2, append(bytes.Clone(good0), good1...), true},
		{"one missing", 2, good0, false},
		{"one too many", 1, append(bytes.Clone(good0), good1...), false},
		{"delta repeated", 2, append(bytes.Clone(good0), good0...), false},
		{"starts at 1", 1, good1, false},
		{"key beyond record", 1, record(0, 0, 100, -1, 0), false},
		{"key length -2", 1, record(0, 0, -2, -1, 0), false},
		{"headers negative", 1, record(0, 0, -1, -1, -1), false},
		{"headers without bytes", 1, record(0, 0, -1, -1, 1000), false},
		{"header key null", 1, record(0, 0, -1, -1, 1, -1, -1), false},
		{"left over inside", 1, record(0, 0, -1, -1, 0, 0), false},
		{"delta over int32", 1, record(0, 1<<33, -1, -1, 0), false},
		{"length over bytes", 1, []byte{100, 0, 0, 0, 1, 1, 0}, false},
		{"length negative", 1, []byte{1, 0, 0, 0, 1, 1, 0}, false},
		{"endless varint", 1, bytes.Repeat([]byte{0xff}, 20), false},
		{"count claims more than fits", math.MaxInt32, good0, false},
		{"empty", 1, nil, false},
	} {
		h := Header{Count: c.count, LastOffsetDelta: c.count - 1}
		_, err := CheckRecords(&h, c.records)
		if (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrInvalid)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	h := Header{Count: 2, LastOffsetDelta: 1}
	_, err := CheckRecords(&h, append(bytes.Clone(good0), good0...))
	var at *RecordError
	if !errors.As(err, &at) || at.Index != 1 {
		t.Errorf("the record at fault is not named: %v", err)
	}
	s, err := CheckRecords(&h, append(bytes.Clone(good0), good1...))
	if err != nil || s.NullKeys != 2 || s.FirstNullKey != 0 {
		t.Errorf("null keys: %+v %v", s, err)
	}
}

func TestScanToleratesACutTail(t *testing.T) {
	one, two := buildOne(t, None, "a"), buildOne(t, None, "b", "c")
	Stamp(two, 1, 0)
	all := append(bytes.Clone(one), two...)
	for cut := range len(all) + 1 {
		s := Scan(all[:cut])
		n := 0
		for s.Next() {
			n++
		}
		wantN, wantTail := 0, cut
		if cut >= len(one) {
			wantN, wantTail = 1, cut-len(one)
		}
		if cut == len(all) {
			wantN, wantTail = 2, 0
		}
		if n != wantN || s.Tail() != wantTail || s.Err() != nil {
			t.Fatalf("cut at %d: %d batches, tail %d, %v; want %d, %d", cut, n, s.Tail(), s.Err(), wantN, wantTail)
		}
	}
	all[len(one)+16] = 9
	s := Scan(all)
	if !s.Next() || s.Next() || !errors.Is(s.Err(), ErrMagic) || s.Position() != len(one) {
		t.Fatalf("damage not reported: position %d, %v", s.Position(), s.Err())
	}
}

func TestMarkers(t *testing.T) {
	opts := NewOptions()
	opts.BaseOffset, opts.ProducerID, opts.ProducerEpoch = 17, 5, 2
	for _, m := range []Marker{{Abort, 3}, {Commit, 0}} {
		b, err := BuildMarker(nil, opts, 1000, m)
		if err != nil {
			t.Fatal(err)
		}
		h, err := Parse(b)
		if err != nil || VerifyCRC(b) != nil || !h.Attributes.Control() || !h.Attributes.Transactional() || h.NextOffset() != 18 {
			t.Fatalf("%+v %v", h, err)
		}
		if got, err := ReadMarker(&h, b); err != nil || got != m {
			t.Fatalf("%+v %v, want %+v", got, err, m)
		}
		var key kmsg.ControlRecordKey
		var r Record
		if _, err := ReadRecord(b[HeaderSize:], &r); err != nil {
			t.Fatal(err)
		}
		if err := key.ReadFrom(r.Key); err != nil || int8(key.Type) != int8(m.Type) {
			t.Fatalf("kmsg reads key %+v %v", key, err)
		}
		var end kmsg.EndTxnMarker
		if err := end.ReadFrom(r.Value); err != nil || end.CoordinatorEpoch != m.CoordinatorEpoch {
			t.Fatalf("kmsg reads value %+v %v", end, err)
		}
	}
	plain := buildOne(t, None, "x")
	h, _ := Parse(plain)
	if _, err := ReadMarker(&h, plain); !errors.Is(err, ErrInvalid) {
		t.Fatalf("a plain batch is no marker: %v", err)
	}
}

// A few hundred bytes must not unpack to more than the bound, for any codec.
func TestBombsAreBounded(t *testing.T) {
	big := string(make([]byte, 32<<20))
	for codec := Gzip; codec <= Zstd; codec++ {
		b := buildOne(t, codec, big)
		h, _ := Parse(b)
		var o Opener
		if _, err := o.Records(&h, b, 1<<20); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: %v", codec, err)
		}
		if cap(o.buf) > 4<<20 {
			t.Errorf("%v: %d bytes kept", codec, cap(o.buf))
		}
		if got, err := o.Records(&h, b, 40<<20); err != nil || len(got) < len(big) {
			t.Errorf("%v: %d bytes, %v", codec, len(got), err)
		}
		cut := bytes.Clone(b[:len(b)-len(b)/3])
		binary.BigEndian.PutUint32(cut[8:], uint32(len(cut)-PrefixSize))
		h, _ = Parse(cut)
		if _, err := o.Records(&h, cut, 40<<20); !errors.Is(err, ErrCodec) {
			t.Errorf("%v cut: %v", codec, err)
		}
	}
	// A snappy block that claims 4 GiB in ten bytes.
	claim := append(make([]byte, HeaderSize), 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0)
	h := Header{Length: int32(len(claim) - PrefixSize), Attributes: Attributes(Snappy)}
	var o Opener
	if _, err := o.Records(&h, claim, 1<<30); err == nil {
		t.Error("a lying snappy block was opened")
	}
}

func TestSequenceWraps(t *testing.T) {
	for _, c := range []struct{ base, n, want int32 }{
		{0, 0, 0}, {5, 3, 8}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 3, 1}, {math.MaxInt32, math.MaxInt32, math.MaxInt32 - 1},
	} {
		if got := AddSequence(c.base, c.n); got != c.want {
			t.Errorf("%d+%d = %d, want %d", c.base, c.n, got, c.want)
		}
	}
}

func TestCheckingAllocatesNothing(t *testing.T) {
	b := buildOne(t, None, "a", "bb", "ccc")
	if n := testing.AllocsPerRun(100, func() {
		h, err := Parse(b)
		if err == nil {
			err = VerifyCRC(b)
		}
		if err == nil {
			_, err = CheckRecords(&h, b[HeaderSize:])
		}
		Stamp(b, 7, 1)
		s := Scan(b)
		for s.Next() {
		}
		if err != nil || s.Err() != nil {
			t.Fatal(err, s.Err())
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzBatch: no input makes any decoder panic, and what passes every check survives re-reading.
func FuzzBatch(f *testing.F) {
	for codec := None; codec <= Zstd; codec++ {
		f.Add(buildOne(f, codec, "a", "bb", "ccc"))
	}
	opts := NewOptions()
	opts.ProducerID = 1
	marker, _ := BuildMarker(nil, opts, 1, Marker{Commit, 1})
	f.Add(marker)
	lowest := buildOne(f, None, "a") // the least base offset there is: a check that subtracts from it wraps
	binary.BigEndian.PutUint64(lowest, 1<<63)
	f.Add(lowest)
	var o Opener
	f.Fuzz(func(t *testing.T, b []byte) {
		s := Scan(b)
		for s.Next() {
			h := *s.Header()
			if h.Size() != len(s.Bytes()) || h.NextOffset() <= h.BaseOffset {
				t.Fatalf("header %+v of %d bytes", h, len(s.Bytes()))
			}
			_ = VerifyCRC(s.Bytes())
			_, _ = ReadMarker(&h, s.Bytes())
			records, err := o.Records(&h, s.Bytes(), 1<<16)
			if err != nil {
				continue
			}
			if len(records) > 1<<16 && h.Attributes.Codec() != None {
				t.Fatalf("unpacked %d bytes", len(records))
			}
			if _, err := CheckRecords(&h, records); err == nil {
				n := 0
				if err := Walk(&h, records, func(r *Record) error { n++; _ = r.Headers(); return nil }); err != nil || n != int(h.Count) {
					t.Fatalf("checked but not walkable: %d of %d, %v", n, h.Count, err)
				}
			}
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			batch := buildOne(b, None, string(make([]byte, size)))
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				h, err := Parse(batch)
				if err != nil || VerifyCRC(batch) != nil {
					b.Fatal(err)
				}
				if _, err := CheckRecords(&h, batch[HeaderSize:]); err != nil {
					b.Fatal(err)
				}
				Stamp(batch, 7, 1)
			}
		})
	}
}
