package discover_test

import (
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/dns/dnsmessage"

	"kdht/appliance/discover"
	"kdht/router"
)

// full is an instance with everything.
func full() discover.Instance {
	name, host := discover.NewNames("shelf.3")
	s := discover.Instance{
		Name: name, Host: host, Port: 6881, TTL: 120,
		Text: discover.Text{Network: "private", Name: "red = blue", Version: "v1", Families: "4,6"},
	}
	s.Text.ID[router.IPv4][0], s.Text.ID[router.IPv6][19] = 1, 2
	for i := range byte(8) {
		s.Addrs = append(s.Addrs, netip.AddrFrom4([4]byte{192, 168, 7, i}), netip.AddrFrom16([16]byte{0: 0xfd, 15: i}))
	}
	return s
}

func TestResponse(t *testing.T) {
	s := full()
	b, err := discover.Compose([]discover.Instance{s}, 120)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 1200 {
		t.Errorf("an announcement with all addresses has %d bytes, which may not fit one packet", len(b))
	}
	p, err := discover.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]discover.Instance{s}, p.Found, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	if b, err = discover.Compose([]discover.Instance{s}, 0); err != nil {
		t.Fatal(err)
	}
	if p, err = discover.Parse(b); err != nil || len(p.Found) != 1 || p.Found[0].TTL != 0 || p.Found[0].Name != s.Name {
		t.Errorf("goodbye: %+v, %v", p, err)
	}
}

func TestQuery(t *testing.T) {
	var names []string
	for range 100 {
		name, _ := discover.NewNames(strings.Repeat("x", 200))
		names = append(names, name)
	}
	b, err := discover.Query(names...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := discover.Parse(b)
	if err != nil || !p.Query || !p.Browse || p.Enumerate || p.Questions != 1 || p.Known != 16 || len(b) > 1400 {
		t.Errorf("%d bytes: %+v, %v", len(b), p, err)
	}
}

// TestIncomplete makes sure that an instance counts only if all that is needed is in the message, and that other
// things in it do no harm.
func TestIncomplete(t *testing.T) {
	s := full()
	whole, err := discover.Compose([]discover.Instance{s}, 120)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*dnsmessage.Message) (complete bool){
		"as it is":        func(*dnsmessage.Message) bool { return true },
		"no PTR":          func(m *dnsmessage.Message) bool { m.Answers = m.Answers[1:]; return true },
		"no SRV":          func(m *dnsmessage.Message) bool { m.Answers = append(m.Answers[:1:1], m.Answers[2:]...); return false },
		"no TXT":          func(m *dnsmessage.Message) bool { m.Answers = append(m.Answers[:2:2], m.Answers[3:]...); return false },
		"no address":      func(m *dnsmessage.Message) bool { m.Answers = m.Answers[:3]; return false },
		"in another part": func(m *dnsmessage.Message) bool { m.Additionals, m.Answers = m.Answers[1:], m.Answers[:1]; return true },
		"a query":         func(m *dnsmessage.Message) bool { m.Response = false; return false },
		"a failure":       func(m *dnsmessage.Message) bool { m.RCode = dnsmessage.RCodeNameError; return false },
		"another opcode":  func(m *dnsmessage.Message) bool { m.OpCode = 2; return false },
		"port 0":          func(m *dnsmessage.Message) bool { m.Answers[1].Body.(*dnsmessage.SRVResource).Port = 0; return false },
		"another format": func(m *dnsmessage.Message) bool {
			m.Answers[2].Body.(*dnsmessage.TXTResource).TXT[0] = "txtvers=2"
			return false
		},
		"no text": func(m *dnsmessage.Message) bool {
			m.Answers[2].Body = &dnsmessage.TXTResource{TXT: []string{""}}
			return false
		},
		"another class": func(m *dnsmessage.Message) bool { m.Answers[1].Header.Class = dnsmessage.ClassCHAOS; return false },
		"upper case": func(m *dnsmessage.Message) bool {
			m.Answers[1].Header.Name = upper(m.Answers[1].Header.Name)
			return true
		},
		"too many before": func(m *dnsmessage.Message) bool {
			m.Answers = append(make127(m.Answers[0]), m.Answers...)
			return false
		},
		"another service": func(m *dnsmessage.Message) bool {
			m.Answers[1].Header.Name = dnsmessage.MustNewName("x._http._tcp.local.")
			return false
		},
		"a deeper service": func(m *dnsmessage.Message) bool {
			m.Answers[1].Header.Name = dnsmessage.MustNewName("x.y._kdht._udp.local.")
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			var m dnsmessage.Message
			if err := m.Unpack(whole); err != nil {
				t.Fatal(err)
			}
			complete := change(&m)
			b, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			p, err := discover.Parse(b)
			if got := len(p.Found) == 1 && len(p.Found[0].Addrs) == len(s.Addrs); got != complete {
				t.Errorf("%+v, %v, want complete %v", p, err, complete)
			}
		})
	}
}

func upper(n dnsmessage.Name) dnsmessage.Name {
	return dnsmessage.MustNewName(strings.ToUpper(n.String()))
}

func make127(r dnsmessage.Resource) (all []dnsmessage.Resource) {
	for range 127 {
		all = append(all, r)
	}
	return all
}

func TestNewNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, host := range []string{"", "vm", "a.b\\c", "\x00\x7f\xff", strings.Repeat("ü", 100), "shelf 3"} {
		name, target := discover.NewNames(host)
		if len(name) > 63 || !utf8.ValidString(name) || strings.ContainsAny(name, ".\\\x00\x7f") || seen[name] || !strings.HasSuffix(target, ".local.") {
			t.Errorf("%q gives %q at %q", host, name, target)
		}
		seen[name] = true
	}
}

func TestBroadcast(t *testing.T) {
	for prefix, want := range map[string]string{
		"192.168.7.9/24": "192.168.7.255", "10.1.2.3/8": "10.255.255.255", "10.1.2.3/30": "10.1.2.3", "10.1.2.1/23": "10.1.3.255",
		"0.0.0.0/0": "255.255.255.255", "10.1.2.3/32": "10.1.2.3",
	} {
		if got := discover.Broadcast(netip.MustParsePrefix(prefix)); got.String() != want {
			t.Errorf("%s: %v, want %s", prefix, got, want)
		}
	}
}

// FuzzParse reads anything, and what it makes of it stays within bounds and can be composed again.
func FuzzParse(f *testing.F) {
	s := full()
	for _, ttl := range []uint32{0, 120} {
		b, err := discover.Compose([]discover.Instance{s}, ttl)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, err := discover.Query(s.Name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := discover.Parse(b)
		if err != nil {
			return
		}
		if len(p.Found) > 8 || p.Questions > 32 || p.Known > 128 {
			t.Errorf("beyond the bounds: %+v", p)
		}
		for _, s := range p.Found {
			if s.TTL == 0 {
				continue
			}
			if s.Name == "" || s.Port == 0 || len(s.Addrs) == 0 || len(s.Addrs) > 128 || len(s.Text.Version) > 64 {
				t.Errorf("incomplete: %+v", s)
			}
			again, err := discover.Compose([]discover.Instance{s}, s.TTL)
			if err != nil {
				continue // texts may be longer than ours
			}
			if q, err := discover.Parse(again); err != nil || len(q.Found) != 1 || q.Found[0].Port != s.Port {
				t.Errorf("%+v becomes %+v, %v", s, q, err)
			}
		}
	})
}
