package main

import (
	"cmp"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cairn/packaging/conformance/boxes"
)

// logOf makes a log of one-record batches.
func logOf(box int, ids ...ID) *Log {
	l := &Log{Box: box}
	for i, id := range ids {
		b := batchOf(value(id, 40))
		b[7] = byte(i) // the base offset, which lies outside the CRC
		batch, _, err := nextBatch(b)
		if err != nil {
			panic(err)
		}
		l.Batches = append(l.Batches, batch)
	}
	return l
}

// ledgerOf has made numbers 1 to made of key 0, and two groups that have seen a log.
func ledgerOf(made int64, log *Log) *Ledger {
	l := NewLedger([]Place{{"t", 0}, {"t", 1}}, 2*producersCount)
	l.made[0] = made
	for _, b := range log.Batches {
		_ = b.records(func(offset int64, _, v []byte) {
			id, _ := readValue(v)
			for group := range groupsCount {
				l.Seen(group, 0, offset, id)
			}
		})
	}
	return l
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		made  int64
		log   []ID
		acks  []Ack
		doubt []span
		bad   bool
	}{
		"whole":                      {made: 2, log: []ID{{0, 1}, {probes, 7}, {probes, 7}, {0, 2}}, acks: []Ack{{0, ID{0, 2}, 3}, {0, ID{probes, 7}, 1}}},
		"lost at the end":            {made: 3, log: []ID{{0, 1}, {0, 2}}, bad: true},
		"lost in the middle":         {made: 3, log: []ID{{0, 1}, {0, 3}}, bad: true},
		"doubled":                    {made: 2, log: []ID{{0, 1}, {0, 1}, {0, 2}}, bad: true},
		"out of order":               {made: 2, log: []ID{{0, 2}, {0, 1}}, bad: true},
		"of nobody":                  {made: 1, log: []ID{{0, 1}, {0, 2}}, bad: true},
		"of another partition":       {made: 1, log: []ID{{0, 1}, {producersCount, 1}}, bad: true},
		"acknowledged elsewhere":     {made: 2, log: []ID{{0, 1}, {0, 2}}, acks: []Ack{{0, ID{0, 2}, 0}}, bad: true},
		"a probe is lost":            {made: 1, log: []ID{{0, 1}}, acks: []Ack{{0, ID{probes, 3}, 1}}, bad: true},
		"in doubt and missing":       {made: 3, log: []ID{{0, 1}, {0, 3}}, doubt: []span{{2, 3}}},
		"in doubt, missing and more": {made: 5, log: []ID{{0, 1}, {0, 5}}, doubt: []span{{2, 4}}, bad: true},
		"in doubt at the end":        {made: 5, log: []ID{{0, 1}}, doubt: []span{{2, 6}}},
		"in doubt and there":         {made: 2, log: []ID{{0, 1}, {0, 2}}, doubt: []span{{2, 3}}},
	} {
		log := logOf(1, c.log...)
		l := ledgerOf(c.made, log)
		l.doubts[0] = c.doubt
		for _, a := range c.acks {
			l.keep(a)
		}
		l.Judge(0, log)
		if count, violations := l.Take(); count > 0 != c.bad {
			t.Errorf("%s: %v", name, violations)
		}
	}
}

func TestAGroupMustSeeAll(t *testing.T) {
	log := logOf(1, ID{0, 1}, ID{0, 2})
	l := ledgerOf(2, logOf(1, ID{0, 1}))
	l.Judge(0, log)
	if count, _ := l.Take(); count != groupsCount {
		t.Errorf("%d violations", count)
	}
	l = ledgerOf(2, log)
	l.Seen(0, 0, 1, ID{probes, 5})
	if count, _ := l.Take(); count != 1 {
		t.Error("two records at one offset pass")
	}
}

func TestLogsDiffer(t *testing.T) {
	a := logOf(1, ID{0, 1}, ID{0, 2})
	if what := differ(a, logOf(2, ID{0, 1})); what != "box 1 ends at 2, box 2 at 1" {
		t.Error(what)
	}
	b := logOf(2, ID{0, 1}, ID{0, 2})
	b.Batches[0].Bytes[batchEpochAt] ^= 1 // outside the CRC
	if differ(a, b) == "" {
		t.Error("another epoch passes")
	}
}

