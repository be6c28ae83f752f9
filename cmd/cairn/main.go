// Command cairn is the one binary of the project: the server of a box, and the tools of a person beside it. Each
// subcommand has a file; this one only joins them. It holds no logic that a room of the engine could have.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "unknown"

// Exit codes that scripts can rely on.
const (
	exitOK      = 0
	exitFailed  = 1 // the thing that was asked for did not work
	exitUsage   = 2 // the command was not understood
	exitUnready = 3 // no server answered
)

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usage marks an error of the command line.
func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	root := &cobra.Command{
		Use:           "cairn",
		Short:         "Real Kafka and real ZooKeeper on a few cheap boxes, in one binary",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.PersistentFlags().Bool("json", false, "print JSON for machines, one value a line")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w; `%s --help` lists the flags", err, c.CommandPath())
	})
	root.AddCommand(startCommand(), topicCommand(), groupCommand(), produceCommand(), consumeCommand(), zkCommand(),
		dumpCommand(), doctorCommand(), versionCommand())
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(os.Stderr, "cairn:", err)
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	return exitFailed
}

// group makes a command that only holds others: one that it does not know is an error and not a page of help.
func group(c *cobra.Command) {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		return usage("unknown command %q; `%s --help` lists what there is", args[0], c.CommandPath())
	}
}
