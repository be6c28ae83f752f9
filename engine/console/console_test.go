package console

import (
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
