package kernel

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"kdht/appliance/link"
	"kdht/appliance/status"
	"kdht/bpf"
	"kdht/config"
)

// An interface whose link has lost its last pin is tried so often, with a pause before each time.
const (
	releaseTries = 100
	releasePause = 10 * time.Millisecond
)

const (
	modeNone = "none"
	// vethReason: XDP_TX on veth hands the frame to a NAPI instance of the other end, which exists only where XDP or
	// GRO is on; without one the driver drops it, and nobody is told. What this machine itself sends has no checksum yet, which
	// the generic variant passes.
	vethReason = "native mode on veth loses every reply, silently, unless the other end has XDP or GRO on; --xdp native forces it. " +
		"In generic mode user space answers what was sent on this same machine (partial_checksum)"
)

// nic is an interface as the kernel half knows it.
type nic struct {
	link     link.Link // as last seen; as it was at the attempt while failed
	attached bool
	failed   bool // there is no use in trying again before it changes
	mode     string
	reason   string
	program  uint32 // ID of our program as read back from the kernel, 0 while it was not
}

// unwanted returns why an interface is not to have XDP, or "". attached is whether it has: an interface that goes
// down keeps it, for the moment it comes up again.
func (h *Half) unwanted(l link.Link, attached bool) string {
	if len(h.c.Interfaces) > 0 {
		switch {
		case !h.named(l.Name):
			return "not among the interfaces of the configuration"
		case !l.Up && !attached:
			return "it is down"
		}
		return ""
	}
	if attached {
		l.Up = true
	}
	return l.Unsuitable()
}

// reconcile makes the program attached where it should be, and tells it the endpoints. It returns whether it attached
// or detached anything.
func (h *Half) reconcile(program Program, links []link.Link) (changed bool) {
	present := make(map[int]bool, len(links))
	for _, l := range links {
		present[l.Index] = true
	}
	for index, n := range h.nics {
		if !present[index] {
			h.detach(program, n, "the interface is gone")
			delete(h.nics, index)
		}
	}
	loopback := slices.ContainsFunc(links, func(l link.Link) bool { return l.Loopback && h.named(l.Name) })
	h.setEndpoints(program, links, loopback) // before anything new is attached that would need them

	for _, l := range links {
		n := h.nics[l.Index]
		if n == nil {
			n = &nic{mode: modeNone}
			h.nics[l.Index] = n
			if h.pins.used && h.unwanted(l, false) != "" && l.XDPMode != "" {
				changed = h.clear(program, l) || changed
			}
		}
		changed = h.one(program, n, l) || changed
	}
	h.noteMissing(links)
	h.publish(links, program.Attachments())
	return changed
}

// clear removes what a predecessor with other wishes left at an interface. A program of somebody else stays: it makes
// Attach fail.
func (h *Half) clear(program Program, l link.Link) bool {
	if _, err := program.Attach(l.Index, bpf.ModeAuto); err != nil {
		return false
	}
	if err := program.Detach(l.Index); err != nil {
		h.c.Log.Warn("XDP not detached", "interface", l.Name, "index", l.Index, "err", err)
	}
	return true
}

// one reconciles one interface.
func (h *Half) one(program Program, n *nic, l link.Link) (changed bool) {
	if n.attached {
		switch {
		case l.Generation != n.link.Generation && (n.program == 0 || l.XDPProgID != n.program):
			h.detach(program, n, "the interface was replaced by another")
			changed = true
		case n.program != 0 && l.XDPMode == "":
			h.detach(program, n, "somebody detached it")
			changed = true
		}
	}
	if reason := h.unwanted(l, n.attached); reason != "" {
		if n.attached {
			h.detach(program, n, reason)
			changed = true
		}
		n.link, n.failed, n.mode, n.reason = l, false, modeNone, reason
		return changed
	}
	if n.attached {
		if l.XDPProgID != 0 {
			n.program = l.XDPProgID
		}
		n.link = l
		h.relaunch(program, l)
		return changed
	}
	if n.failed && n.link.SameDevice(l) {
		n.link.Name, n.link.Addrs = l.Name, l.Addrs
		return changed
	}
	h.attach(program, n, l)
	return true
}

