package update_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kdht/appliance/nexthop"
	"kdht/appliance/update"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
	"kdht/store"
)

// guess asks for the status as somebody from an address, with a password, and gives the status of the answer.
func (b *bench) guess(from, user, password string) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequestWithContext(b.t.Context(), http.MethodGet, "/update/status", nil)
	r.RemoteAddr = from
	r.SetBasicAuth(user, password)
	w := httptest.NewRecorder()
	b.m.Handler().ServeHTTP(w, r)
	return w
}

// A host of a LAN that has the password wrong, by the four addresses that it has there, is slowed down, and nobody else there is.
func TestWrongPasswordsDoNotLockOutTheLAN(t *testing.T) {
	b := newBench(t)
	host := []string{"[fd00::1]:1", "[fd00::2]:1", "[fd00::3]:1", "10.0.0.1:1"}
	for range 50 {
		for _, from := range host {
			b.guess(from, "gokrazy", "wrong")
		}
	}
	for _, from := range host {
		if w := b.guess(from, "gokrazy", password); w.Code != http.StatusTooManyRequests {
			t.Errorf("%s: %d", from, w.Code)
		}
	}
	for _, from := range []string{"[fd00::9]:1", "10.0.0.9:1", "[fe80::9%eth0]:1"} {
		if w := b.guess(from, "gokrazy", password); w.Code != http.StatusOK {
			t.Errorf("the owner at %s: %d %s", from, w.Code, w.Body)
		}
	}
}

// TestGuessingTakesItsTime has somebody guess from ever new addresses of a /64 for an hour, as fast as he may: the box looks at 31 guesses a
// minute, and the owner, whom it does not know there, waits 4 seconds at most when the other one pauses.
func TestGuessingTakesItsTime(t *testing.T) {
	var g update.Guesses
	start := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	looked := 0
	wrong := func() bool { looked++; return false }
	from := func(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00::%x", n)) }
	now := start
	for n := 0; now.Before(start.Add(time.Hour)); n++ {
		for i := range 16 {
			g.Try(from(i), now, wrong)
		}
		g.Try(from(100+n), now, wrong)
		now = now.Add(250 * time.Millisecond)
	}
	if looked > 33*60 || looked < 29*60 { // some more at the beginning
		t.Errorf("%d guesses in an hour", looked)
	}
	owner := netip.MustParseAddr("fd00::abcd:1")
	right := func() bool { return true }
	if ok, wait := g.Try(owner, now, right); !ok && wait > 4*time.Second {
		t.Errorf("the owner waits %s", wait)
	}
	if ok, wait := g.Try(owner, now.Add(4*time.Second), right); !ok {
		t.Errorf("after 4 s the owner waits %s", wait)
	}
	now = now.Add(time.Minute)
	g.Try(from(3), now, wrong)
	if ok, wait := g.Try(from(3), now, right); ok || wait < time.Minute {
		t.Errorf("who guessed from one address waits %s", wait)
	}

	// Of thousands of addresses in thousands of networks the same holds for all together.
	looked = 0
	for n := range 10_000 {
		at := now.Add(time.Duration(n) * 360 * time.Millisecond) // an hour
		g.Try(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), at, wrong)
		g.Try(netip.MustParseAddr(fmt.Sprintf("fd00:0:%x:%x::1", n>>16, n&0xffff)), at, wrong)
	}
	if most := 2*(256+15*60) + 10; looked > most {
		t.Errorf("%d guesses of 20,000 addresses in an hour, want at most %d", looked, most)
	}
}

