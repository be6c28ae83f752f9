// Command cairn is the one binary of the project: the server of a box, and the tools of a person beside it. Each
// subcommand has a file; this one only joins them. It holds no logic that a room of the engine could have.
package main

import (
	"errors"
	"fmt"
	"io"
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

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is the program: it returns the exit code.
func run(args []string, in io.Reader, out, errs io.Writer) int {
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
	root.AddCommand(startCommand(), topicCommand(), groupCommand(), produceCommand(), consumeCommand(), zkCommand(), clusterCommand(),
		dumpCommand(), backupCommand(), restoreCommand(), doctorCommand(), versionCommand())
	group(root)
	checkArgs(root)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintln(errs, "cairn:", err)
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

// checkArgs makes a wrong number of arguments an error of the command line, for a command and all below it.
func checkArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usage("%w; usage: %s", err, c.UseLine())
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		checkArgs(sub)
	}
}