// Replicas of a compacted log may hold other records, but the last of each key; one that is null may be gone.
func TestCompactedLogsDiffer(t *testing.T) {
	keyed := func(box int, from byte, all ...string) *Log {
		l := &Log{Box: box}
		for i, v := range all {
			var b Batch
			body := []byte{0, 0, 0, 2, v[0]}
			if v[1] == '-' {
				body = append(body, 1) // null
			} else {
				body = append(body, 2, v[1])
			}
			b.Bytes = make([]byte, batchHeaderBytes)
			b.Bytes[batchCountAt+3] = 1
			b.Bytes = append(append(b.Bytes, byte(2*(len(body)+1))), append(body, 0)...)
			b.Base, b.Last = int64(from)+int64(i), int64(from)+int64(i)
			l.Batches = append(l.Batches, b)
		}
		return l
	}
	whole := keyed(1, 0, "a1", "b1", "c-", "a2")
	for name, c := range map[string]struct {
		other *Log
		same  bool
	}{
		"the same":      {keyed(2, 0, "a1", "b1", "c-", "a2"), true},
		"first is gone": {keyed(2, 1, "b1", "c-", "a2"), true},
		"b is gone":     {keyed(2, 2, "c-", "a2"), false},
		"another a":     {keyed(2, 0, "a1", "b1", "c-", "a3"), false},
		"c is there":    {keyed(2, 0, "a1", "b1", "c1", "a2"), false},
		"shorter":       {keyed(2, 0, "a1", "b1", "c-"), false},
	} {
		if what := differCompacted(whole, c.other); what == "" != c.same {
			t.Errorf("%s: %q", name, what)
		}
	}
}

