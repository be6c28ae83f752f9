package jute

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"runtime"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// records are one of each, with null and empty values where they differ.
func records() []Record {
	stat := Stat{1, 2, 3, 4, 5, -6, 7, 8, 9, 10, 11}
	acl := []ACL{{PermAll, AnyoneID()}, {PermRead, ID{SchemeDigest, "bob:x"}}}
	return []Record{
		&RequestHeader{-8, OpSetWatches}, &ReplyHeader{7, 1 << 40, NoNode},
		&ConnectRequest{0, 5, 4000, 6, make([]byte, 16), true, true}, &ConnectRequest{0, 5, 4000, 6, nil, false, false},
		&ConnectResponse{0, 4000, 6, make([]byte, 16), false, true}, &ConnectResponse{0, 0, 0, make([]byte, 16), false, false},
		&WatcherEvent{EventNodeDeleted, StateSyncConnected, "/a"},
		&CreateRequest{"/a", nil, nil, 0}, &CreateRequest{"/a", []byte{}, []ACL{}, 3}, &CreateRequest{"/a", []byte("x"), acl, 1},
		&CreateTTLRequest{CreateRequest{"/a", []byte("x"), acl, 5}, 1000},
		&PathVersionRequest{"/a", -1}, &PathWatchRequest{"/a", true}, &PathRequest{"/a"}, &PathTypeRequest{"/a", 4},
		&SetDataRequest{"/a", nil, 3}, &SetACLRequest{"/a", acl, 3}, &ReconfigRequest{"a", "", "c", -1},
		&AuthPacket{0, "digest", []byte("a:b")}, &SASLToken{[]byte{}}, &SASLToken{nil},
		&SetWatchesRequest{7, []string{"/a"}, []string{}, nil},
		&SetWatches2Request{SetWatchesRequest{7, nil, nil, nil}, []string{"/p"}, []string{"/r", ""}},
		&Create2Response{"/a", stat}, &GetDataResponse{nil, stat}, &GetDataResponse{[]byte{}, stat}, &GetACLResponse{acl, stat},
		&GetChildrenResponse{[]string{}}, &GetChildren2Response{[]string{"a", "b"}, stat}, &Int32Response{-121},
		&WhoAmIResponse{[]ClientInfo{{"ip", "10.0.0.1"}}}, &WhoAmIResponse{}, &stat, &ID{"a", "b"},
	}
}

// Every record decodes to itself, uses all its bytes, and is malformed when cut short.
func TestRoundTrip(t *testing.T) {
	for _, rec := range records() {
		b := rec.Append([]byte("before"))[6:]
		back := reflect.New(reflect.TypeOf(rec).Elem()).Interface().(Record)
		r := NewReader(b)
		back.Read(r)
		if r.Err() != nil || r.Remaining() != 0 || !reflect.DeepEqual(rec, back) {
			t.Errorf("%T: %+v\nread %+v, %d bytes remain, %v", rec, rec, back, r.Remaining(), r.Err())
		}
		for n := range b {
			if c, ok := rec.(*ConnectRequest); ok && c.HasReadOnly && n == len(b)-1 {
				continue // the form of old clients
			}
			if c, ok := rec.(*ConnectResponse); ok && c.HasReadOnly && n == len(b)-1 {
				continue
			}
			r := NewReader(b[:n])
			back.Read(r)
			if !errors.Is(r.Err(), ErrMalformed) {
				t.Errorf("%T cut to %d of %d bytes: %v", rec, n, len(b), r.Err())
			}
		}
	}
}

// The exact bytes of a few records, written down from the protocol and not from this package.
func TestWireForm(t *testing.T) {
	for _, c := range []struct {
		rec  Record
		want string
	}{
		{&RequestHeader{1, OpCreate}, "\x00\x00\x00\x01\x00\x00\x00\x01"},
		{&ReplyHeader{-1, 2, NoNode}, "\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x02\xff\xff\xff\x9b"},
		{&PathWatchRequest{"/a", true}, "\x00\x00\x00\x02/a\x01"},
		{&SetDataRequest{"/a", nil, -1}, "\x00\x00\x00\x02/a\xff\xff\xff\xff\xff\xff\xff\xff"},
		{&SetDataRequest{"/a", []byte{}, -1}, "\x00\x00\x00\x02/a\x00\x00\x00\x00\xff\xff\xff\xff"},
		{&MultiHeader{OpError, true, -1}, "\xff\xff\xff\xff\x01\xff\xff\xff\xff"},
	} {
		if got := c.rec.Append(nil); string(got) != c.want {
			t.Errorf("%+v is %x, want %x", c.rec, got, c.want)
		}
	}
	if n := len((&Stat{}).Append(nil)); n != StatSize {
		t.Errorf("a Stat takes %d bytes", n)
	}
	if n := len((&ConnectRequest{Passwd: make([]byte, 16)}).Append(nil)); n != 44 {
		t.Errorf("an old ConnectRequest takes %d bytes", n)
	}
}

