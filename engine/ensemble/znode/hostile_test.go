package znode

import (
	"bytes"
	"testing"

	"cairn/engine/ensemble/jute"
)

// Stats are rewritten with every change below their quota, so that their length is what each such change costs: text
// that is longer than anybody means counts from unset.
func TestLongQuotaTextIsNotKept(t *testing.T) {
	tree, as := open()
	for _, path := range []string{"/q", "/zookeeper/quota/q", "/zookeeper/quota/q/zookeeper_limits", "/zookeeper/quota/q/zookeeper_stats"} {
		create(tree, as, path)
	}
	const stats = "/zookeeper/quota/q/zookeeper_stats"
	long := append(bytes.Repeat([]byte("k"), 1<<20), "=1"...)
	as.Ops = []jute.Op{{Type: jute.OpSetData, Path: stats, Version: -1, Data: long}}
	if o := tree.Apply(as); o.Err != jute.OK {
		t.Fatal(o.Err)
	}
	create(tree, as, "/q/x")
	if data, _, _ := tree.Peek(stats); len(data) > 1024 {
		t.Errorf("a change below the quota rewrote %d bytes", len(data))
	}
}
