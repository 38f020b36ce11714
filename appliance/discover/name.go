package discover

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/dns/dnsmessage"
)

// Names of the service.
const (
	// ServiceType is the service type of KDHT nodes.
	ServiceType = "_kdht._udp"
	serviceName = ServiceType + ".local."
	// enumerationName is asked for the types of service that there are (RFC 6763, section 9).
	enumerationName = "_services._dns-sd._udp.local."
)

// names make the names of this process.
type names struct {
	label string // of the service instance, for people to read
	host  string // first label of the host name; not that of the machine, which another responder may have
}

// newNames makes names that no other process has.
func newNames(hostname string) names {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	unique := hex.EncodeToString(b[:])
	return names{label: strings.TrimSpace(printable(hostname, 40) + " " + unique), host: "kdht-" + unique}
}

// printable makes a text part of a label: valid UTF-8 of at most limit bytes, without control characters. Dots are
// allowed in one but not understood by all.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == '.' || r == '\\' {
			return '-'
		}
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	for len(s) > limit {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// instance returns the names of the service instance with a port. A node has more than one only if it listens on
// several ports.
func (n names) instance(port uint16, only bool) (instance, host string) {
	if only {
		return n.label, n.host + ".local."
	}
	return fmt.Sprintf("%s %d", n.label, port), fmt.Sprintf("%s-%d.local.", n.host, port)
}

// own reports whether a service instance has a name of ours.
func (n names) own(instance string) bool {
	return len(instance) >= len(n.label) && strings.EqualFold(instance[:len(n.label)], n.label)
}

// instanceOf returns the first label of an instance's full name.
func instanceOf(full dnsmessage.Name) (label string, ok bool) {
	s := full.String()
	i := len(s) - len(serviceName) - 1
	if i < 1 || s[i] != '.' || !strings.EqualFold(s[i+1:], serviceName) || strings.Contains(s[:i], ".") {
		return "", false
	}
	return s[:i], true
}
