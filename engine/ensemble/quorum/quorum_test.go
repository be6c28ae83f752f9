package quorum

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cairn/engine/ensemble/jute"
)

func config(t *testing.T, lines ...string) Config {
	t.Helper()
	c, err := ParseConfig(strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConfigReadsWhatItWrites(t *testing.T) {
	text := "server.1=a:2888:3888:participant;0.0.0.0:2181\nserver.2=[::1]:2888:3888:observer\nserver.10=c:1:2:participant;[::]:2181\n"
	c := config(t, text+"version=10000000a")
	if c.Version != 0x10000000a || c.Lines() != text || c.Participants() != 2 {
		t.Fatalf("version %x, %d participants:\n%s", c.Version, c.Participants(), c.Lines())
	}
	if again := config(t, c.Lines()); again.Lines() != text || again.Version != -1 {
		t.Fatalf("%+v", again)
	}
}

func TestDifferences(t *testing.T) {
	c := config(t, "server.1=a:1:2;2181", "server.2=b:1:2")
	for _, test := range [][2]string{
		{"server.1=a:1:2\nserver.2=b:1:2:participant;9", ""},
		{"server.1=a:1:2", "server.2 does not belong to it"},
		{"server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2", "server.3 is missing here"},
		{"server.1=a:1:2\nserver.2=b:1:2:observer", "server.2 is b:1:2:observer there, and b:1:2:participant here"},
	} {
		if got := c.Differs(config(t, test[0])); got != test[1] {
			t.Errorf("%q: %q, want %q", test[0], got, test[1])
		}
	}
}

func TestChangesThatReconfigAsksFor(t *testing.T) {
	c := config(t, "server.1=a:1:2", "server.2=b:1:2", "server.3=c:1:2:observer", "version=5")
	for _, test := range []struct {
		name    string
		request jute.ReconfigRequest
		code    jute.Code
		want    string
	}{
		{"join", jute.ReconfigRequest{Joining: "server.4=d:1:2;2181", CurConfigID: -1}, jute.OK, "1p 2p 3o 4p"},
		{"join and leave", jute.ReconfigRequest{Joining: "server.4=d:1:2", Leaving: "1,3", CurConfigID: 5}, jute.OK, "2p 4p"},
		{"change a role", jute.ReconfigRequest{Joining: "server.3=c:1:2:participant", CurConfigID: -1}, jute.OK, "1p 2p 3p"},
		{"leave twice, and one that is not there", jute.ReconfigRequest{Leaving: "1,1,9", CurConfigID: -1}, jute.OK, "2p 3o"},
		{"all anew", jute.ReconfigRequest{NewMembers: "server.7=x:1:2\nserver.8=y:1:2:observer", CurConfigID: -1}, jute.OK, "7p 8o"},
		{"all anew, by commas", jute.ReconfigRequest{NewMembers: "server.7=x:1:2,server.8=y:1:2", CurConfigID: -1}, jute.OK, "7p 8p"},
		{"another version", jute.ReconfigRequest{Leaving: "1", CurConfigID: 6}, jute.BadVersion, ""},
		{"nobody votes", jute.ReconfigRequest{Leaving: "1,2", CurConfigID: -1}, jute.BadArguments, ""},
		{"no number", jute.ReconfigRequest{Leaving: "one", CurConfigID: -1}, jute.MarshallingError, ""},
		{"no form", jute.ReconfigRequest{Joining: "server.4", CurConfigID: -1}, jute.BadArguments, ""},
		{"no election port", jute.ReconfigRequest{Joining: "server.4=d:1", CurConfigID: -1}, jute.BadArguments, ""},
		{"a port of another", jute.ReconfigRequest{Joining: "server.4=a:1:9", CurConfigID: -1}, jute.BadArguments, ""},
		{"a number too high", jute.ReconfigRequest{Joining: "server.4294967296=d:1:2", CurConfigID: -1}, jute.BadArguments, ""},
	} {
		next, code, err := c.Change(&test.request)
		if code != test.code || (code == jute.OK) != (err == nil) {
			t.Errorf("%s: %v, %v", test.name, code, err)
			continue
		}
		var got []string
		for _, s := range next.Servers {
			got = append(got, fmt.Sprintf("%d%c", s.ID, s.Role()[0]))
		}
		if code == jute.OK && strings.Join(got, " ") != test.want {
			t.Errorf("%s: %v, want %s", test.name, got, test.want)
		}
	}
}

// The raft id of a disk is never another disk's.
func TestRaftIDsAreNeverUsedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Found([]uint64{1, 2, 3}, []uint64{4}, map[uint64]string{1: "d1"})
		owners := map[uint64]string{}
		c := Config{}
		for id := int64(1); id <= 4; id++ {
			c.Servers = append(c.Servers, Server{ID: id, Host: fmt.Sprint("h", id)})
		}
		disks := 0
		for now := range rapid.IntRange(1, 60).Draw(t, "steps") {
			server := uint64(rapid.IntRange(1, 7).Draw(t, "server"))
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				next := Config{Servers: slices.Clone(c.Servers)}
				next.Servers = slices.DeleteFunc(next.Servers, func(s Server) bool { return s.ID == int64(server) })
				if len(next.Servers) == len(c.Servers) {
					next.Servers = append(next.Servers, Server{ID: int64(server), Host: fmt.Sprint("h", server)})
				}
				r, c = r.Follow(c, next, int64(now)), next
			case 1:
				disks++
				if _, ok := r.Member(server); ok {
					r = r.Replace(server, fmt.Sprint("new", disks))
				}
			case 2:
				if m, ok := r.Member(server); ok {
					disks++
					r, _ = r.Claim(m.Raft, fmt.Sprint("new", disks))
				}
			case 3:
				r, _ = r.Forget(int64(now) - 5)
			case 4:
				again, err := ParseRoster(r.Marshal())
				if err != nil {
					t.Fatal(err)
				}
				r = again
			}
			for _, m := range r.Members {
				if ServerOf(m.Raft) != m.Server {
					t.Fatalf("raft id %x stands for server %d", m.Raft, m.Server)
				}
				if m.Disk == "" {
					continue
				}
				if owner, ok := owners[m.Raft]; ok && owner != m.Disk {
					t.Fatalf("raft id %x was %s's and is %s's", m.Raft, owner, m.Disk)
				}
				owners[m.Raft] = m.Disk
			}
		}
	})
}

