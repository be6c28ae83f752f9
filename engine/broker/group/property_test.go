package group

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// client is a consumer that behaves more or less like a real one, or forgets things.
type client struct {
	instance   *string
	id         string
	generation int32
	leads      []JoinMember
	old        []string // member ids that it had
}

// property drives random clients against one group with crashes, and remembers what they were promised.
type property struct {
	t       *rapid.T
	w       *world
	clients []*client
	asked   map[Ticket]func(Answer)
	held    []Reply
	// leaders is, by generation and crash, who was told to lead: the instance of a static member, else the member id.
	leaders map[string]string
	crashes int
	// acked are the offsets whose commits were answered, newest last; tried are those that may also be found.
	acked map[int32]int64
	tried map[int32]map[int64]bool
	next  int64
}

func (p *property) who(id string) string {
	for _, c := range p.clients {
		if c.instance != nil && strings.HasPrefix(id, *c.instance+"-") {
			return *c.instance
		}
	}
	return id
}

// take delivers the answers that may leave; the others wait for commits.
func (p *property) take() {
	replies := append(p.held, p.w.s.TakeReplies()...)
	p.held = nil
	p.w.s.TakeEvents()
	for _, r := range replies {
		if r.After > p.w.s.committed {
			p.held = append(p.held, r)
			continue
		}
		f, ok := p.asked[r.To]
		if !ok {
			p.t.Fatalf("ticket %d answered twice or never asked", r.To)
		}
		delete(p.asked, r.To)
		f(r.Answer)
	}
	if err := checkInvariants(p.w.s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *property) ask(q Request, f func(Answer)) {
	p.w.last++
	SetTicket(q, p.w.last)
	p.asked[p.w.last] = f
	p.w.s.Step(p.w.now, q)
	p.take()
}

func (p *property) join(c *client) {
	p.w.unique++
	protocols := []Protocol{{"range", metadata([]string{"t"})}}
	if rapid.Bool().Draw(p.t, "sticky") {
		protocols = append([]Protocol{{"sticky", metadata([]string{"t", "u"})}}, protocols...)
	}
	version := int16(rapid.SampledFrom([]int{1, 4, 9}).Draw(p.t, "version"))
	q := &Join{
		Target: To("g"), Version: version, MemberID: c.id, InstanceID: c.instance, ClientID: "c", Session: 10 * time.Second,
		Rebalance: 20 * time.Second, ProtocolType: "consumer", Protocols: protocols, Unique: fmt.Sprint("u", p.w.unique),
	}
	crashes := p.crashes
	p.ask(q, func(a Answer) {
		j := a.(*JoinAnswer)
		if j.Err != nil {
			switch j.Err.Message {
			case "MEMBER_ID_REQUIRED":
				c.id = j.MemberID
			case "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID":
				c.id = ""
			}
			return
		}
		c.old = append(c.old, c.id)
		c.id, c.generation, c.leads = j.MemberID, j.Generation, j.Members
		if len(j.Members) == 0 {
			return
		}
		if j.Leader != j.MemberID {
			p.t.Fatalf("%s was given the members and does not lead", j.MemberID)
		}
		key := fmt.Sprint(crashes, "/", j.Generation)
		if other, ok := p.leaders[key]; ok && other != p.who(j.MemberID) {
			p.t.Fatalf("generation %s has two leaders, %s and %s", key, other, p.who(j.MemberID))
		}
		p.leaders[key] = p.who(j.MemberID)
	})
}

func (p *property) sync(c *client) {
	q := &Sync{Target: To("g"), Generation: c.generation, MemberID: c.id, InstanceID: c.instance}
	for _, m := range c.leads {
		q.Assignments = append(q.Assignments, Assignment{m.ID, fmt.Appendf(nil, "%d %s", c.generation, p.who(m.ID))})
	}
	generation, id := c.generation, c.id
	p.ask(q, func(a Answer) {
		s := a.(*SyncAnswer)
		if s.Err == nil && len(s.Assignment) > 0 && string(s.Assignment) != fmt.Sprintf("%d %s", generation, p.who(id)) {
			p.t.Fatalf("%s in generation %d was assigned %q", id, generation, s.Assignment)
		}
	})
}

func (p *property) commit(c *client) {
	partition := rapid.Int32Range(0, 3).Draw(p.t, "partition")
	p.next++
	offset := p.next
	if rapid.Bool().Draw(p.t, "same") {
		offset = p.acked[partition]
	}
	if p.tried[partition] == nil {
		p.tried[partition] = map[int64]bool{}
	}
	p.tried[partition][offset] = true
	q := &Commit{
		Target: To("g"), Version: 9, Generation: c.generation, MemberID: c.id, InstanceID: c.instance, Retention: -1,
		Topics: []CommitTopic{{"t", []CommitPartition{{Partition: partition, Offset: offset, LeaderEpoch: -1}}}},
	}
	p.ask(q, func(a Answer) {
		if ca := a.(*CommitAnswer); ca.Err == nil && ca.Partitions[0] == nil {
			p.acked[partition] = offset
			p.tried[partition] = map[int64]bool{}
		}
	})
}

// checkOffsets reads what is there: the newest answered commit, or one after it that was not answered.
func (p *property) checkOffsets() {
	p.ask(&FetchOffsets{Target: To("g"), All: true}, func(a Answer) {
		found := map[int32]int64{}
		for _, topic := range a.(*FetchAnswer).Topics {
			for _, o := range topic.Partitions {
				found[o.Partition] = o.Offset
			}
		}
		for partition, offset := range p.acked {
			if got := found[partition]; got != offset && !p.tried[partition][got] {
				p.t.Fatalf("offset %d of partition %d was committed, found %d", offset, partition, got)
			}
		}
	})
}

func (p *property) committed() {
	p.w.command(nil, "committed", nil)
	p.take()
}

// crash loses what is not committed; clients hear of it as a failed request.
func (p *property) crash() {
	p.w.seal()
	keep := rapid.IntRange(0, len(p.w.sealed)).Draw(p.t, "appended") // the log may hold more than was answered
	p.w.log = append(p.w.log, p.w.sealed[:keep]...)
	p.asked, p.held = map[Ticket]func(Answer){}, nil
	p.crashes++
	p.w.command(nil, "crash", nil)
	p.take()
	p.checkOffsets()
}

func TestRandomClients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &property{
			t: t, w: newWorld(), asked: map[Ticket]func(Answer){}, leaders: map[string]string{},
			acked: map[int32]int64{}, tried: map[int32]map[int64]bool{},
		}
		for i := range 4 {
			c := &client{}
			if i >= 2 {
				name := fmt.Sprint("static", i)
				c.instance = &name
			}
			p.clients = append(p.clients, c)
		}
		for range rapid.IntRange(20, 120).Draw(t, "steps") {
			c := rapid.SampledFrom(p.clients).Draw(t, "client")
			switch rapid.IntRange(0, 15).Draw(t, "what") {
			case 0, 1, 2, 3:
				p.join(c)
			case 4, 5, 6:
				p.sync(c)
			case 7:
				p.ask(&Heartbeat{Target: To("g"), Generation: c.generation, MemberID: c.id, InstanceID: c.instance}, func(Answer) {})
			case 8, 9:
				p.commit(c)
			case 10:
				p.ask(&Leave{Target: To("g"), Members: []Leaver{{MemberID: c.id, InstanceID: c.instance}}}, func(Answer) {})
			case 11:
				c.id, c.leads = "", nil // restarts
			case 12, 13:
				p.w.advance(time.Duration(rapid.IntRange(0, 12000).Draw(t, "ms")) * time.Millisecond)
				p.take()
			case 14:
				p.committed()
			case 15:
				if rapid.IntRange(0, 3).Draw(t, "crash") == 0 {
					p.crash()
				} else {
					p.committed()
					p.checkOffsets()
				}
			}
		}
		// Everybody who waits is answered in the end, whatever the others do.
		p.w.advance(time.Hour)
		p.committed()
		if len(p.asked) != 0 {
			t.Fatalf("%d requests were never answered", len(p.asked))
		}
	})
}
