package browser

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const ping = "d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"

// pages are all that a box has for people.
func pages(target string) map[string]string {
	return map[string]string{
		"status": "/",
		"lookup": "/lookup?what=item&q=" + target,
		"decode": "/decode?d=" + url.QueryEscape(ping),
	}
}

// put stores an item and returns its target.
func put(t *testing.T, b *box) string {
	t.Helper()
	out, err := exec.Command(program, "put", "--network", "private", "--bootstrap", b.udp, "hello browser").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	target := regexp.MustCompile(`[0-9a-f]{40}`).FindString(string(out))
	if target == "" {
		t.Fatalf("no target in %s", out)
	}
	return target
}

// Every page is whole and open to everybody, on a phone and on a desktop, light and dark, with and without JavaScript. It
// asks nobody but the box for anything, and has nothing to complain about.
func TestPages(t *testing.T) {
	others := fleet(t, 5)
	target := put(t, others[1])
	b := start(t, nil, "127.0.6.9", others[0].udp, "--xdp", "off") // which has nothing stored
	eventually(t, "the new node knows too few", func() bool { return strings.Contains(b.get(t, "/status?format=json"), `"good": 5`) })
	browser := browse(t)
	for _, l := range []look{phone, desktop, phone.inTheDark(), desktop.inTheDark()} {
		for name, path := range pages(target) {
			t.Run(name+" "+l.name, func(t *testing.T) {
				x := open(t, browser, b, l)
				x.visit(path)
				if name == "status" {
					eventually(t, "the page does not become live", func() bool { return x.text("#live span") == "live" })
				}
				x.accessible()
				x.screenshot(name + "-" + l.name)
			})
		}
	}
	for name, path := range pages(target) {
		t.Run(name+" without JavaScript", func(t *testing.T) {
			l := phone
			l.noScript, l.name = true, "no JavaScript"
			x := open(t, browser, b, l)
			x.visit(path)
			x.screenshot(name + "-phone-no-javascript")
			for selector, want := range map[string]map[string]string{
				"status": {"h1": "The node answers, and is answered by 5 others.", "#minutes svg.chart title": "last ten minutes", "#table-IPv4 h3": "5 contacts", "#tiles": "0 items", "#machine": "runs"},
				"lookup": {"#verdict": "Found", "main pre": "hello browser", ".hops li": "hop 0"},
				"decode": {"#verdict": "A query that a node answers.", "main pre": `"q": "ping"`},
			}[name] {
				if got := x.text(selector); !strings.Contains(got, want) {
					t.Errorf("%s says %q, want %q", selector, got, want)
				}
			}
			if name == "status" && eval[string](x, `getComputedStyle(document.getElementById("live")).display`) != "none" {
				t.Error("the page says whether it is live, and cannot be")
			}
		})
	}
}

// The engine that finds no fault with the pages does find one with a page that has one.
func TestAxeFindsFaults(t *testing.T) {
	if axe == "" {
		missing(t, "there is no axe-core")
	}
	x := open(t, browse(t), fleet(t, 1)[0], desktop)
	x.visit("/decode")
	eval[bool](x, `document.querySelector("label").remove(); document.querySelector("h1").style.color = "#eee"; true`)
	found := strings.Join(x.violations(), "\n")
	for _, want := range []string{"label: ", "color-contrast: "} {
		if !strings.Contains(found, want) {
			t.Errorf("no %s among %q", want, found)
		}
	}
}

// number is what a tile of the status page says.
func (x *tab) number(tile int) float64 {
	s := eval[string](x, fmt.Sprintf(`document.querySelector(".tile:nth-child(%d) dd").firstChild.textContent`, tile))
	f, err := strconv.ParseFloat(strings.NewReplacer("\u202f", "", "<", "", " ", "").Replace(s), 64)
	if err != nil {
		return -1 // none is known yet
	}
	return f
}

const soNoCheck = 11 // SO_NO_CHECK of linux/asm-generic/socket.h

