package main

import (
	"fmt"
	"runtime"

	"kdht/appliance/buildinfo"
	"kdht/router/krpc"
)

type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (versionCmd) Help() string {
	return `Prints the release or the revision that the program was built from, the Go release, and how the node names itself to others
(the key "v" of its messages).`
}

// version describes the program.
type version struct {
	Release  string `json:"release,omitempty"`
	Revision string `json:"revision"` // commit; "unknown" if the build did not record it
	Modified bool   `json:"modified"` // built from a tree with changes
	Time     string `json:"time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	V        string `json:"v"` // hexadecimal
}

func thisVersion() version {
	b := buildinfo.Read()
	v := version{
		Release: b.Release, Revision: b.Revision, Modified: b.Modified, Time: b.Time,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, V: fmt.Sprintf("%x", krpc.Version),
	}
	if v.Revision == "" {
		v.Revision = "unknown"
	}
	return v
}

// Run prints the version.
func (c *versionCmd) Run(s *system) error {
	v := thisVersion()
	if c.JSON {
		return s.printJSON(v)
	}
	name, modified := v.Revision, ""
	if v.Release != "" {
		name = v.Release
	} else if v.Modified {
		modified = " (modified)"
	}
	_, err := fmt.Fprintf(s.stdout, "kdht %s%s %s %s v=%s\n", name, modified, v.Go, v.Platform, v.V)
	return err
}
