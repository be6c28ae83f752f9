package zkserver

import (
	"fmt"
	"testing"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// quota makes a quota of a path, with limits as setquota writes them.
func (c *client) quota(path, limits string) {
	c.t.Helper()
	dir := "/zookeeper/quota" + path
	c.must(100, jute.OpCreate, createBody(dir, nil, 0))
	c.must(101, jute.OpCreate, createBody(dir+"/zookeeper_limits", []byte(limits), 0))
	c.must(102, jute.OpCreate, createBody(dir+"/zookeeper_stats", []byte("count=-1,bytes=-1"), 0))
}

// semantics 36: where quotas are enforced every server refuses what goes beyond a hard limit, and nothing that goes beyond
// a soft one, which the leader counts and logs. All servers count the same.
func TestQuotasOfEveryServer(t *testing.T) {
	n := startTrio(t, func(e *ensemble.Config, _ *Config) { e.Flags |= znode.FlagEnforceQuota })
	_, follower := n.roles()
	c := n.boxes[follower].connect(t, 20000)
	for _, path := range []string{"/count", "/bytes", "/soft"} {
		c.must(1, jute.OpCreate, createBody(path, nil, 0))
	}
	c.quota("/count", "count=1,bytes=-1=;countHardLimit=3")
	c.quota("/bytes", "count=-1,bytes=-1=;byteHardLimit=10")
	c.quota("/soft", "count=1,bytes=2")

	refused := func(c *client, op jute.OpCode, body []byte) {
		t.Helper()
		if p := c.call(1, op, body); p.Err != jute.QuotaExceeded || len(p.body) != 0 {
			t.Errorf("%v: %+v, %d bytes", op, p.ReplyHeader, len(p.body))
		}
	}
	c.must(1, jute.OpCreate, createBody("/count/a", nil, 0))
	c.must(2, jute.OpCreate, createBody("/count/a/b", nil, jute.Ephemeral))
	c.must(3, jute.OpCreate, createBody("/bytes/a", []byte("12345"), 0))
	for _, b := range n.boxes {
		c := b.connect(t, 20000)
		refused(c, jute.OpCreate, createBody("/count/c", nil, 0))
		refused(c, jute.OpCreate, createBody("/count/c", nil, jute.EphemeralSequential))
		refused(c, jute.OpCreate, createBody("/bytes/b", []byte("123456"), 0))
		refused(c, jute.OpSetData, setBody("/bytes/a", []byte("12345678901"), -1))
		p := c.must(2, jute.OpMulti, jute.AppendMulti(nil, []jute.Op{
			{Type: jute.OpCreate, Path: "/other", ACL: jute.OpenACL()}, {Type: jute.OpCreate, Path: "/count/c", ACL: jute.OpenACL()}}))
		if r := jute.ReadMultiResponse(jute.NewReader(p.body), 2); len(r) != 2 || r[0].Err != jute.OK || r[1].Err != jute.QuotaExceeded {
			t.Errorf("%+v", r)
		}
		c.must(3, jute.OpSetData, setBody("/bytes/a", []byte("1234567890"), -1)) // as much as may be
	}
	for i := range int32(3) {
		c.must(10+i, jute.OpCreate, createBody(fmt.Sprintf("/soft/%d", i), []byte("1"), 0))
	}
	c.must(20, jute.OpDelete, deleteBody("/count/a/b", -1))
	c.must(21, jute.OpCreate, createBody("/count/c", nil, 0)) // there is room again

	exceeded := map[string]uint64{"soft": 0, "hard": 0}
	for id, b := range n.boxes {
		c := b.connect(t, 20000)
		c.must(1, jute.OpSync, pathBody("/"))
		for path, want := range map[string]string{"/count": "count=3,bytes=0", "/bytes": "count=2,bytes=10", "/soft": "count=4,bytes=3"} {
			if got := value(t, c.call(2, jute.OpGetData, watchBody("/zookeeper/quota"+path+"/zookeeper_stats", false))); got != want {
				t.Errorf("server %d counts %s of %s, want %s", id, got, path, want)
			}
		}
		for kind := range exceeded {
			exceeded[kind] += b.deps.Observer.Metrics.Counter("cairn_ensemble_quota_exceeded_total", "limit", kind).Get()
		}
	}
	if exceeded["soft"] != 3 || exceeded["hard"] != 15 { // each once: by whoever led
		t.Errorf("limits that were exceeded are counted as %v", exceeded)
	}
}