// load sends a node pings, without UDP checksums, which machines leave to their network cards and veth pairs have none, until the test or the function that it returns ends it.
func load(t *testing.T, to string) (stop func()) {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soNoCheck, 1) }), err)
	}}
	c, err := d.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range 12_000 { // a minute
			select {
			case <-tick.C:
				_, _ = c.Write([]byte(ping)) // the node may be gone
			case <-done:
				return
			}
		}
	}()
	ran := false
	stop = func() {
		if !ran {
			ran = true
			close(done)
			<-ended
			_ = c.Close()
		}
	}
	t.Cleanup(stop)
	return stop
}

// The numbers on the page follow what the node does, and what a reader has opened stays open meanwhile. When the box goes
// away the page says so, and when it comes back the page goes on.
func TestLive(t *testing.T) {
	b := fleet(t, 3)[0]
	x := open(t, browse(t), b, desktop)
	x.visit("/")
	eventually(t, "the page does not become live", func() bool { return x.text("#live span") == "live" })
	// At once, as what changes meanwhile is replaced.
	eval[bool](x, `for (const id of ["d-counters", "d-minutes"]) document.querySelector("#" + id + " summary").click(); true`)
	const user, contacts = 2, 4
	before := x.text("#minutes")
	stop := load(t, b.udp)
	eventually(t, "200 pings a second are not seen", func() bool { n := x.number(user); return n > 100 && n < 400 })
	stop()
	eventually(t, "the end of the pings is not seen", func() bool { n := x.number(user); return n >= 0 && n < 20 })
	if x.text("#minutes") == before {
		t.Error("the table of the last minutes stays as it was")
	}
	if n := x.number(contacts); n != 2 {
		t.Errorf("%v contacts", n)
	}
	b.write(t, "/v1/items", "hello browser")
	eventually(t, "who changed what is not seen", func() bool {
		return eval[bool](x, `document.querySelector("#changes")?.textContent.includes("loopback: write: PUT /v1/items") ?? false`)
	})
	x.accessible()
	if eval[int](x, `document.querySelectorAll("#d-counters[open], #d-minutes[open]").length`) != 2 {
		t.Error("what was opened is closed")
	}
	x.screenshot("status-desktop-after-load")

	// A process that is stopped keeps the connection; one that has ended does not.
	x.pardon("ERR_CONNECTION_REFUSED")
	x.pardon("ERR_INCOMPLETE_CHUNKED_ENCODING")
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the page does not say that the box is gone", func() bool { return x.text("#live span") == "connection lost, trying again" })
	if !strings.Contains(x.text("h1"), "The node answers") {
		t.Error("the page lost what it showed")
	}
}

// Who has his name point to the box gets nothing of it into his page, not by scripts that pretend to be programs either.
func TestNameOfSomebodyElse(t *testing.T) {
	b := fleet(t, 1)[0]
	u, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	evil := *b
	evil.url = "http://evil.example.com:" + u.Port()
	x := open(t, browse(t, "host-resolver-rules", "MAP evil.example.com "+u.Hostname()), &evil, desktop)
	x.pardon("421") // on the console
	x.visit("/")
	if got := x.text("body"); !strings.Contains(got, "gateway.hosts") {
		t.Errorf("the page is\n%s", got)
	}
	for _, script := range []string{
		`fetch("/status?format=json")`,
		`fetch("/v1/names", {headers: {"User-Agent": "curl/8.5.0", "Accept-Language": "", "X-Forwarded-For": "127.0.0.1"}, referrerPolicy: "no-referrer"})`,
		`fetch("/v1/items", {method: "PUT", body: "x"})`,
	} {
		if status := eval[int](x, script+".then(r => r.status)"); status != 421 {
			t.Errorf("%s: %d", script, status)
		}
	}
}

