package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"kdht/router/krpc"
)

type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (versionCmd) Help() string {
	return `Prints the revision that the program was built from, the Go release, and how the node names itself to others
(the key "v" of its messages).`
}

// version describes the program.
type version struct {
	Revision string `json:"revision"` // commit; "unknown" if the build did not record it
	Modified bool   `json:"modified"` // built from a tree with changes
	Time     string `json:"time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	V        string `json:"v"` // hexadecimal
}

func thisVersion() version {
	v := version{Revision: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, V: fmt.Sprintf("%x", krpc.Version)}
	if bi, ok := debug.ReadBuildInfo(); ok {
		for _, s := range bi.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			case "vcs.time":
				v.Time = s.Value
			}
		}
	}
	return v
}

// Run prints the version.
func (c *versionCmd) Run(s *system) error {
	v := thisVersion()
	if c.JSON {
		return s.printJSON(v)
	}
	modified := ""
	if v.Modified {
		modified = " (modified)"
	}
	_, err := fmt.Fprintf(s.stdout, "kdht %s%s %s %s v=%s\n", v.Revision, modified, v.Go, v.Platform, v.V)
	return err
}
