package admin

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"kdht/appliance/status"
)

// state is what is shown of the plane.
type state struct {
	mu     sync.Mutex
	word   string
	since  time.Time
	err    string
	url    string
	hide   bool // url is not for everybody
	place  place
	domain string // of the names in the tailnet, as far as it was ever known
	stay   string // URL of the control server, of which the configuration says nothing; "" if it does, or it is Tailscale's
	secure bool
}

// to changes the word. s.mu is held.
func (s *state) to(word string) {
	if s.word != word {
		s.word, s.since = word, time.Now()
	}
}

func (s *state) set(word, err string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to(word)
	s.err, s.url = err, ""
}

// stays says with which control server the box stays though the configuration names none; "" if that is not so.
func (s *state) stays(controlURL string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stay = controlURL
}

func (s *state) trouble(err string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *state) error() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// needsLogin says that somebody has to log in at a URL, "" while there is none. The URL of a box that belongs to somebody is hidden:
// everybody on the LAN sees the page, and none of them need be that somebody.
func (s *state) needsLogin(url string, hide bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to("needs login")
	s.url, s.hide = url, hide
}

// login is the URL where somebody has to log in, "" if there is none.
func (s *state) login() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

func (s *state) refuse(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to("refused")
	s.err, s.url = why, ""
}

func (s *state) connected(at place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to("connected")
	s.err, s.url, s.place = "", "", at
	if d := domainOf(at.name); d != "" {
		s.domain = d
	}
}

// certified says whether there is a certificate: where there is none yet, nobody is to be told to come by TLS.
func (s *state) certified(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secure = is
}

// serves says whether anybody is served, and else why not.
func (s *state) serves() (ok bool, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.word == "connected", s.err
}

// ours reports whether the host of a request can only mean this box: one of its addresses in the tailnet, or its name there, with or
// without the domain. Any other name may be one that somebody has point here, to have a browser that he is visited with ask us
// in its owner's name.
func (s *state) ours(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if a, err := netip.ParseAddr(host); err == nil {
		return slices.Contains(s.place.addrs, a.Unmap())
	}
	name := strings.ToLower(s.place.name)
	short, _, _ := strings.Cut(name, ".")
	return host != "" && (host == name || host == short || slices.Contains(s.place.certs, host))
}

// report describes the plane.
func (s *state) report() *status.Tailnet {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &status.Tailnet{State: s.word, Since: s.since, Error: s.err, Tailnet: s.place.tailnet, Name: s.place.name}
	if s.url != "" {
		if r.LoginHidden = s.hide; !s.hide {
			r.LoginURL = s.url
		}
	}
	for _, a := range s.place.addrs {
		r.Addrs = append(r.Addrs, a.String())
	}
	if s.word == "connected" {
		if s.secure {
			for _, d := range s.place.certs {
				r.URLs = append(r.URLs, "https://"+d)
			}
		}
		if s.place.name != "" {
			r.URLs = append(r.URLs, "http://"+s.place.name)
		}
	}
	if !s.place.expiry.IsZero() {
		expiry := s.place.expiry // reports are read without the mutex
		r.Expiry = &expiry
	}
	return r
}

// problems is what the owner should know.
func (s *state) problems() (lines []string) {
	r := s.report()
	s.mu.Lock()
	stay := s.stay
	s.mu.Unlock()
	if stay != "" {
		lines = append(lines, fmt.Sprintf("The configuration has no tailnet.controlURL, and the admin plane stays with the control server where it has joined, %s. "+
			"Write that there; a new auth key, or \"mode\": \"on\", would have it move to Tailscale's.", stay))
	}
	switch {
	case r.LoginURL != "":
		lines = append(lines, "The admin plane waits for a login to the tailnet: "+r.LoginURL)
	case r.LoginHidden:
		lines = append(lines, hiddenLogin)
		if r.Error != "" {
			lines = append(lines, sentence(r.Error))
		}
	case r.State == "needs login" && r.Error != "":
		lines = append(lines, "The admin plane is not in the tailnet: "+sentence(r.Error))
	case r.State == "needs approval":
		lines = append(lines, "The administrator of the tailnet has to approve of this box before its admin plane can be reached.")
	case r.State == "refused":
		lines = append(lines, r.Error)
	case r.State == "starting" && time.Since(r.Since) > time.Minute:
		line := fmt.Sprintf("The admin plane is not in the tailnet since %s", r.Since.UTC().Format(time.DateTime+" MST"))
		if r.Error != "" {
			line += ": " + strings.TrimSuffix(r.Error, ".")
		}
		lines = append(lines, line+".")
	case r.Expiry != nil && time.Until(*r.Expiry) < soon:
		lines = append(lines, fmt.Sprintf("The key of the admin plane expires on %s: extend it at the control server, or log in anew then.", r.Expiry.UTC().Format(time.DateOnly)))
	}
	return lines
}

// hiddenLogin says how the owner logs in.
const hiddenLogin = "The admin plane waits for its owner to log in to the tailnet again, or to extend the key of the box at the control server. The URL is not for everybody on the LAN: the log has it, " +
	loginPath + " leads programs on the machine itself, holders of a token (gateway.tokens) and, on the appliance, whoever knows its password there, and a new auth key (tailnet.authKeyFile; " +
	"on the appliance tailnet.key on the boot partition) makes it needless."

func sentence(s string) string { return strings.TrimSuffix(s, ".") + "." }

// section is the plane's part of the status page.
func (p *plane) section() status.Section {
	r := p.now.report()
	out := status.Section{Title: "Admin plane"}
	fact := func(name, value string) {
		if value != "" {
			out.Facts = append(out.Facts, status.Fact{Name: name, Value: value})
		}
	}
	fact("State", r.State)
	fact("Log in at", r.LoginURL)
	fact("Error", r.Error)
	fact("Tailnet", r.Tailnet)
	fact("Name", r.Name)
	fact("Addresses", strings.Join(r.Addrs, ", "))
	fact("Served at", strings.Join(r.URLs, ", "))
	if r.Expiry != nil {
		fact("Key expires", r.Expiry.UTC().Format(time.DateTime+" MST"))
	}
	if p.trial != nil {
		fact("Configuration", p.trial.says())
	}
	return out
}
