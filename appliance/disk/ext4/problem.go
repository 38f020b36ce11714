package ext4

import "fmt"

// Kind says what a [Problem] damages, and so what can be done about it.
type Kind int

const (
	// Groups: a group descriptor, a bitmap or a count, which [RebuildGroups] makes anew from the inodes.
	Groups Kind = iota
	// Files: an inode, an extent tree or a directory. It cannot be made anew.
	Files
)

// Problem is one thing that is wrong with a file system.
type Problem struct {
	Kind Kind
	Text string
}

func (p Problem) String() string { return p.Text }

// Problems are what [Check] found; at most 1,000 of each kind are kept.
type Problems []Problem

const maxProblems = 1000

// Worst is the kind that is hardest to mend. There must be a problem.
func (p Problems) Worst() Kind {
	worst := Groups
	for _, x := range p {
		worst = max(worst, x.Kind)
	}
	return worst
}

// String names the first problems and how many there are.
func (p Problems) String() string {
	switch len(p) {
	case 0:
		return "none"
	case 1:
		return p[0].Text
	}
	return fmt.Sprintf("%s; %s; %d in all", p[0].Text, p[1].Text, len(p))
}