// Whatever is asked for and whoever lives: raft's membership gets there when everybody lives, and on the way no step takes
// the quorum from those who had it.
func TestStepsArriveAndKeepTheQuorum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Found([]uint64{1, 2, 3}, nil, nil)
		c := Config{}
		for id := int64(1); id <= 3; id++ {
			c.Servers = append(c.Servers, Server{ID: id})
		}
		now := Membership{Voters: []uint64{1, 2, 3}}
		dead := map[uint64]bool{}
		live := func(id uint64) bool { return !dead[id] }
		quorum := func(voters []uint64) bool {
			n := 0
			for _, id := range voters {
				if live(id) {
					n++
				}
			}
			return n >= Majority(len(voters))
		}
		step := func(near bool) bool {
			s := Next(c, r, now, Peers{Live: live, Near: func(uint64) bool { return near }})
			had := quorum(now.Voters)
			next := now.take(s)
			if len(next.Voters) == 0 || had && !quorum(next.Voters) {
				t.Fatalf("%+v took the quorum: voters %v became %v, dead %v", s, now.Voters, next.Voters, dead)
			}
			now = next
			return !s.Empty()
		}
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			next := Config{}
			for id := int64(1); id <= 6; id++ {
				switch rapid.IntRange(0, 2).Draw(t, "role") {
				case 1:
					next.Servers = append(next.Servers, Server{ID: id})
				case 2:
					next.Servers = append(next.Servers, Server{ID: id, Observer: true})
				}
			}
			if next.Participants() > 0 {
				r, c = r.Follow(c, next, 1), next
			}
			if rapid.Bool().Draw(t, "lose") {
				server := uint64(rapid.IntRange(1, 6).Draw(t, "lost"))
				if m, ok := r.Member(server); ok {
					dead[m.Raft] = true
					if !quorum(now.Voters) {
						delete(dead, m.Raft) // nobody would commit anything
					} else {
						r = r.Replace(server, "d")
					}
				}
			}
			for range rapid.IntRange(0, 3).Draw(t, "steps") {
				step(rapid.Bool().Draw(t, "near"))
			}
			r, _ = r.Forget(rapid.Int64Range(0, 2).Draw(t, "forget"))
		}
		for n := 0; step(true); n++ {
			if n > 20 {
				t.Fatalf("no end of steps: %+v", now)
			}
		}
		want := r.Voters(c)
		slices.Sort(want)
		slices.Sort(now.Voters)
		if !slices.Equal(now.Voters, want) || !Settled(c, r, now.Voters, nil) {
			t.Fatalf("the voters are %x, want %x", now.Voters, want)
		}
	})
}