// Over plain HTTP, where the browser does not say whose wish a request is, what a page of another site names is not looked up. Who has typed
// the address is asked first, and gets there by one click, also where nothing says that he comes from our page: behind a proxy that has the box see
// another Host than the browser, and without a Referer.
func TestPageOfAnotherSite(t *testing.T) {
	const path = "/v1/peers/2c6b6858d61da9543d4231a71db4b1c9264b0685"
	for name, change := range map[string]func(*http.Request){
		"directly": nil, "with another Host": func(r *http.Request) { r.Host = "localhost" }, "without a Referer": func(r *http.Request) { r.Header.Del("Referer") },
	} {
		t.Run(name, func(t *testing.T) {
			b := fleet(t, 1)[0]
			at := b.url
			if change != nil {
				proxy := httptest.NewServer(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
					r.Out.URL.Scheme, r.Out.URL.Host = "http", strings.TrimPrefix(b.url, "http://")
					change(r.Out)
				}})
				t.Cleanup(proxy.Close)
				at = proxy.URL
			}
			u, err := url.Parse(at)
			if err != nil {
				t.Fatal(err)
			}
			box := *b
			box.url = "http://box.lan:" + u.Port()
			evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(w, `<!doctype html><img src="%[1]s"><iframe src="%[1]s"></iframe><script>fetch("%[1]s", {mode: "no-cors"})</script>`, box.url+path)
			}))
			t.Cleanup(evil.Close)
			asked := func(what string) string {
				m := regexp.MustCompile(`"name": "` + what + `",\s*"value": (\d+)`).FindStringSubmatch(b.get(t, "/status?format=json"))
				if m == nil {
					return "0"
				}
				return m[1]
			}
			x := open(t, browse(t, "host-resolver-rules", "MAP box.lan "+u.Hostname()+",MAP evil.example.com 127.0.0.1"), &box, phone)
			for _, p := range []string{"403", "evil.example.com", "frame-ancestors"} {
				x.pardon(p)
			}
			visitEvil := func() { x.run(chromedp.Navigate(strings.Replace(evil.URL, "127.0.0.1", "evil.example.com", 1))) }
			visitEvil()
			eventually(t, "the page does not ask three times", func() bool { return asked("another-page") == "3" })
			x.visit(path)
			if got := x.text("h1"); got != "Is it you who asks?" {
				t.Fatalf("who has typed the address sees %q", got)
			}
			x.accessible()
			x.screenshot("doubt-phone")
			if n := asked("served"); n != "0" {
				t.Errorf("%s requests were served", n)
			}
			x.run(chromedp.Click("a.button"))
			eventually(t, "the click does not lead there", func() bool { return strings.Contains(x.text("body"), `"infohash":"2c6b`) })
			before := asked("served")
			visitEvil()
			eventually(t, "the page does not ask three times more", func() bool { return asked("another-page") == "7" })
			if n := asked("served"); n != before {
				t.Errorf("%s requests were served, and %s before the other page asked again", n, before)
			}
			x.visit("/")
			eventually(t, "the page does not become live", func() bool { return x.text("#live span") == "live" })
		})
	}
}

// A lookup is seen to go from node to node, before it is over, and comes to its end.
func TestLookupHopByHop(t *testing.T) {
	b := fleet(t, 5)
	target := put(t, b[1])
	if err := b[4].cmd.Process.Signal(syscall.SIGSTOP); err != nil { // who is silent holds the lookup up
		t.Fatal(err)
	}
	x := open(t, browse(t), b[0], phone)
	x.visit("/")
	x.run(chromedp.SetValue("#q", target), chromedp.Submit("#q"))
	nodes := func() int { return eval[int](x, `document.querySelectorAll(".hop").length`) }
	asks := strings.Repeat("ab", 20) // which nobody has, so that all are asked
	x.run(chromedp.WaitVisible("#verdict"))
	x.visit("/lookup")
	x.run(chromedp.SetValue("#q", asks), chromedp.Click("main button"))
	eventually(t, "no node is seen before the lookup is over", func() bool {
		return eval[bool](x, `document.readyState == "loading" && document.querySelectorAll(".hop").length > 0 && !document.getElementById("verdict")`)
	})
	first := nodes()
	eventually(t, "the lookup does not end", func() bool { return x.text("#verdict") != "" && eval[string](x, "document.readyState") == "complete" })
	if got := x.text("#verdict"); !strings.Contains(got, "Not found") {
		t.Errorf("verdict %q", got)
	}
	if n := nodes(); n <= first || !strings.Contains(x.text(".hops"), "no answer yet after") || eval[int](x, `document.querySelectorAll("svg.way").length`) != 1 {
		t.Errorf("%d nodes at first, %d in the end: %s", first, n, x.text(".hops"))
	}
	x.accessible()
	x.screenshot("lookup-phone-silent-node")
}