func ops() []Op {
	return []Op{
		{Type: OpCreate, Path: "/a", Data: []byte{}, ACL: OpenACL(), Flags: 1},
		{Type: OpCreate2, Path: "/b", ACL: []ACL{}},
		{Type: OpCreateContainer, Path: "/c", ACL: OpenACL(), Flags: 4},
		{Type: OpCreateTTL, Path: "/d", ACL: OpenACL(), Flags: 5, TTL: 10},
		{Type: OpDelete, Path: "/a", Version: -1}, {Type: OpCheck, Path: "/a", Version: 3},
		{Type: OpSetData, Path: "/a", Data: []byte("x"), Version: 1},
	}
}

func TestMulti(t *testing.T) {
	b := AppendMulti(nil, ops())
	r := NewReader(b)
	if got := ReadMulti(r, OpMulti, 10); r.Err() != nil || r.Remaining() != 0 || !reflect.DeepEqual(got, ops()) {
		t.Fatalf("%+v, %v", got, r.Err())
	}
	for n := range b {
		r := NewReader(b[:n])
		if got := ReadMulti(r, OpMulti, 10); r.Err() == nil || got != nil {
			t.Fatalf("cut to %d bytes: %+v", n, got)
		}
	}
	if r := NewReader(b); ReadMulti(r, OpMulti, len(ops())) == nil || r.Err() != nil {
		t.Error("as many ops as there may be are refused:", r.Err())
	}
	if r := NewReader(b); ReadMulti(r, OpMulti, len(ops())-1) != nil || r.Err() == nil {
		t.Error("too many ops are taken")
	}
	if r := NewReader(b); ReadMulti(r, OpMultiRead, 10) != nil || r.Err() == nil {
		t.Error("writes in a multiRead")
	}
	reads := AppendMulti(nil, []Op{{Type: OpGetData, Path: "/a"}, {Type: OpGetChildren, Path: "/"}})
	if r := NewReader(reads); len(ReadMulti(r, OpMultiRead, 10)) != 2 || r.Remaining() != 0 {
		t.Error("multiRead:", r.Err())
	}
	mixed := AppendMulti(nil, []Op{{Type: OpDelete, Path: "/a"}, {Type: OpGetData, Path: "/a"}})
	if r := NewReader(mixed); ReadMulti(r, OpMulti, 10) != nil || r.Err() == nil {
		t.Error("kinds mix")
	}
	if r := NewReader(AppendMultiEnd(nil)); len(ReadMulti(r, OpMulti, 10)) != 0 || r.Err() != nil {
		t.Error("an empty multi:", r.Err())
	}
}

func TestMultiResponse(t *testing.T) {
	stat := Stat{Czxid: 5}
	want := []OpResult{
		{Type: OpCreate, Path: "/a"}, {Type: OpCreate2, Path: "/b", Stat: stat}, {Type: OpDelete}, {Type: OpCheck},
		{Type: OpSetData, Stat: stat}, {Type: OpGetData, Data: []byte{}, Stat: stat}, {Type: OpGetChildren, Children: []string{"x"}},
		{Type: OpError, Err: NoNode},
	}
	var b []byte
	for i := range want {
		b = want[i].Append(b)
	}
	ttl := OpResult{Type: OpCreateTTL, Path: "/t"}
	b = AppendMultiEnd(ttl.Append(b))
	r := NewReader(b)
	got := ReadMultiResponse(r, 100)
	if want = append(want, OpResult{Type: OpCreate2, Path: "/t"}); r.Err() != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, r.Err())
	}
}

// A count that cannot be true is refused before anything is allocated from it.
func TestCountsAreNotBelieved(t *testing.T) {
	claim := AppendInt32(nil, math.MaxInt32)
	for name, read := range map[string]func(*Reader){
		"strings": func(r *Reader) { r.Strings() }, "acls": func(r *Reader) { r.ACLs() }, "buffer": func(r *Reader) { r.Buffer() },
		"whoami": func(r *Reader) { new(WhoAmIResponse).Read(r) },
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			read(NewReader(claim))
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes allocated by 100 claims", name, n)
		}
		for _, n := range []int32{math.MaxInt32, -2, math.MinInt32, 100} {
			r := NewReader(append(AppendInt32(nil, n), make([]byte, 90)...))
			if read(r); r.Err() == nil {
				t.Errorf("%s: a length of %d with 90 bytes behind it", name, n)
			}
		}
	}
	if size := unsafe.Sizeof(Op{}); size*MultiOpsMax > 4*MaxBufferDefault {
		t.Errorf("the largest multi takes %d bytes", size*MultiOpsMax)
	}
}

