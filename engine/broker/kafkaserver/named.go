package kafkaserver

import "cairn/engine/broker/catalog"

// named remembers what a request names: the value is true for what it names more than once. A frame has room to name one
// thing hundreds of thousands of times, and each time would cost what the thing costs: a topic all its partitions, a
// partition a question to its leader. So a description tells of a thing once, and a partition that is to be asked or
// changed and is named twice is INVALID_REQUEST, as in Kafka's ListOffsets.
type named[K comparable] map[K]bool

// first notes a name and reports whether it is new.
func (n named[K]) first(key K) bool {
	_, again := n[key]
	n[key] = again
	return !again
}

// namedTopic are the partitions of one topic that a request of an API names which asks their leaders.
type namedTopic struct {
	name  string
	count int
	// partition gives the number of the i-th, and where its error stands in the answer.
	partition func(i int) (number int32, code *int16)
	// refuse is why the topic takes no such request; nil if every topic does.
	refuse func(*catalog.Topic) int16
	// ask asks the leader of the i-th and ends with done, on any goroutine.
	ask func(i int, leader Replica, done func())
}

// askLeaders asks the leader of every partition that a request names. done is called once, on any goroutine, when all have answered.
func (s *Server) askLeaders(topics int, topic func(i int) namedTopic, done func()) {
	names := named[partitionKey]{}
	for i := range topics {
		t := topic(i)
		for j := range t.count {
			number, _ := t.partition(j)
			names.first(partitionKey{topic: t.name, partition: number})
		}
	}
	snap := s.deps.Catalog.Current()
	g := &gather{left: 1, done: done}
	for i := range topics {
		t := topic(i)
		found, refused := findTopic(snap, t.name, [16]byte{}, false)
		if found != nil && t.refuse != nil {
			refused = t.refuse(found)
		}
		for j := range t.count {
			number, code := t.partition(j)
			if *code = refused; refused == codeNone && names[partitionKey{topic: t.name, partition: number}] {
				*code = codeInvalidRequest
			}
			if *code != codeNone {
				continue
			}
			leader, _, missing := s.findLeader(found, number)
			if *code = missing; missing == codeNone {
				g.more()
				t.ask(j, leader, g.one)
			}
		}
	}
	g.one()
}