// attach attaches the program to an interface in the best mode there is.
func (h *Half) attach(program Program, n *nic, l link.Link) {
	var modes []bpf.Mode
	var reasons []error
	switch h.c.XDP.Mode {
	case config.XDPNative:
		modes = []bpf.Mode{bpf.ModeNative}
	case config.XDPGeneric:
		modes = []bpf.Mode{bpf.ModeGeneric}
	default:
		modes = []bpf.Mode{bpf.ModeNative, bpf.ModeGeneric}
		if l.Kind == "veth" {
			modes, reasons = modes[1:], []error{errors.New(vethReason)}
		}
	}
	before := *n
	*n = nic{link: l, failed: true, mode: modeNone}
	for _, mode := range modes {
		got, err := h.attachOne(program, l, mode)
		if err == nil {
			n.attached, n.failed, n.mode = true, false, got.String()
			break
		}
		reasons = append(reasons, fmt.Errorf("%s: %w", mode, err))
		if errors.Is(err, bpf.ErrBusy) || errors.Is(err, bpf.ErrNoInterface) || errors.Is(err, bpf.ErrPermission) {
			break // another mode would not do either
		}
	}
	for i, err := range reasons {
		if i > 0 {
			n.reason += "; "
		}
		n.reason += err.Error()
	}
	attrs := []any{"interface", l.Name, "index", l.Index, "driver", l.Driver, "mode", n.mode}
	if n.reason != "" {
		attrs = append(attrs, "reason", n.reason)
	}
	switch {
	case n.mode == before.mode && n.reason == before.reason: // was said before
	case n.failed:
		h.c.Log.Warn("XDP not attached", attrs...)
	case l.Kind != "veth" && n.reason != "":
		h.c.Log.Warn("XDP attached, not in the best mode", attrs...)
	default:
		h.c.Log.Info("XDP attached", attrs...)
	}
}

// relaunch sees to it that recursions that begin at an interface have several paths again, should somebody have changed that.
func (h *Half) relaunch(program Program, l link.Link) {
	switch lost, err := program.Relaunch(l.Index); {
	case lost && err != nil:
		h.c.Log.Warn("recursions that begin here have one path from now on: somebody detached the program in traffic control, and it cannot be attached again", "interface", l.Name, "index", l.Index, "err", err)
	case lost:
		h.c.Log.Warn("somebody detached the program in traffic control, which is attached again", "interface", l.Name, "index", l.Index)
	}
}

// attachOne attaches the program in one mode. What a dead instance of this program left there is removed.
func (h *Half) attachOne(program Program, l link.Link, mode bpf.Mode) (bpf.Mode, error) {
	got, err := program.Attach(l.Index, mode)
	if !errors.Is(err, bpf.ErrBusy) || h.pins.dir == "" {
		return got, err
	}
	dead := reclaim(h.pins.dir, l.Index)
	if len(dead) == 0 {
		return got, err
	}
	h.c.Log.Warn("removed what a dead instance of this program left", "interface", l.Name, "pins", dead)
	for range releaseTries { // the kernel lets go of a link some time after its last pin
		time.Sleep(releasePause)
		if got, err = program.Attach(l.Index, mode); !errors.Is(err, bpf.ErrBusy) {
			break
		}
	}
	return got, err
}

// detach takes the program away from an interface.
func (h *Half) detach(program Program, n *nic, reason string) {
	if !n.attached {
		return
	}
	attrs := []any{"interface", n.link.Name, "index", n.link.Index, "reason", reason}
	if err := program.Detach(n.link.Index); err != nil && !errors.Is(err, bpf.ErrNoInterface) {
		attrs = append(attrs, "err", err)
	}
	h.c.Log.Info("XDP detached", attrs...)
	*n = nic{link: n.link, mode: modeNone, reason: reason}
}

