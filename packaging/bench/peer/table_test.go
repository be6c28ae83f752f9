package main

import (
	"strings"
	"testing"

	"cairn/packaging/bench/measure"
)

func TestTablesJudgeWhatIsPromised(t *testing.T) {
	s := series{workload: workloads[1], sessions: 64, rate: 1000}
	for peer, cpu := range []float64{50, 90} {
		s.rates[peer], s.p50[peer], s.p99[peer] = measure.Figures{1000}, measure.Figures{1}, measure.Figures{2}
		s.cpu[peer], s.disk[peer] = measure.Figures{cpu}, measure.Figures{300}
	}
	r := result{servers: 3, equal: []series{s}}
	r.memory.pss = [2]measure.Figures{{20}, {100}}
	var out strings.Builder
	if err := printTables(&out, []string{"a fact"}, []result{r}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"- a fact\n", "| 1.800 | **MISSED** (≥ 2) |", "| 0.200 | met (≤ 0.25) |", "3 servers"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "watchers") {
		t.Error("a row that was not measured is printed")
	}
}

func TestTurnsAlternate(t *testing.T) {
	if turns(0) != [2]int{0, 1} || turns(1) != [2]int{1, 0} {
		t.Fatalf("%v, %v", turns(0), turns(1))
	}
}

func TestCreatesAreUndone(t *testing.T) {
	talker, undo := creates()
	made := talker(5)
	for id := uint32(1); id <= 3; id++ {
		made.Append(nil, id)
	}
	deletes := undo(5)
	for id := uint32(1); id <= 3; id++ {
		if frame := deletes.Append(nil, id); !strings.Contains(string(frame), parentOfCreates+"/005-0000000"+string(rune('0'+id-1))) {
			t.Fatalf("delete %d is %q", id, frame)
		}
	}
	if frame := deletes.Append(nil, 4); len(frame) != 0 {
		t.Fatalf("a fourth delete %q", frame)
	}
}