// TestGuessingOnTheLink has a host on the link guess from ever new addresses of all its networks, and others from thousands of networks elsewhere: the
// owner at another host on the link waits for neither, and who guesses from one link address is slowed down as from one /64.
func TestGuessingOnTheLink(t *testing.T) {
	var g update.Guesses
	g.OnLink(func(a netip.Addr) (mac [6]byte, ok bool) {
		switch b := a.As16(); {
		case a.Is4() && a.As4()[0] == 10, a.Zone() == "eth0", strings.HasPrefix(a.String(), "fd00::"):
			return [6]byte{2, 0, 0, 0, 0, b[15]}, true // the last byte of an address is the host
		}
		return mac, false
	})
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	looked := 0
	wrong, right := func() bool { looked++; return false }, func() bool { return true }
	ask := func(what, from string, want bool) {
		t.Helper()
		if ok, wait := g.Try(netip.MustParseAddr(from), now, right); ok != want {
			t.Errorf("%s: %v, waits %s", what, ok, wait)
		}
	}
	owners := 0
	for n := range 3600 * 4 { // an hour
		now = now.Add(250 * time.Millisecond)
		for _, format := range []string{"fd00::%x:1", "fe80::%x:1%%eth0"} {
			g.Try(netip.MustParseAddr(fmt.Sprintf(format, n)), now, wrong)
		}
		g.Try(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1}), now, wrong)
		if n%600 == 599 { // at ever new addresses
			owners++
			ask("the owner on the link", fmt.Sprintf("fd00::aaaa:%x:2", owners), true)
			ask("and with a link-local address", fmt.Sprintf("fe80::aaaa:%x:2%%eth0", owners), true)
			ask("and over IPv4", fmt.Sprintf("10.255.%d.2", owners), true)
		}
	}
	if looked > 17*60 || looked < 15*60 { // of the first 16 addresses each guesses once
		t.Errorf("%d guesses in an hour from one link address", looked)
	}
	ask("the guesser", "fd00::ffff:1", false)

	for n := range 5000 {
		g.Try(netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::1", n)), now, wrong)
		g.Try(netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}), now, wrong)
		if n == 2500 {
			now = now.Add(time.Hour) // those of the first half are forgotten
		}
	}
	ask("somebody far away", "2001:db8:ffff::1", false)
	ask("somebody far away, over IPv4", "198.51.100.1", false)
	ask("the owner on the link while thousands guess elsewhere", "fd00::bbbb:3", true)

	// Those who guess elsewhere in IPv6 leave room for IPv4.
	g = update.Guesses{}
	for n := range 5000 {
		g.Try(netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::1", n)), now, wrong)
	}
	ask("somebody over IPv4", "198.51.100.1", true)
	ask("somebody over IPv6", "2001:db8:ffff::1", false)
}

// TestGuessingOnALan is the same with real hosts: who guesses by forty addresses of the LAN's /64 keeps out nobody who is there for the first time.
func TestGuessingOnALan(t *testing.T) {
	testenv.NeedNetNS(t)
	here, guesser, owner := netns.New(t, "box"), netns.New(t, "guesser"), netns.New(t, "owner")
	prefix := netip.MustParsePrefix
	var many []netip.Prefix
	for n := range 40 {
		many = append(many, prefix(fmt.Sprintf("2001:db8::1:%x/64", n)))
	}
	netns.Veth(t, netns.End{NS: here, Name: "port0"}, netns.End{NS: guesser, Name: "eth0", Addrs: many})
	netns.Veth(t, netns.End{NS: here, Name: "port1"}, netns.End{NS: owner, Name: "eth0", Addrs: []netip.Prefix{prefix("2001:db8::2:1/64")}})
	for _, args := range [][]string{
		{"link", "add", "eth0", "type", "bridge"}, {"link", "set", "port0", "master", "eth0"}, {"link", "set", "port1", "master", "eth0"},
		{"address", "add", "2001:db8::1/64", "dev", "eth0", "nodad"}, {"link", "set", "eth0", "up"},
	} {
		if err := here.IP(args...); err != nil {
			t.Fatal(err)
		}
	}
	b := newBench(t, func(b *bench) {
		b.linkAddress = func(a netip.Addr) (mac [6]byte, ok bool) {
			_ = here.Do(func() error { mac, ok = nexthop.LinkAddress(a); return nil })
			return mac, ok
		}
	})
	var l net.Listener
	if err := here.Do(func() (err error) { l, err = net.Listen("tcp", "[2001:db8::1]:80"); return err }); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: b.m.Handler()}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	ask := func(at *netns.NS, from netip.Addr, password string) (status int) {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, to string) (c net.Conn, err error) {
			d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
			err = at.Do(func() error { c, err = d.DialContext(ctx, network, to); return err })
			return c, err
		}}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://[2001:db8::1]/update/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("gokrazy", password)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode
	}
	codes := make(map[int]int)
	for _, p := range many {
		codes[ask(guesser, p.Addr(), "wrong")]++
	}
	if codes[http.StatusUnauthorized] < 17 || codes[http.StatusTooManyRequests] == 0 {
		t.Errorf("forty guesses: %v", codes)
	}
	if got := ask(owner, netip.MustParseAddr("2001:db8::2:1"), password); got != http.StatusOK {
		t.Errorf("the owner: %d", got)
	}
}

