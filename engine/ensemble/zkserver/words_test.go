package zkserver

import (
	"fmt"
	"strings"
	"testing"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/quorum"
)

// lines is the answer to a word as a map of what stands before and after the first tab, = or colon of each line.
func (b *box) lines(word string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(b.admin.Answer(word, nil)) {
		if i := strings.IndexAny(line, "\t=:"); i > 0 {
			all[line[:i]] = strings.TrimSpace(line[i+1:])
		}
	}
	return all
}

// TestWordsOfAnEnsemble asks each of three servers what it knows of the others, and again when one is away.
func TestWordsOfAnEnsemble(t *testing.T) {
	text := "server.1=a:2888:3888:participant;2181\nserver.2=b:2888:3888:participant;2181\nserver.3=c:2889:3889:participant;2181\n"
	n := startTrio(t, func(ec *ensemble.Config, sc *Config) {
		var err error
		if ec.Servers, err = quorum.ParseConfig(text); err != nil {
			t.Fatal(err)
		}
		sc.Admin.ServerID, sc.Admin.InitLimit, sc.Admin.SyncLimit = int64(ec.Box), 10, 5
	})
	leader, follower := n.roles()
	lead, follow := n.boxes[leader], n.boxes[follower]
	third := 6 - leader - follower

	c := follow.connect(t, 30000)
	c.must(1, jute.OpCreate, createBody("/a", nil, jute.Persistent))
	eventually(t, func() bool {
		return strings.Contains(lead.admin.Answer("conf", nil), "\nserver.3=c:2889:3889:participant;0.0.0.0:2181\nversion=")
	})
	eventually(t, func() bool { return lead.lines("mntr")["zk_synced_followers"] == "2" })
	m := lead.lines("mntr")
	for name, want := range map[string]string{"zk_server_state": "leader", "zk_peer_state": "leading - broadcast", "zk_quorum_size": "3", "zk_learners": "2",
		"zk_synced_non_voting_followers": "0", "zk_synced_observers": "0", "zk_pending_syncs": "0"} {
		if m[name] != want {
			t.Errorf("%s of the leader is %q, want %q", name, m[name], want)
		}
	}
	if m["zk_proposal_count"] == "0" || m["zk_last_proposal_size"] == "-1" || m["zk_cnt_quorum_ack_latency"] == "0" {
		t.Errorf("the leader counts %v", m)
	}
	eventually(t, func() bool { // its own clock has stamped nothing: what it counts comes with what it applies
		m := follow.lines("mntr")
		return m["zk_learner_proposal_received_count"] != "0" && m["zk_learner_commit_received_count"] != "0" && m["zk_cnt_propagation_latency"] != "0"
	})
	m = follow.lines("mntr")
	for name, want := range map[string]string{"zk_server_state": "follower", "zk_peer_state": "following - broadcast", "zk_quorum_size": "3"} {
		if m[name] != want {
			t.Errorf("%s of a follower is %q, want %q", name, m[name], want)
		}
	}
	if _, has := m["zk_learners"]; has || m["zk_looking_count"] == "0" || m["zk_cnt_election_time"] == "0" || m["zk_cnt_follower_sync_time"] == "0" {
		t.Errorf("a follower counts %v", m)
	}
	conf := follow.lines("conf")
	if port := map[bool]string{true: "2889", false: "2888"}[follower == 3]; conf["quorumPort"] != port || conf["peerType"] != "0" || conf["initLimit"] != "10" {
		t.Errorf("conf of server %d: %v", follower, conf)
	}
	dump := fmt.Sprintf("SessionTracker dump:\nGlobal Sessions(1):\n0x%x\t", c.session)
	if got := follow.admin.Answer("dump", nil); !strings.HasPrefix(got, dump) {
		t.Errorf("%q, want %q", got, dump)
	}

	n.isolate(third)
	eventually(t, func() bool {
		m := lead.lines("mntr")
		return m["zk_synced_followers"] == "1" && m["zk_learners"] == "1" && m["zk_quorum_size"] == "3"
	})
	n.heal()
	eventually(t, func() bool { return lead.lines("mntr")["zk_synced_followers"] == "2" })
}
