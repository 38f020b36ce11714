package config

import (
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
)

// endpoint is a local UDP address with its port.
type endpoint struct{}

func (endpoint) decode(v hujson.Value) (netip.AddrPort, *fault) {
	const form, example = "ADDR:PORT", `"0.0.0.0:6881" or "[::]:6881"`
	s, f := str(v, form, example)
	if f != nil {
		return netip.AddrPort{}, f
	}
	bad := func(msg, hint string) (netip.AddrPort, *fault) {
		return netip.AddrPort{}, faultf(v.StartOffset, hint, "%s %s", literal(v), msg)
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return bad("has no port", "write "+quote(net.JoinHostPort(a.String(), "6881")))
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return bad("is not "+form, "write for example "+example)
	}
	p, msg := portNumber(port)
	if msg != "" {
		return bad(msg, "allowed are 1 to 65535, and 0 for any free port")
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return bad("is not an address of this machine", "write an IP address, not a name, as in "+example)
	}
	if a = a.Unmap(); a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return bad("is not a unicast address", "write an address of this machine, or "+example+" for all of them")
	}
	return netip.AddrPortFrom(a, p), nil
}

func (endpoint) encode(x netip.AddrPort) string   { return quote(x.String()) }
func (endpoint) about() string                    { return "ADDR:PORT" }
func (endpoint) text(words []string) hujson.Value { return stringValue(words) }

// bothFamilies is the shorthand ":PORT": that port on every address of both families.
func bothFamilies(s string) []netip.AddrPort {
	port, ok := strings.CutPrefix(s, ":")
	if !ok {
		return nil
	}
	p, msg := portNumber(port)
	if msg != "" {
		return nil
	}
	return []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), p), netip.AddrPortFrom(netip.IPv6Unspecified(), p)}
}

// portNumber reads a port; msg says what is wrong with it.
func portNumber(s string) (p uint16, msg string) {
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case s == "":
		return 0, "has no port"
	case err != nil:
		return 0, "has a port that is not a number"
	case n > 65535:
		return 0, "has a port that is out of range"
	}
	return uint16(n), ""
}

// web is the address of the status page; the empty string is none.
type web struct{}

const off = "off"

func (web) decode(v hujson.Value) (string, *fault) {
	const example = `":8080", "127.0.0.1:8080" or "off"`
	s, f := str(v, "ADDR:PORT", example)
	if f != nil {
		return "", f
	}
	if s == off {
		return "", nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", faultf(v.StartOffset, "write for example "+example, "%s is not ADDR:PORT", literal(v))
	}
	if _, msg := portNumber(port); msg != "" {
		return "", faultf(v.StartOffset, "allowed are 1 to 65535, and 0 for any free port", "%s %s", literal(v), msg)
	}
	if _, err := netip.ParseAddr(host); host != "" && host != "localhost" && err != nil {
		return "", faultf(v.StartOffset, "write an IP address, not a name, as in "+example, "%s is not an address of this machine", literal(v))
	}
	return s, nil
}

func (web) encode(x string) string {
	if x == "" {
		return quote(off)
	}
	return quote(x)
}
func (web) about() string                    { return `ADDR:PORT, :PORT for all addresses, or "off"` }
func (web) text(words []string) hujson.Value { return stringValue(words) }

// hostLabel is the name of a machine: one label of a host name (RFC 1123 section 2.1), or nothing.
type hostLabel struct{}

var label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

func (hostLabel) decode(v hujson.Value) (string, *fault) {
	const example = `"kdht-attic"`
	s, f := str(v, "a host name", example)
	if f != nil {
		return "", f
	}
	if s != "" && !label.MatchString(s) {
		return "", faultf(v.StartOffset, "write 1 to 63 letters, digits and hyphens, without a domain, as in "+example, "%s is not a host name", literal(v))
	}
	return s, nil
}

func (hostLabel) encode(x string) string           { return quote(x) }
func (hostLabel) about() string                    { return "host name without domain, up to 63 bytes" }
func (hostLabel) text(words []string) hujson.Value { return stringValue(words) }

// remote is the HOST:PORT of another node.
type remote struct{}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)

func (remote) decode(v hujson.Value) (string, *fault) {
	const example = `"router.bittorrent.com:6881", "192.0.2.1:6881" or "[2001:db8::1]:6881"`
	s, f := str(v, "HOST:PORT", example)
	if f != nil {
		return "", f
	}
	if err := CheckHostPort(s); err != nil {
		return "", faultf(v.StartOffset, err.Hint, "%s", err.Msg)
	}
	return s, nil
}