// take is what raft makes of a step.
func (m Membership) take(s Step) Membership {
	without := func(ids []uint64, gone ...uint64) []uint64 {
		return slices.DeleteFunc(slices.Clone(ids), func(id uint64) bool { return slices.Contains(gone, id) })
	}
	m.Voters = append(without(without(m.Voters, s.Demote...), s.Remove...), s.Promote...)
	m.Learners = append(without(without(m.Learners, s.Promote...), s.Remove...), slices.Concat(s.Demote, s.Learners)...)
	return m
}

// Voters are an odd number: observers that have caught up vote as soon as they make 3 or 5.
func TestGrown(t *testing.T) {
	for _, test := range []struct {
		name            string
		voters, servers int
		away            []int64 // not heard
		votes           []int64
	}{
		{"alone", 1, 1, nil, nil},
		{"a second listens", 1, 2, nil, nil},
		{"a third makes three", 1, 3, nil, []int64{1, 2, 3}},
		{"of four the first three", 1, 4, nil, []int64{1, 2, 3}},
		{"five at once", 1, 5, nil, []int64{1, 2, 3, 4, 5}},
		{"one that is away is passed over", 1, 4, []int64{2}, []int64{1, 3, 4}},
		{"two that are away", 1, 3, []int64{2, 3}, nil},
		{"three and a fourth", 3, 4, nil, nil},
		{"three and two more", 3, 5, nil, []int64{1, 2, 3, 4, 5}},
		{"two grow to three", 2, 3, nil, []int64{1, 2, 3}},
		{"five stay five", 5, 9, nil, nil},
	} {
		var c Config
		var now Membership
		var voters, learners []uint64
		for id := int64(1); id <= int64(test.servers); id++ {
			s := Server{ID: id, Host: "b", PeerPort: int(id), ElectionPort: 1000 + int(id), Observer: id > int64(test.voters)}
			if err := c.add(s); err != nil {
				t.Fatal(err)
			}
			if s.Observer {
				learners = append(learners, uint64(id))
			} else {
				voters = append(voters, uint64(id))
			}
		}
		r := Found(voters, learners, nil)
		now.Voters, now.Learners = voters, learners
		here := func(id uint64) bool { return !slices.Contains(test.away, int64(ServerOf(id))) }
		next, ok := Grown(c, r, now, Peers{Live: here, Near: here})
		var votes []int64
		for _, s := range next.Servers {
			if ok && !s.Observer {
				votes = append(votes, s.ID)
			}
		}
		if !slices.Equal(votes, test.votes) {
			t.Errorf("%s: %v vote, want %v", test.name, votes, test.votes)
		}
		if ok {
			if _, again := Grown(next, r, now, Peers{Live: here, Near: here}); again {
				t.Errorf("%s: more are to vote before those that are to vote do", test.name)
			}
		}
	}
}

func TestAServerThatAsksIsAdmittedToListen(t *testing.T) {
	c, err := ParseConfig("server.1=a:1:2:participant\nserver.2=b:1:2:participant\nversion=5")
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"c:1:2:participant":         "c:1:2:observer",
		"c:1:2:observer;0.0.0.0:21": "c:1:2:observer;0.0.0.0:21",
		"a:1:2:participant":         "", // another's address
		"c":                         "",
		"":                          "",
	} {
		next, err := c.Admit(3, line)
		s, _ := next.Server(3)
		if (err == nil) != (want != "") || err == nil && (s.Text() != want || len(next.Servers) != 3) {
			t.Errorf("%q: %v, %v", line, next, err)
		}
	}
	if next, err := c.Admit(2, "b:7:8:participant"); err != nil || next.Participants() != 1 || len(next.Servers) != 2 {
		t.Errorf("a server that comes again elsewhere: %v, %v", next, err)
	}
}
