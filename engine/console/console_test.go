package console

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestSectionsAndIndex(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := Serve(l, []Section{{Path: "/healthz", Title: "whether the process works", Handler: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })}})
	for path, want := range map[string]string{"/healthz": "ok\n", "/": "whether the process works", "/nothing": "404"} {
		r, err := http.Get("http://" + c.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %q %v, want %q", path, b, err, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := http.Get("http://" + c.Addr().String() + "/healthz"); err == nil {
		t.Fatal("still answers after Close")
	}
}

// A section that streams takes what others do not, and its time is bounded for each move and not for the whole.
func TestStreamingSections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		if r.Context().Err() != nil {
			n = -1
		}
		_, _ = fmt.Fprint(w, n)
	})
	c := Serve(l, []Section{{Path: "/plain", Handler: echo}, {Path: "/stream", Handler: echo, StreamBytesMax: 3 << 20}})
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, x := range []struct {
		path  string
		bytes int
		code  int
	}{
		{"/plain", 1 << 20, 200}, {"/plain", 1<<20 + 1, 413}, {"/stream", 3 << 20, 200}, {"/stream", 3<<20 + 1, 413}, {"/stream", 0, 200},
	} {
		r, err := http.Post("http://"+c.Addr().String()+x.path, "text/plain", strings.NewReader(strings.Repeat("x", x.bytes)))
		if err != nil {
			t.Errorf("%s with %d bytes: %v", x.path, x.bytes, err)
			continue
		}
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if r.StatusCode != x.code || x.code == 200 && string(b) != fmt.Sprint(x.bytes) {
			t.Errorf("%s with %d bytes: %d %q", x.path, x.bytes, r.StatusCode, b)
		}
	}
}
