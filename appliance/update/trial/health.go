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
var Required = []string{"store", "link", "address", "tasks", "kernel", "answers", "answered"}

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