// Segments are read one behind the other; a hole between them, or a broken batch, is found.
func TestReadLog(t *testing.T) {
	dir := t.TempDir()
	log := logOf(1, ID{0, 1}, ID{0, 2}, ID{0, 3})
	write := func(name string, batches ...Batch) {
		var all []byte
		for _, b := range batches {
			all = append(all, b.Bytes...)
		}
		if err := os.WriteFile(filepath.Join(dir, name), all, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("00000000000000000000.log", log.Batches[:2]...)
	write("00000000000000000002.log", log.Batches[2])
	if got, err := readLog(1, dir, false); err != nil || got.End() != 3 || differ(got, log) != "" {
		t.Fatal(got, err)
	}
	write("00000000000000000000.log", log.Batches[0])
	if _, err := readLog(1, dir, false); err == nil {
		t.Error("a hole passes")
	}
	log.Batches[1].Bytes[batchHeaderBytes] ^= 1
	write("00000000000000000000.log", log.Batches[:2]...)
	if _, err := readLog(1, dir, false); err == nil {
		t.Error("a broken batch passes")
	}
}

// What one run leaves another one takes up; what a killed run has made after its last state is in doubt.
func TestStateGoesOn(t *testing.T) {
	for _, clean := range []bool{true, false} {
		dir := t.TempDir()
		places := []Place{{"t", 0}}
		l := NewLedger(places, producersCount)
		j, err := openJournal(dir, l)
		if err != nil {
			t.Fatal(err)
		}
		l.Acked(0, l.Next(0), 7)
		l.Committed(1, 0, 8)
		if err := errorsOf(j.Save(State{Seed: 3, Rounds: 2}, l, []int64{8}, clean), j.Close()); err != nil {
			t.Fatal(err)
		}
		s, ok, err := loadState(dir)
		if err != nil || !ok || s.Seed != 3 || s.Rounds != 2 {
			t.Fatal(s, ok, err)
		}
		again := NewLedger(places, producersCount)
		if err := again.restore(dir, &s); err != nil {
			t.Fatal(err)
		}
		if acks, _ := again.Totals(); acks != 1 || again.acks[0][0] != (Ack{0, ID{0, 1}, 7}) || again.Floor(1, 0) != 8 || again.seats[0][0].from != 8 {
			t.Errorf("%+v", again)
		}
		if next := again.Next(0).Number; (next == 2) != clean {
			t.Errorf("clean %v: number %d follows", clean, next)
		}
	}
}

func errorsOf(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestASeedDecidesTheFault(t *testing.T) {
	rig := Rig{cluster: &boxes.Cluster{Network: &boxes.Network{}}, leads: func(int) bool { return true }}
	for _, kind := range kinds {
		names := map[string]bool{}
		for seed := range uint64(40) {
			name := func() string { return NewFault(kind, rig, rand.New(rand.NewPCG(seed, 7))).Name }
			if name() != name() {
				t.Errorf("%s, seed %d: twice not the same", kind, seed)
			}
			names[name()] = true
		}
		if kind != "all" && kind != "storm" && len(names) < 4 {
			t.Errorf("%s: only %v", kind, names)
		}
	}
}

func TestPlans(t *testing.T) {
	if steps, err := boxes.ParsePlan("kill:3,mixed:1", append(slices.Clone(kinds), mixed)); err != nil || len(steps) != 2 {
		t.Error(steps, err)
	}
	for _, bad := range []string{"", "kill", "kill:0", "fire:1", "kill:x", "kill:1,"} {
		if _, err := boxes.ParsePlan(bad, append(slices.Clone(kinds), mixed)); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

// A Java producer's partition must hold what was acknowledged where it was, in rising order; another run goes on with that.
func TestJudgeJava(t *testing.T) {
	place := Place{javaTopic(0), 1}
	for name, c := range map[string]struct {
		log   []string
		acked map[int64]string
		bad   bool
	}{
		"whole":                  {log: []string{"1.0", "1.3", "2.0"}, acked: map[int64]string{1: "1.3", 2: "2.0"}},
		"lost":                   {log: []string{"1.0"}, acked: map[int64]string{1: "1.3"}, bad: true},
		"acknowledged elsewhere": {log: []string{"1.0", "1.3"}, acked: map[int64]string{0: "1.3"}, bad: true},
		"doubled":                {log: []string{"1.0", "1.0"}, bad: true},
		"out of order":           {log: []string{"1.3", "1.0"}, bad: true},
		"of an earlier run":      {log: []string{"2.0", "1.9"}, bad: true},
		"of nobody":              {log: []string{"3.0"}, bad: true},
		"something else":         {log: []string{"1.0x"}, bad: true},
	} {
		violations, dir := 0, t.TempDir()
		violated := func(string, ...any) { violations++ }
		for run := 1; run <= 2; run++ { // the second knows what the first was told
			l, err := OpenJavaLedger(dir, run, violated)
			if err != nil {
				t.Fatal(err)
			}
			if run == 1 {
				for offset, text := range c.acked {
					value, err := readJavaValue(text)
					if err = cmp.Or(err, l.Acked(place, offset, value)); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := l.file.WriteString("java-0 1 77"); err != nil { // as a killed run leaves it
					t.Fatal(err)
				}
			} else {
				l.Judge(place, javaLogOf(c.log...))
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if violations > 0 != c.bad {
			t.Errorf("%s: %d violations", name, violations)
		}
	}
}

func javaLogOf(values ...string) *Log {
	l := &Log{Box: 1}
	for i, v := range values {
		b := batchOf([]byte(v))
		b[7] = byte(i)
		batch, _, err := nextBatch(b)
		if err != nil {
			panic(err)
		}
		l.Batches = append(l.Batches, batch)
	}
	return l
}

// What the producer prints is taken in line by line; a record that is refused while it closes is no violation.
func TestReadJava(t *testing.T) {
	violations := 0
	l, err := OpenJavaLedger(t.TempDir(), 3, func(string, ...any) { violations++ })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	refused := `{"name":"producer_send_error","topic":"java-0","key":null,"value":"3.5","exception":"class E","message":"m"}` + "\n"
	j := &Java{topic: javaTopic(0), ledger: l, told: -1}
	for _, text := range []string{
		`{"timestamp":1,"name":"startup_complete"}` + "\n" + `{"name":"producer_send_success","key":null,"value":"3.4","partition":2,"topic":"java-0","offset":9}` + "\n" + refused,
		refused + `{"timestamp":1,"name":"tool_data","sent":2,"acked":1,"target_throughput":5,"avg_throughput":0.5}` + "\n",
	} {
		if err := j.read(strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		j.stopping = true
	}
	if got := l.acks[Place{"java-0", 2}][9]; got != (javaValue{3, 4}) || l.Count("java-0") != 1 || j.told != 1 || violations != 1 {
		t.Errorf("%v, %d acknowledged, it says %d, %d violations", got, l.Count("java-0"), j.told, violations)
	}
	if j.read(strings.NewReader("Exception in thread\n")) == nil {
		t.Error("a line that is no JSON passes")
	}
}
