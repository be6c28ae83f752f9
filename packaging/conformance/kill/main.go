package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	bytesPerRound = 5 << 20
	bytesMax      = 1 << 30
	timePerRound  = 10 * time.Second // far more than a round needs: the bound of the whole run
	timeBeside    = 5 * time.Minute
)

func main() {
	binary := flag.String("cairn", "", "cairn's binary")
	dir := flag.String("dir", "", "empty directory to work in")
	rounds := flag.Int("rounds", 20, "how many times to kill")
	bytes := flag.Int64("bytes", 0, "bytes of log to make in all; 0: 5 MiB a round, at most 1 GiB")
	seed := flag.Uint64("seed", 0, "decides the moments of the kills and the sizes of the records; 0: a new one")
	flag.Parse()
	if *binary == "" || *dir == "" || *rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if *bytes == 0 {
		*bytes = min(int64(*rounds)*bytesPerRound, bytesMax)
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	fmt.Printf("%d kills, up to %d MB of log, seed %d\n", *rounds, *bytes/1e6, *seed)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(*rounds)*timePerRound+timeBeside)
	defer cancel()

	suite, err := NewSuite(*binary, *dir, *rounds, *bytes, *seed)
	if err == nil {
		err = suite.Run(ctx, *rounds)
	}
	if suite == nil {
		suite = &Suite{}
	} else if err != nil {
		suite.ledger.Fault("the suite could not go on: %v", err)
		suite.report("the suite comes to its end")
	}
	if suite.ledger == nil {
		fmt.Println("FAIL ", err)
		suite.failed++
	}
	fmt.Printf("%d passed, %d failed\n", suite.passed, suite.failed)
	if suite.failed > 0 {
		fmt.Printf("the same kills again: -seed %d\n", *seed)
		os.Exit(1)
	}
}
