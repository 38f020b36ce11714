package discover

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"kdht/appliance/status"
	"kdht/router"
)

// Report is what discovery has found.
type Report struct {
	Service    string      `json:"service"` // type
	Network    string      `json:"network"` // "public" or "private"
	Name       string      `json:"name"`    // of the network
	Interfaces []Interface `json:"interfaces"`
	Events     []Count     `json:"events"` // since the process began
}

// Interface is an interface on which the node announces itself.
type Interface struct {
	Name       string           `json:"name"`
	Families   []string         `json:"families"`        // in which it does
	Addresses  []netip.AddrPort `json:"addresses"`       // that it announces
	Error      string           `json:"error,omitempty"` // that hinders it
	Neighbours []Neighbour      `json:"neighbours"`
}

// Neighbour is another node of the network, as it announces itself.
type Neighbour struct {
	Name      string           `json:"name"` // of the service instance
	Addresses []netip.AddrPort `json:"addresses"`
	IPv4      string           `json:"idIPv4,omitempty"` // node ID in hex
	IPv6      string           `json:"idIPv6,omitempty"`
	Version   string           `json:"version"`
	First     time.Time        `json:"first"`
	Last      time.Time        `json:"last"`    // when it was heard
	Contact   bool             `json:"contact"` // it has answered and is in a routing table
}

// Count counts something.
type Count struct {
	Event string `json:"event"`
	Count uint64 `json:"count"`
}

// event is something that is counted.
type event int

const (
	sentAnnouncement event = iota
	sentQuery
	sentAnswer
	sentGoodbye
	receivedQuery
	receivedResponse
	ignoredOther
	ignoredOffLink
	ignoredTooMany
	droppedOffLink
	droppedPort
	droppedMalformed
	events
)

var eventNames = [events]string{
	sentAnnouncement: "announcement sent",
	sentQuery:        "query sent",
	sentAnswer:       "answer sent",
	sentGoodbye:      "goodbye sent",
	receivedQuery:    "query received",
	receivedResponse: "neighbour heard",
	ignoredOther:     "neighbour of another network",
	ignoredOffLink:   "neighbour without an address on the link",
	ignoredTooMany:   "neighbour beyond the bounds",
	droppedOffLink:   "dropped, sender not on the link",
	droppedPort:      "dropped, response from another port",
	droppedMalformed: "dropped, malformed",
}

// count counts an event. The lock is held.
func (t *Task) count(e event) { t.counts[e]++ }

// Report describes the present state.
func (t *Task) Report() Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := Report{Service: ServiceType, Network: t.config.network(), Name: t.config.Name, Interfaces: []Interface{}}
	for _, l := range t.links {
		if f := t.ifaces[l.Index]; f != nil {
			r.Interfaces = append(r.Interfaces, f.report())
		}
	}
	for e, n := range t.counts {
		r.Events = append(r.Events, Count{Event: eventNames[e], Count: n})
	}
	return r
}

func (f *iface) report() Interface {
	i := Interface{Name: f.link.Name, Families: []string{}, Addresses: []netip.AddrPort{}, Neighbours: []Neighbour{}}
	for family, s := range f.sockets {
		if s != nil {
			i.Families = append(i.Families, router.Family(family).String())
		}
	}
	for _, s := range f.instances {
		for _, a := range s.Addrs {
			i.Addresses = append(i.Addresses, netip.AddrPortFrom(a, s.Port))
		}
	}
	if err := errors.Join(f.errs[:]...); err != nil {
		i.Error = err.Error()
	}
	for _, n := range f.sorted() {
		s := Neighbour{Name: n.name, Addresses: n.addrs, Version: n.text.Version, First: n.first, Last: n.last}
		for family, id := range []*string{&s.IPv4, &s.IPv6} {
			if !n.text.ID[family].IsZero() {
				*id = n.text.ID[family].String()
			}
		}
		for _, a := range n.addrs {
			s.Contact = s.Contact || f.task.config.Node.Knows(a.Addr())
		}
		i.Neighbours = append(i.Neighbours, s)
	}
	return i
}

const sectionTitle = "Nodes on this LAN"

// section is the report for people.
func (r Report) section() status.Section {
	s := status.Section{Title: sectionTitle, Facts: []status.Fact{{Name: "Network", Value: r.Network + ", " + r.Name}}}
	fact := func(name, format string, args ...any) {
		s.Facts = append(s.Facts, status.Fact{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	if len(r.Interfaces) == 0 {
		fact("Interfaces", "none is up, carries multicast and has an address at which the node can be reached")
	}
	for _, i := range r.Interfaces {
		fault := ""
		if i.Error != "" {
			fault = "; " + i.Error
		}
		fact(i.Name, "announced as %s by %s%s", join(i.Addresses), strings.Join(i.Families, " and "), fault)
		for _, n := range i.Neighbours {
			state := "has not answered yet"
			if n.Contact {
				state = "is a contact"
			}
			fact(i.Name+", "+n.Name, "%s, version %s, %s, last heard %s", join(n.Addresses), n.Version, state,
				n.Last.UTC().Format(time.DateTime+" MST"))
		}
	}
	return s
}

func join(addrs []netip.AddrPort) string {
	all := make([]string, len(addrs))
	for i, a := range addrs {
		all[i] = a.String()
	}
	return strings.Join(all, ", ")
}
