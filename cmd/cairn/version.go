package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary and what it was built from",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := struct {
				Version string            `json:"version"`
				Go      string            `json:"go"`
				System  string            `json:"system"`
				Modules map[string]string `json:"modules"`
			}{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, map[string]string{}}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, m := range info.Deps {
					v.Modules[m.Path] = m.Version
				}
			}
			out := newPrinter(c)
			if out.json {
				return out.object(v)
			}
			out.line(fmt.Sprintf("cairn %s (%s, %s)", v.Version, v.Go, v.System))
			return nil
		},
	}
}
