package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"cairn/packaging/bench/measure"
)

// bench is what was asked for.
type bench struct {
	ctx       context.Context
	cairn     string // binary
	classpath string // ZooKeeper's jars
	version   string // of ZooKeeper, for people
	dir       string // data of everything that is started
	short     bool
	rounds    int
}

func main() {
	b := &bench{}
	flag.StringVar(&b.cairn, "cairn", "", "cairn's binary")
	flag.StringVar(&b.classpath, "classpath", "", "ZooKeeper's jars")
	flag.StringVar(&b.version, "zookeeper", "of unknown version", "ZooKeeper's version, for the table")
	flag.StringVar(&b.dir, "dir", "", "empty directory to work in, on the disk that is measured")
	flag.BoolVar(&b.short, "short", false, "fewer and shorter runs")
	flag.IntVar(&b.rounds, "rounds", 0, "how often each thing is measured; 0: 6, in the short form 1")
	flag.Parse()
	if b.rounds == 0 {
		b.rounds = 6
		if b.short {
			b.rounds = 1
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b.ctx = ctx
	if err := b.all(); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

// all measures one server and three, and prints the tables. What was measured before an error is printed too.
func (b *bench) all() error {
	facts := measure.Machine(b.dir)
	total, stolen := measure.Ticks()
	begin := time.Now()
	var results []result
	var failed error
	for _, servers := range []int{1, 3} {
		got, err := b.measure(servers)
		results = append(results, got)
		if failed = err; failed != nil {
			failed = fmt.Errorf("%d servers: %w", servers, err)
			break
		}
	}
	totalEnd, stolenEnd := measure.Ticks()
	facts = append(facts, java(), "ZooKeeper: "+b.version,
		fmt.Sprintf("rounds: %d, begun %s, took %s", b.rounds, begin.UTC().Format(time.RFC3339), time.Since(begin).Round(time.Second)),
		fmt.Sprintf("processor time stolen by the hypervisor: %.2f %%", 100*float64(stolenEnd-stolen)/float64(max(totalEnd-total, 1))))
	return errors.Join(failed, printTables(os.Stdout, facts, results))
}

// measure measures ensembles of a number of servers: what they can do, and in fresh ones what the same load costs them.
func (b *bench) measure(servers int) (result, error) {
	r := result{servers: servers}
	pair, err := b.start(servers, "most")
	if err != nil {
		return r, err
	}
	r.most, r.fans, err = b.measureMost(pair)
	pair.kill()
	if err != nil {
		return r, err
	}
	if pair, err = b.start(servers, "equal"); err != nil {
		return r, err
	}
	defer pair.kill()
	r.equal, r.memory, r.idle, err = b.measureEqual(pair, r.most)
	return r, err
}

// seconds is a time of a run, a fifth of it in the short form.
func (b *bench) seconds(full float64) time.Duration {
	if b.short {
		full /= 5
	}
	return time.Duration(full * float64(time.Second))
}

// java names the virtual machine.
func java() string {
	out, err := exec.Command("java", "-version").CombinedOutput()
	if err != nil {
		return "java: " + err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return "java: " + line
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().UTC().Format("15:04:05 ")+format+"\n", args...)
}