// Everything can be reached and used with the keyboard alone, also while the page changes, and nothing moves for those who do not want it.
func TestKeyboardAndStillness(t *testing.T) {
	b := fleet(t, 2)[0]
	l := desktop
	l.still = true
	x := open(t, browse(t), b, l)
	x.visit("/")
	eventually(t, "the page does not become live", func() bool { return x.text("#live span") == "live" })
	focus := func() string { return eval[string](x, "document.activeElement.textContent.trim()") }
	x.run(chromedp.KeyEvent(kb.Tab))
	if got := focus(); got != "Skip to the content" {
		t.Errorf("the first stop is %q", got)
	}
	if top := eval[float64](x, "document.activeElement.getBoundingClientRect().left"); top < 0 {
		t.Error("the link cannot be seen")
	}
	x.run(chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Tab))
	if got := eval[bool](x, `document.getElementById("main").contains(document.activeElement)`); !got {
		t.Errorf("the link does not lead to the content, but to %q", focus())
	}
	if !eval[bool](x, `document.activeElement.matches("#d-health summary")`) {
		t.Fatalf("the next stop is %q", focus())
	}
	up := x.text("#hero .lead")
	eventually(t, "the page does not change", func() bool { return x.text("#hero .lead") != up })
	if !eval[bool](x, `document.activeElement.matches("#d-health summary")`) {
		t.Errorf("since the page has changed the keyboard is at %q", focus())
	}
	x.run(chromedp.KeyEvent(kb.Enter))
	if !eval[bool](x, `document.getElementById("d-health").open`) {
		t.Error("the checks do not open")
	}
	if got := eval[string](x, `getComputedStyle(document.querySelector("#live svg")).animationName`); got != "none" {
		t.Errorf("animation %s", got)
	}
}

// The kernel half is shown, and its numbers move, of a box whose XDP program sits at a real interface.
func TestKernelHalf(t *testing.T) {
	if os.Getuid() != 0 {
		missing(t, "only root makes network namespaces")
	}
	name := fmt.Sprintf("kdht-b%d", os.Getpid())
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			missing(t, "ip %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	ip("netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	veth := fmt.Sprintf("kb%d", os.Getpid())
	ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", name)
	ip("address", "add", "198.18.213.1/24", "dev", veth)
	ip("link", "set", veth, "up")
	ip("-n", name, "address", "add", "198.18.213.2/24", "dev", "eth0")
	ip("-n", name, "link", "set", "eth0", "up")
	ip("-n", name, "link", "set", "lo", "up")
	b := start(t, []string{"ip", "netns", "exec", name}, "198.18.213.2", "none", "--xdp", "auto")
	x := open(t, browse(t), b, desktop.inTheDark())
	x.visit("/")
	eventually(t, "the kernel half is not active", func() bool {
		return strings.Contains(x.text("#h-kernel"), "active") && !strings.Contains(x.text("#h-kernel"), "not")
	})
	load(t, b.udp)
	const kernel = 1
	eventually(t, "the kernel answers nothing", func() bool { return x.number(kernel) > 100 })
	if got := x.text("#kernel"); !regexp.MustCompile(`eth0 veth\s*link up\s*XDP (native|generic)`).MatchString(got) {
		t.Errorf("the interface is not shown: %s", got)
	}
	x.accessible()
	x.screenshot("status-desktop-dark-kernel")
}
