package wire

import (
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// fill sets every field of a kmsg struct to something random that an honest client could send.
func fill(t *rapid.T, v reflect.Value, deep int) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			if rapid.IntRange(0, 9).Draw(t, "tag") == 0 {
				v.Addr().Interface().(*kmsg.Tags).Set(rapid.Uint32Range(1000, 1<<32-1).Draw(t, "tag key"), []byte("tag"))
			}
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Version" {
				fill(t, v.Field(i), deep)
			}
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "null") {
			v.SetZero()
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), deep)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "bytes"))
			return
		}
		n := rapid.IntRange(0, 3-min(deep, 2)).Draw(t, "count")
		s := reflect.MakeSlice(v.Type(), n, n)
		for i := range n {
			fill(t, s.Index(i), deep+1)
		}
		v.Set(s)
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(rapid.Byte().Draw(t, "id")))
		}
	case reflect.String:
		v.SetString(rapid.StringN(0, 8, 20).Draw(t, "string"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(rapid.Int64Range(-2, 127).Draw(t, "int"))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(rapid.Uint64Range(0, 255).Draw(t, "uint"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, "float"))
	default:
		t.Fatalf("kind %v", v.Kind())
	}
}

func randomRequest(t *rapid.T, s *Schema, version int16) kmsg.Request {
	req := kmsg.RequestForKey(s.Key)
	fill(t, reflect.ValueOf(req).Elem(), 0)
	req.SetVersion(version)
	return req
}

// TestPrescanAcceptsWhatKmsgWrites holds the schema against kmsg for every API and version: the scan of a body that
// kmsg wrote ends exactly at its end, and any shorter body is refused or decodes.
func TestPrescanAcceptsWhatKmsgWrites(t *testing.T) {
	for _, s := range schemas {
		if s == nil {
			continue
		}
		for version := int16(0); version <= s.MaxVersion; version++ {
			t.Run(kmsg.NameForKey(s.Key), func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					req := randomRequest(t, s, version)
					if got, want := s.Flexible(version), req.IsFlexible(); got != want {
						t.Fatalf("version %d: flexible %v, kmsg says %v", version, got, want)
					}
					body := req.AppendTo(nil)
					sc := scanner{b: body, version: version, flexible: s.Flexible(version), copies: true, limit: 1 << 40}
					sc.record(&s.body)
					if sc.bad != "" || len(sc.b) != 0 {
						t.Fatalf("key %d version %d: %d of %d bytes left, %s: %+v", s.Key, version, len(sc.b), len(body), sc.bad, req)
					}
					cut := rapid.IntRange(0, len(body)).Draw(t, "cut")
					if _, err := Prescan(s, version, body[:cut], false); err == nil {
						fresh := kmsg.RequestForKey(s.Key)
						fresh.SetVersion(version)
						if err := fresh.ReadFrom(body[:cut]); err != nil {
							t.Fatalf("key %d version %d: prescan accepts %x, kmsg: %v", s.Key, version, body[:cut], err)
						}
					} else if cut == len(body) {
						t.Fatalf("key %d version %d: %v", s.Key, version, err)
					}
				})
			})
		}
	}
}

// TestPrescanRefusesBombs are the two measured attacks on kmsg, and their relatives.
func TestPrescanRefusesBombs(t *testing.T) {
	tenMiB := make([]byte, 10<<20)
	binary.BigEndian.PutUint16(tenMiB, 0xffff)   // null transactional id
	binary.BigEndian.PutUint16(tenMiB[2:], 1)    // acks
	binary.BigEndian.PutUint32(tenMiB[4:], 1000) // timeout
	topics := append([]byte(nil), tenMiB...)
	binary.BigEndian.PutUint32(topics[8:], uint32(len(topics)-12)) // as many topics as there are bytes
	small := append([]byte(nil), tenMiB...)
	binary.BigEndian.PutUint32(small[8:], uint32(len(topics)-12)/6) // empty names, no partitions: honest bytes, ten times the memory
	cases := []struct {
		name    string
		key     int16
		version int16
		body    []byte
	}{
		{"2^32-1 tags in ApiVersions", 18, 3, []byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}},
		{"10 MiB of topics in Produce", 0, 3, topics},
		{"10 MiB of empty topics in Produce", 0, 3, small},
		{"negative count", 3, 1, []byte{0xff, 0xff, 0xff, 0xfe}},
		{"count of 2^31-1", 3, 1, []byte{0x7f, 0xff, 0xff, 0xff}},
		{"string beyond the end", 10, 0, []byte{0x7f, 0xff, 'a'}},
		{"null group", 10, 0, []byte{0xff, 0xff}},
		{"endless varint", 18, 3, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"the same tag twice", 18, 3, []byte{1, 1, 2, 5, 0, 5, 0}},
		{"33 unknown tags", 18, 3, manyTags(33)},
		{"empty", 1, 4, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := SchemaOf(c.key)
			if n := testing.AllocsPerRun(1, func() { _, _ = Prescan(s, c.version, c.body, true) }); n > 16 {
				t.Errorf("%v allocations to refuse", n)
			}
			if d, err := Prescan(s, c.version, c.body, true); err == nil {
				t.Errorf("accepted, would decode into %d bytes", d)
			}
		})
	}
	if _, err := Prescan(SchemaOf(18), 3, manyTags(32), true); err != nil {
		t.Errorf("32 unknown tags must be skipped: %v", err)
	}
}