// setEndpoints tells the program which addresses are ours, if they changed.
func (h *Half) setEndpoints(program Program, links []link.Link, loopback bool) {
	endpoints := Endpoints(h.c.Listen, h.reachable(links), loopback)
	groups := Groups(h.c.Listen, links)
	if h.told && slices.Equal(endpoints, h.endpoints) && slices.Equal(groups, h.groups) {
		return
	}
	err := program.SetEndpoints(endpoints, groups...)
	if err != nil {
		h.c.Log.Error("the kernel half was not told our addresses", "endpoints", len(endpoints), "err", err)
	}
	h.c.Log.Debug("endpoints of the kernel half", "endpoints", endpoints, "groups", groups)
	h.endpoints, h.groups, h.told = endpoints, groups, err == nil
}

// reachable leaves out the VLANs whose frames the kernel half cannot answer: on top of a NIC in native mode that takes
// the tags off, it would send replies without tag.
func (h *Half) reachable(links []link.Link) []link.Link {
	if h.c.XDP.Mode == config.XDPGeneric {
		return links
	}
	return slices.DeleteFunc(slices.Clone(links), func(l link.Link) bool {
		return l.Kind == "vlan" && slices.ContainsFunc(links, func(parent link.Link) bool {
			return parent.Index == l.Parent && parent.StripsTags && !h.inGenericMode(parent.Index)
		})
	})
}

// inGenericMode reports whether the program is attached to an interface in generic mode, where tags are kept apart
// and go along with the reply.
func (h *Half) inGenericMode(index int) bool {
	n := h.nics[index]
	return n != nil && n.mode == bpf.ModeGeneric.String()
}

// noteMissing logs interfaces that were asked for and are not there, once each time they go missing.
func (h *Half) noteMissing(links []link.Link) {
	var missing []string
	for _, name := range h.c.Interfaces {
		if slices.ContainsFunc(links, func(l link.Link) bool { return l.Name == name }) {
			continue
		}
		missing = append(missing, name)
		if !slices.Contains(h.missing, name) {
			h.c.Log.Warn("XDP not attached", "interface", name, "reason", "there is no such interface")
		}
	}
	h.missing = missing
}

// publish puts the outcome into the report.
func (h *Half) publish(links []link.Link, attached []bpf.Attachment) {
	var nics []status.NIC
	active := false
	paths := map[int]bpf.Attachment{}
	for _, a := range attached {
		paths[a.Ifindex] = a
	}
	for _, l := range links {
		n := h.nics[l.Index]
		if l.Loopback && !n.attached && !n.failed {
			continue // nobody expects it there
		}
		wanted := string(h.c.XDP.Mode)
		if !n.attached && !n.failed {
			wanted = modeNone
		}
		active = active || n.attached
		nic := status.NIC{
			Name: l.Name, Index: l.Index, Kind: l.Kind, Driver: l.Driver, Up: l.Up, MTU: l.MTU,
			Wanted: wanted, Mode: n.mode, Reason: n.reason, ProgramID: l.XDPProgID,
		}
		if a, ok := paths[l.Index]; ok {
			if nic.Paths = bpf.MaxPaths; a.OnePath != nil {
				nic.Paths, nic.OnePath = 1, a.OnePath.Error()
			}
		}
		nics = append(nics, nic)
	}
	for _, name := range h.missing {
		nics = append(nics, status.NIC{Name: name, Wanted: string(h.c.XDP.Mode), Mode: modeNone, Reason: "there is no such interface"})
	}
	h.update(func(r *status.XDP) {
		r.Active, r.NICs, r.Endpoints, r.Reason = active, nics, h.endpoints, ""
		if !active {
			r.Reason = "there is no interface that it could be attached to"
		}
	})
}
