package remote

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"cairn/engine/broker/fetcher"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// server is a broker that answers as it is told, and remembers what it was asked.
type server struct {
	t       *testing.T
	listens net.Listener

	mu     sync.Mutex
	asked  []*kmsg.FetchRequest
	conns  []net.Conn
	answer func(n int, req *kmsg.FetchRequest) *kmsg.FetchResponse // nil: the connection ends
}

func newServer(t *testing.T, answer func(n int, req *kmsg.FetchRequest) *kmsg.FetchResponse) *server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, listens: l, answer: answer}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			go s.serve(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.conns {
			_ = c.Close()
		}
	})
	return s
}

func (s *server) serve(c net.Conn) {
	defer c.Close()
	for {
		var length [4]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(c, frame); err != nil {
			return
		}
		// key 2, version 2, correlation 4, client id, tags
		body := frame[8:]
		body = body[2+binary.BigEndian.Uint16(body)+1:]
		req := kmsg.NewPtrFetchRequest()
		req.SetVersion(int16(binary.BigEndian.Uint16(frame[2:])))
		if err := req.ReadFrom(body); err != nil {
			s.t.Error(err)
			return
		}
		s.mu.Lock()
		s.asked = append(s.asked, req)
		n := len(s.asked)
		s.mu.Unlock()
		resp := s.answer(n, req)
		if resp == nil {
			return
		}
		resp.SetVersion(req.Version)
		out := append(append([]byte{0, 0, 0, 0}, frame[4:8]...), 0)
		out = resp.AppendTo(out)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func (s *server) dial(int32) (net.Conn, error) { return net.Dial("tcp", s.listens.Addr().String()) }

func part(partition int32, offset int64) fetcher.Part {
	return fetcher.Part{Topic: seglog.ID{7}, Partition: partition, Position: replica.Position{Epoch: 3, Offset: offset, LastEpoch: 2}}
}

func question(parts ...fetcher.Part) fetcher.Question {
	return fetcher.Question{Whole: true, Parts: parts, Wait: time.Second, BytesMax: 1 << 20}
}

// change is a question that goes on from the one before.
func change(parts ...fetcher.Part) fetcher.Question {
	q := question(parts...)
	q.Whole = false
	return q
}

// ask puts a question and waits for its answer.
func ask(t *testing.T, b *Brokers, q fetcher.Question) ([]fetcher.Answer, error) {
	t.Helper()
	type result struct {
		answers []fetcher.Answer
		err     error
	}
	c := make(chan result, 2)
	b.Fetch(5, q, func(answers []fetcher.Answer, err error) { c <- result{answers, err} })
	select {
	case r := <-c:
		return r.answers, r.err
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
		return nil, nil
	}
}

func newBrokers(t *testing.T, s *server) *Brokers {
	b := New(Config{FrameBytesMax: 8 << 20, Timeout: time.Second}, Deps{Open: s.dial})
	t.Cleanup(b.Close)
	return b
}

// answerWith is a response in session 9 about one partition.
func answerWith(change func(*kmsg.FetchResponseTopicPartition)) *kmsg.FetchResponse {
	resp := kmsg.NewPtrFetchResponse()
	resp.SessionID = 9
	t := kmsg.NewFetchResponseTopic()
	t.TopicID = seglog.ID{7}
	p := kmsg.NewFetchResponseTopicPartition()
	p.Partition, p.HighWatermark, p.LogStartOffset = 1, 50, 10
	change(&p)
	t.Partitions = append(t.Partitions, p)
	resp.Topics = append(resp.Topics, t)
	return resp
}

func TestASessionNamesWhatIsNew(t *testing.T) {
	s := newServer(t, func(int, *kmsg.FetchRequest) *kmsg.FetchResponse {
		return answerWith(func(p *kmsg.FetchResponseTopicPartition) { p.RecordBatches = []byte("batches") })
	})
	b := newBrokers(t, s)
	forgets := change()
	forgets.Gone = []fetcher.Key{{Topic: seglog.ID{7}, Partition: 2}}
	for i, q := range []fetcher.Question{question(part(1, 40), part(2, 0)), change(part(1, 41)), forgets, change(part(2, 0))} {
		answers, err := ask(t, b, q)
		want := part(1, 40+int64(min(i, 1)))
		if err != nil || len(answers) != 1 || answers[0].Part != want || string(answers[0].Batches) != "batches" || answers[0].HighWatermark != 50 || answers[0].LogStart != 10 {
			t.Fatalf("%+v, %v", answers, err)
		}
	}
	for i, want := range []struct{ session, epoch, named, forgotten int }{{0, 0, 2, 0}, {9, 1, 1, 0}, {9, 2, 0, 1}, {9, 3, 1, 0}} {
		req := s.asked[i]
		named := 0
		for _, topic := range req.Topics {
			named += len(topic.Partitions)
		}
		if int(req.SessionID) != want.session || int(req.SessionEpoch) != want.epoch || named != want.named || len(req.ForgottenTopics) != want.forgotten {
			t.Errorf("question %d: session %d, epoch %d, %d named, %d forgotten, want %+v", i, req.SessionID, req.SessionEpoch, named, len(req.ForgottenTopics), want)
		}
	}
	p := s.asked[1].Topics[0].Partitions[0]
	if p.FetchOffset != 41 || p.CurrentLeaderEpoch != 3 || p.LastFetchedEpoch != 2 || s.asked[1].MinBytes != 1 || s.asked[1].MaxWaitMillis != 1000 {
		t.Errorf("%+v", p)
	}
}

func TestWhatABrokerSaysOfAPartition(t *testing.T) {
	var change func(*kmsg.FetchResponseTopicPartition)
	s := newServer(t, func(int, *kmsg.FetchRequest) *kmsg.FetchResponse { return answerWith(change) })
	b := newBrokers(t, s)
	for name, c := range map[string]struct {
		change func(*kmsg.FetchResponseTopicPartition)
		part   fetcher.Part
		check  func(fetcher.Answer) bool
	}{
		"not the leader": {func(p *kmsg.FetchResponseTopicPartition) { p.ErrorCode = 6 }, part(1, 40), func(a fetcher.Answer) bool { return a.Err != nil && !a.Beyond }},
		"diverging": {func(p *kmsg.FetchResponseTopicPartition) { p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset = 1, 30 }, part(1, 40),
			func(a fetcher.Answer) bool {
				return a.Err == nil && a.Diverging != nil && a.Diverging.Epoch == 1 && a.Diverging.End == 30
			}},
		"before the start": {func(p *kmsg.FetchResponseTopicPartition) { p.ErrorCode = 1 }, part(1, 5), func(a fetcher.Answer) bool { return a.Err == nil && a.Beyond && a.LogStart == 10 }},
		"out of range":     {func(p *kmsg.FetchResponseTopicPartition) { p.ErrorCode = 1 }, part(1, 40), func(a fetcher.Answer) bool { return a.Err != nil && !a.Beyond }},
	} {
		change = c.change
		answers, err := ask(t, b, question(c.part))
		if err != nil || len(answers) != 1 || !c.check(answers[0]) {
			t.Errorf("%s: %+v, %v", name, answers, err)
		}
	}
}

// Two questions may be on their way, from the first moment on.
func TestTwoQuestionsAtATime(t *testing.T) {
	hold := make(chan struct{})
	s := newServer(t, func(n int, _ *kmsg.FetchRequest) *kmsg.FetchResponse {
		if n == 1 {
			<-hold
		}
		return answerWith(func(p *kmsg.FetchResponseTopicPartition) { p.HighWatermark = int64(n) })
	})
	b := newBrokers(t, s)
	answered := make(chan int64, 3)
	done := func(answers []fetcher.Answer, err error) {
		if err != nil {
			answered <- -1
			return
		}
		answered <- answers[0].HighWatermark
	}
	b.Fetch(5, question(part(1, 40)), done)
	b.Fetch(5, change(part(2, 0)), done)
	close(hold)
	for want := int64(1); want <= 2; want++ {
		if got := <-answered; got != want {
			t.Fatalf("answer %d, want %d", got, want)
		}
	}
	if _, err := ask(t, b, question(part(1, 40))); err != nil {
		t.Fatal(err)
	}
}

// A question about replicas that are not in sync is on a connection of its own, with its own session: the others do not wait for it.
func TestWhoIsBehindHasAConnectionOfItsOwn(t *testing.T) {
	hold := make(chan struct{})
	s := newServer(t, func(_ int, req *kmsg.FetchRequest) *kmsg.FetchResponse {
		if req.Topics[0].Partitions[0].Partition == 2 {
			<-hold
		}
		return answerWith(func(p *kmsg.FetchResponseTopicPartition) { p.Partition = req.Topics[0].Partitions[0].Partition })
	})
	b := newBrokers(t, s)
	behind := question(part(2, 0))
	behind.Behind = true
	answered := make(chan error, 1)
	b.Fetch(5, behind, func(_ []fetcher.Answer, err error) { answered <- err })
	for offset := int64(40); offset < 43; offset++ {
		if answers, err := ask(t, b, question(part(1, offset))); err != nil || len(answers) != 1 {
			t.Fatalf("%+v, %v", answers, err)
		}
	}
	select {
	case err := <-answered:
		t.Fatalf("the held one is answered: %v", err)
	default:
	}
	close(hold)
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}

// Until a whole question is answered nobody knows the session's id: what follows it is whole too.
func TestSessionsBegin(t *testing.T) {
	var s session
	expect := func(id, epoch int32) {
		t.Helper()
		if i, e := s.next(false); i != id || e != epoch {
			t.Fatalf("session %d, epoch %d, want %d, %d", i, e, id, epoch)
		}
	}
	expect(0, 0)
	expect(0, 0)
	s.answered(8)
	expect(0, 0) // the second is on its way, and is the session that stays
	s.answered(9)
	s.answered(10)
	expect(10, 1)
	expect(10, 2)
	s.answered(10)
	expect(10, 3)
	s.epoch = 1<<31 - 1
	expect(10, 1<<31-1)
	expect(10, 1)
}

// Whatever goes wrong is said, once, and the next question begins anew.
func TestWhatFailsIsSaid(t *testing.T) {
	for name, answer := range map[string]func() *kmsg.FetchResponse{
		"the connection ends": func() *kmsg.FetchResponse { return nil },
		"no session":          func() *kmsg.FetchResponse { return kmsg.NewPtrFetchResponse() },
		"the session is gone": func() *kmsg.FetchResponse {
			resp := kmsg.NewPtrFetchResponse()
			resp.ErrorCode = 70
			return resp
		},
		"too long": func() *kmsg.FetchResponse {
			return answerWith(func(p *kmsg.FetchResponseTopicPartition) { p.RecordBatches = make([]byte, 9<<20) })
		},
	} {
		s := newServer(t, func(n int, _ *kmsg.FetchRequest) *kmsg.FetchResponse {
			if n == 2 {
				return answer()
			}
			return answerWith(func(*kmsg.FetchResponseTopicPartition) {})
		})
		b := newBrokers(t, s)
		for n := 1; n <= 3; n++ {
			if _, err := ask(t, b, question(part(1, 40))); (err != nil) != (n == 2) {
				t.Errorf("%s: question %d: %v", name, n, err)
			}
		}
		s.mu.Lock()
		if last := s.asked[2]; last.SessionID != 0 || last.SessionEpoch != 0 || len(last.Topics) != 1 {
			t.Errorf("%s: the next question is %+v", name, last)
		}
		s.mu.Unlock()
	}
}

func TestCloseAnswersEverything(t *testing.T) {
	s := newServer(t, func(int, *kmsg.FetchRequest) *kmsg.FetchResponse { select {} })
	b := newBrokers(t, s)
	errs := make(chan error, 2)
	for range 2 {
		b.Fetch(5, question(part(1, 40)), func(_ []fetcher.Answer, err error) { errs <- err })
	}
	b.Close()
	for range 2 {
		if err := <-errs; err == nil {
			t.Error("answered")
		}
	}
	if _, err := ask(t, b, question(part(1, 40))); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	unreachable := New(Config{FrameBytesMax: 1 << 20}, Deps{Open: func(int32) (net.Conn, error) { return nil, io.ErrUnexpectedEOF }})
	if _, err := ask(t, unreachable, question(part(1, 40))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	unreachable.Close()
}

// A connection on which nobody asks is closed, and opened again.
func TestIdleConnectionsEnd(t *testing.T) {
	s := newServer(t, func(int, *kmsg.FetchRequest) *kmsg.FetchResponse {
		return answerWith(func(*kmsg.FetchResponseTopicPartition) {})
	})
	b := New(Config{FrameBytesMax: 1 << 20, Idle: time.Millisecond}, Deps{Open: s.dial})
	defer b.Close()
	for range 3 {
		if _, err := ask(t, b, question(part(1, 40))); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			b.mu.Lock()
			n := len(b.callers)
			b.mu.Unlock()
			if n == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the caller stays")
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) != 3 {
		t.Errorf("%d connections", len(s.conns))
	}
}