func manyTags(n int) []byte {
	b := []byte{1, 1, byte(n)}
	for i := range n {
		b = append(b, byte(i+40), 0)
	}
	return b
}

func TestHeader(t *testing.T) {
	id := "client"
	for _, c := range []struct {
		name     string
		b        []byte
		flexible bool
		id       *string
		rest     string
		fails    bool
	}{
		{name: "null client id", b: []byte("\x00\x12\x00\x00\x00\x00\x00\x07\xff\xffbody"), rest: "body"},
		{name: "client id", b: []byte("\x00\x12\x00\x00\x00\x00\x00\x07\x00\x06clientbody"), id: &id, rest: "body"},
		{name: "unknown tags are skipped", b: []byte("\x00\x12\x00\x03\x00\x00\x00\x07\x00\x06client\x01\x63\x02xxbody"), flexible: true, id: &id, rest: "body"},
		{name: "no client id", b: []byte("\x00\x12\x00\x00\x00\x00\x00\x07"), fails: true},
		{name: "client id beyond the end", b: []byte("\x00\x12\x00\x00\x00\x00\x00\x07\x00\x09client"), fails: true},
		{name: "length -2", b: []byte("\x00\x12\x00\x00\x00\x00\x00\x07\xff\xfeclient"), fails: true},
		{name: "tag bomb", b: []byte("\x00\x12\x00\x03\x00\x00\x00\x07\xff\xff\xff\xff\xff\xff\x0f"), flexible: true, fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, rest, err := ParseHeader(c.b, c.flexible)
			if (err != nil) != c.fails {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				return
			}
			if h.Key != 18 || h.Correlation != 7 || string(rest) != c.rest || (h.ClientID == nil) != (c.id == nil) ||
				(c.id != nil && string(h.ClientID) != *c.id) {
				t.Errorf("%+v, rest %q", h, rest)
			}
		})
	}
}

func TestFrameLength(t *testing.T) {
	for _, c := range []struct {
		b  [4]byte
		ok bool
	}{
		{[4]byte{0, 0, 0, 8}, true}, {[4]byte{0, 0, 0, 7}, false}, {[4]byte{0, 0, 4, 0}, true}, {[4]byte{0, 0, 4, 1}, false},
		{[4]byte{0x80, 0, 0, 8}, false}, {[4]byte{0xff, 0xff, 0xff, 0xff}, false}, {[4]byte{'G', 'E', 'T', ' '}, false},
	} {
		if _, err := FrameLength(c.b, 1024); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.b, err)
		}
	}
}

// FuzzPrescan holds the scan against kmsg for every API: what is accepted decodes, to the memory that was said, up to
// what rounding and copies of the header cost.
func FuzzPrescan(f *testing.F) {
	for _, s := range schemas {
		if s == nil {
			continue
		}
		for version := int16(0); version <= s.MaxVersion; version++ {
			req := kmsg.RequestForKey(s.Key)
			req.SetVersion(version)
			f.Add(s.Key, version, req.AppendTo(nil))
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		s := SchemaOf(key)
		if s == nil || version < 0 || version > s.MaxVersion {
			return
		}
		decoded, err := Prescan(s, version, body, false)
		if err != nil {
			return
		}
		if decoded > DecodedFactor*int64(len(body))+DecodedSlack {
			t.Fatalf("%d bytes from %d", decoded, len(body))
		}
		req := kmsg.RequestForKey(key)
		req.SetVersion(version)
		if err := req.ReadFrom(body); err != nil {
			t.Fatalf("key %d version %d: accepted, but %v", key, version, err)
		}
	})
}

func BenchmarkPrescanFetch(b *testing.B) {
	req := kmsg.NewPtrFetchRequest()
	t := kmsg.NewFetchRequestTopic()
	for range 100 {
		t.Partitions = append(t.Partitions, kmsg.NewFetchRequestTopicPartition())
	}
	req.Topics = append(req.Topics, t)
	req.Version = 12
	body := req.AppendTo(nil)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Prescan(SchemaOf(1), 12, body, true); err != nil {
			b.Fatal(err)
		}
	}
}