// CheckHostPort says what is wrong with the HOST:PORT of another node, nil if nothing. Names are not resolved.
func CheckHostPort(s string) *Error {
	const example = `"router.bittorrent.com:6881", "192.0.2.1:6881" or "[2001:db8::1]:6881"`
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
			hint := "write " + quote(net.JoinHostPort(a.String(), "6881"))
			if with := bracketed(s); with != "" {
				hint += ", or " + quote(with) + " if the port is in it already"
			}
			return &Error{Msg: quote(s) + " has no port", Hint: hint}
		}
		if with := bracketed(s); with != "" {
			return &Error{Msg: quote(s) + " has no brackets around the address", Hint: "write " + quote(with)}
		}
		if hostName.MatchString(s) {
			return &Error{Msg: quote(s) + " has no port", Hint: "write " + quote(s+":6881")}
		}
		return &Error{Msg: shorten(s) + " is not HOST:PORT", Hint: "write for example " + example}
	}
	if p, msg := portNumber(port); msg != "" || p == 0 {
		if msg == "" {
			msg = "has a port that is out of range"
		}
		return &Error{Msg: shorten(s) + " " + msg, Hint: "allowed are 1 to 65535"}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.IsUnspecified() || a.IsMulticast() {
			return &Error{Msg: shorten(s) + " is not the address of a node", Hint: "write for example " + example}
		}
		return nil
	}
	if len(host) > 253 || !hostName.MatchString(host) {
		return &Error{Msg: shorten(s) + " has no valid host name", Hint: "write for example " + example}
	}
	return nil
}

// bracketed reads an IPv6 address whose port follows without the brackets that tell them apart, and gives both as they
// should be; "" if it is none.
func bracketed(s string) string {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return ""
	}
	a, err := netip.ParseAddr(s[:i])
	if p, msg := portNumber(s[i+1:]); err != nil || !a.Is6() || msg != "" || p == 0 {
		return ""
	}
	return net.JoinHostPort(a.String(), s[i+1:])
}

// shorten quotes a string for a message.
func shorten(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return quote(s)
}

func (remote) encode(x string) string           { return quote(x) }
func (remote) about() string                    { return "HOST:PORT" }
func (remote) text(words []string) hujson.Value { return stringValue(words) }

// iface is the name of a network interface.
type iface struct{}

func (iface) decode(v hujson.Value) (string, *fault) {
	s, f := str(v, "the name of an interface", `"eth0"`)
	if f != nil {
		return "", f
	}
	// The kernel's own rule, dev_valid_name: 1 to 15 bytes without blanks, slashes and colons, not "." or "..".
	if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n\v\f\r\x00") {
		return "", faultf(v.StartOffset, `"ip link" lists the names, as in "eth0"`, "%s cannot be the name of an interface", literal(v))
	}
	return s, nil
}

func (iface) encode(x string) string           { return quote(x) }
func (iface) about() string                    { return "interface name" }
func (iface) text(words []string) hujson.Value { return stringValue(words) }

// unicast is an address under which other nodes reach us.
type unicast struct{}

func (unicast) decode(v hujson.Value) (netip.Addr, *fault) {
	const example = `"198.51.100.7" or "2001:db8::7"`
	s, f := str(v, "an IP address", example)
	if f != nil {
		return netip.Addr{}, f
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, faultf(v.StartOffset, "write for example "+example, "%s is not an IP address", literal(v))
	}
	if a = a.Unmap(); !a.IsGlobalUnicast() {
		return netip.Addr{}, faultf(v.StartOffset, "write the address that other nodes see, as in "+example, "%s is not a global unicast address", literal(v))
	}
	return a, nil
}

func (unicast) encode(x netip.Addr) string       { return quote(x.String()) }
func (unicast) about() string                    { return "IP address" }
func (unicast) text(words []string) hujson.Value { return stringValue(words) }

// onePerFamily is the rule for our external addresses.
func onePerFamily(addrs []netip.Addr) (msg, hint string) {
	var four, six int
	for _, a := range addrs {
		if a.Is4() {
			four++
		} else {
			six++
		}
	}
	if four > 1 || six > 1 {
		return "there are several addresses of one family", "write at most one IPv4 and one IPv6 address"
	}
	return "", ""
}