func TestCheckFrame(t *testing.T) {
	for n, ok := range map[int32]bool{0: true, MaxBufferDefault: true, MaxBufferDefault + 1: false, -1: false, 1195725856: false} {
		if (CheckFrame(n, MaxBufferDefault) == nil) != ok {
			t.Errorf("a frame of %d bytes: %v", n, !ok)
		}
	}
}

// ValidPath against a transcription of its rules, character by character.
func TestValidPath(t *testing.T) {
	slow := func(p string) bool {
		if p == "/" {
			return true
		}
		if p == "" || p[0] != '/' || p[len(p)-1] == '/' {
			return false
		}
		last := rune('/')
		runes := []rune(p)
		for i := 1; i < len(runes); i++ {
			c := runes[i]
			end := i+1 == len(runes) || runes[i+1] == '/'
			switch {
			case c == 0, c == '/' && last == '/':
				return false
			case c == '.' && last == '.' && runes[i-2] == '/' && end, c == '.' && last == '/' && end:
				return false
			case c <= 0x1f, c >= 0x7f && c <= 0x9f, c >= 0xd800 && c <= 0xf8ff, c >= 0xfff0:
				return false
			}
			last = c
		}
		return true
	}
	rapid.Check(t, func(rt *rapid.T) {
		p := rapid.OneOf(rapid.StringOf(rapid.SampledFrom([]rune{'/', '/', '.', '.', 'a', 0x1f, 0x7f, 0xa0, 0xe000, 0xfffd, 0x1f600})),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return "/" + string(b) })).Draw(rt, "path")
		if ValidPath(p) != slow(p) {
			rt.Fatalf("%q is valid: %v", p, ValidPath(p))
		}
	})
}

func TestNames(t *testing.T) {
	if OpCreate2.String() != "create2" || OpCode(500).String() != "unknown 500" || OpCode(500).Known() || !OpCloseSession.Known() {
		t.Error("op codes")
	}
	if NoNode.Error() != "NoNode" || Code(-999).String() != "error -999" || OK.String() != "OK" {
		t.Error("error codes")
	}
	if !OpMulti.IsWrite() || OpGetData.IsWrite() || OpSync.IsWrite() || !OpCreateTTL.IsCreate() || CreateMode(7).Valid() {
		t.Error("kinds")
	}
}

func TestFrame(t *testing.T) {
	b, start := AppendFrame([]byte("x"))
	b = AppendInt32(b, 7)
	EndFrame(b, start)
	if !bytes.Equal(b, []byte("x\x00\x00\x00\x04\x00\x00\x00\x07")) {
		t.Errorf("%x", b)
	}
}

// FuzzRecords reads any bytes as every record: no panic, nothing larger than a small multiple of the bytes, and what
// was read whole is written the same again.
func FuzzRecords(f *testing.F) {
	for i, rec := range records() {
		f.Add(byte(i), rec.Append(nil))
	}
	f.Add(byte(255), AppendMulti(nil, ops()))
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		all := records()
		if int(which) >= len(all) {
			r := NewReader(b)
			if got := ReadMulti(r, OpMulti, MultiOpsMax); r.Err() == nil {
				r2 := NewReader(AppendMulti(nil, got))
				if again := ReadMulti(r2, OpMulti, MultiOpsMax); !reflect.DeepEqual(got, again) {
					t.Fatalf("%+v\n%+v", got, again)
				}
			}
			ReadMultiResponse(NewReader(b), 1000)
			return
		}
		kind := reflect.TypeOf(all[which]).Elem()
		rec := reflect.New(kind).Interface().(Record)
		r := NewReader(b)
		rec.Read(r)
		if r.Err() != nil {
			return
		}
		again := reflect.New(kind).Interface().(Record)
		r2 := NewReader(rec.Append(nil))
		again.Read(r2)
		if r2.Err() != nil || r2.Remaining() != 0 || !reflect.DeepEqual(rec, again) {
			t.Fatalf("%+v\n%+v\n%v", rec, again, r2.Err())
		}
	})
}
