// Package buildinfo says what the running program was built from.
//
// A build inside the repository records the commit by itself. Images are built without that, so that the same sources
// give the same bytes wherever they lie; the linker then sets the version:
//
//	go build -buildvcs=false -ldflags='-X kdht/appliance/buildinfo.release=v1.2.3' ./appliance/kdht
package buildinfo

import "runtime/debug"

// release is set by the linker.
var release string

// Info describes a build.
type Info struct {
	// Release is what the linker was told, usually as `git describe` has it; empty if nothing.
	Release string
	// Revision is the commit, Time when it was committed, both empty if not recorded.
	Revision, Time string
	// Modified says that the tree had changes that were not committed.
	Modified bool
}

// Read returns the description of the running program.
func Read() Info {
	i := Info{Release: release}
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return i
	}
	for _, s := range bi.Settings {
		switch s.Key {
		case "vcs.revision":
			i.Revision = s.Value
		case "vcs.modified":
			i.Modified = s.Value == "true"
		case "vcs.time":
			i.Time = s.Value
		}
	}
	return i
}

// String names the build in one word: the release, else the first 12 digits of the commit with "+changes" when the
// tree had any, else "unknown".
func (i Info) String() string {
	switch {
	case i.Release != "":
		return i.Release
	case i.Revision == "":
		return "unknown"
	case i.Modified:
		return i.Revision[:min(12, len(i.Revision))] + "+changes"
	}
	return i.Revision[:min(12, len(i.Revision))]
}
