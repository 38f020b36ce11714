package trial

import "strings"

// Check is one condition of health.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // why not
}

// Health is what the guard asks for.
type Health struct {
	Checks []Check `json:"checks"`
}

// Required names the checks without any of which a version is not well.
var Required = []string{"store", "link", "address", "tasks", "kernel", "answers", "answered", "tailnet"}

// Outside names the checks that fail, too, when the network around the box does: what fails in nothing else is not
// proven to be bad.
var Outside = []string{"link", "address", "answered", "tailnet"}

// Failed names the checks that fail, those that were not made among them.
func (h Health) Failed() (names []string) {
	seen := make(map[string]bool)
	for _, c := range h.Checks {
		seen[c.Name] = true
		if !c.OK {
			names = append(names, c.Name)
		}
	}
	for _, name := range Required {
		if !seen[name] {
			names = append(names, name)
		}
	}
	return names
}

// Unhealthy says what is missing for health, "" if nothing is.
func (h Health) Unhealthy() string {
	var bad []string
	seen := make(map[string]bool)
	for _, c := range h.Checks {
		seen[c.Name] = true
		if !c.OK {
			bad = append(bad, c.Name+": "+c.Detail)
		}
	}
	for _, name := range Required {
		if !seen[name] {
			bad = append(bad, name+": not checked")
		}
	}
	return strings.Join(bad, "; ")
}