// TestGuessing lets nobody try many passwords, and nobody be locked out by others.
func TestGuessing(t *testing.T) {
	b := newBench(t)
	expect := func(what, from, password string, want int) {
		t.Helper()
		if w := b.guess(from, "gokrazy", password); w.Code != want {
			t.Errorf("%s: %d %s", what, w.Code, w.Body)
		}
	}
	expect("an owner", "[2001:db8::1]:1", password, http.StatusOK)
	if w := b.guess("10.0.0.1:1", "root", password); w.Code != http.StatusUnauthorized {
		t.Errorf("another user: %d", w.Code)
	}
	w := b.guess("10.0.0.1:2", "gokrazy", password)
	if s, err := strconv.Atoi(w.Header().Get("Retry-After")); w.Code != http.StatusTooManyRequests || err != nil || s != 1 {
		t.Errorf("the right password right after a wrong one: %d, %s", w.Code, w.Header().Get("Retry-After"))
	}
	expect("the right password from elsewhere", "10.0.0.2:1", password, http.StatusOK)

	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := make(map[int]int)
	begin := time.Now()
	for i := range 100 {
		wg.Go(func() {
			w := b.guess(fmt.Sprintf("[2001:db8::2:%x]:1", i), "gokrazy", "wrong")
			mu.Lock()
			defer mu.Unlock()
			codes[w.Code]++
		})
	}
	wg.Wait()
	looked := codes[http.StatusUnauthorized] // 16 addresses, and one for all others, who wait a second at least for the next
	if most := 17 + int(time.Since(begin).Seconds()); looked < 17 || looked > most || codes[http.StatusTooManyRequests] != 100-looked {
		t.Errorf("100 guesses at once from one /64: %v", codes)
	}
	expect("a stranger there", "[2001:db8::3]:1", password, http.StatusTooManyRequests)
	expect("the owner there", "[2001:db8::1]:2", password, http.StatusOK)
	expect("a stranger in another /64", "[2001:db8:0:1::3]:1", password, http.StatusOK)

	for i := range 2000 {
		b.guess(fmt.Sprintf("10.1.%d.%d:1", i>>8, i&0xff), "gokrazy", "wrong")
	}
	expect("a stranger while thousands guess", "10.2.0.1:1", "wrong", http.StatusTooManyRequests)
	expect("the owner while thousands guess", "[2001:db8::1]:3", password, http.StatusOK)
	expect("and the other one", "10.0.0.2:3", password, http.StatusOK)

	// Of so many the audit log has few, and forgets nothing for them.
	log, err := b.store.Audit(store.MaxAudit)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range log {
		if !a.Failed || !strings.HasPrefix(a.Outcome, "refused: wrong user or password") && !strings.HasPrefix(a.Outcome, "more than 100 different within a day") {
			t.Errorf("%+v", a)
		}
	}
	if first := log[len(log)-1]; len(log) != 101 || first.Who != "gokrazy client from 10.0.0.1" || first.What != "password: GET /update/status" {
		t.Errorf("%d entries, the first is %+v", len(log), first)
	}

	// The delay grows, and ends.
	var waits []int
	for deadline := time.Now().Add(30 * time.Second); len(waits) < 2 && time.Now().Before(deadline); {
		w := b.guess("10.0.0.1:3", "gokrazy", "wrong")
		if w.Code == http.StatusUnauthorized {
			s, err := strconv.Atoi(b.guess("10.0.0.1:3", "gokrazy", "wrong").Header().Get("Retry-After"))
			if err != nil {
				t.Fatal(err)
			}
			waits = append(waits, s)
			continue
		}
		time.Sleep(10 * time.Millisecond) // until the box listens again
	}
	if fmt.Sprint(waits) != "[2 4]" {
		t.Errorf("delays of %v s after the second and third wrong password", waits)
	}
}
