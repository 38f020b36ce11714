package box

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"kdht/appliance"
	"kdht/appliance/link"
	"kdht/appliance/status"
)

const (
	// consoleEvery is the time between two looks at what there is to say, and consoleSettled how many in a row must agree
	// on what may pass, so that a link that flaps, or a start that takes a moment, does not fill the screen.
	consoleEvery   = 2 * time.Second
	consoleSettled = 3
	// consoleProblems bounds the problems that are shown since the start; the status page has them all.
	consoleProblems = 50
	// notice is the severity of the lines (RFC 5424: user-level, notice), which every kernel's console shows unless its
	// command line says "quiet".
	notice = "<13>"
)

// console shows lines where somebody with a screen or a serial cable sees them: the kernel's log, which all consoles
// show.
type console struct {
	path string

	mu       sync.Mutex
	problems map[string]bool   // shown
	shown    map[string]string // subject → line
	agreed   map[string]int    // line that is not shown → how many looks in a row have found it
}

func newConsole(path string) *console {
	return &console{path: path, problems: make(map[string]bool), shown: make(map[string]string), agreed: make(map[string]int)}
}

// print shows a line.
func (c *console) print(line string) {
	f, err := os.OpenFile(c.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return // no console, nobody to see it
	}
	defer f.Close()
	clean := strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, line)
	const longest = 900                                             // the kernel cuts at 1024 with what it puts in front
	_, _ = fmt.Fprintf(f, "%skdht: %.*s\n", notice, longest, clean) // as above
}

// problem shows a problem, once.
func (c *console) problem(line string) {
	c.mu.Lock()
	known := c.problems[line]
	full := len(c.problems) >= consoleProblems
	if !full {
		c.problems[line] = true
	}
	c.mu.Unlock()
	if !known && !full {
		c.print(line)
	}
}

// state shows a line about a subject when it differs from the one before.
func (c *console) state(subject, line string) {
	c.mu.Lock()
	known := c.shown[subject] == line
	c.shown[subject] = line
	c.mu.Unlock()
	if !known {
		c.print(line)
	}
}

// settled tells those of the lines that a look has found which the looks before have found, too.
func (c *console) settled(lines []string) (settled []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[string]int)
	for _, l := range lines {
		if next[l] = c.agreed[l] + 1; next[l] >= consoleSettled {
			settled = append(settled, l)
		}
	}
	c.agreed = next
	return settled
}

// consoleTask keeps the console up to date: the name, version and node IDs, the addresses, and how the node is.
type consoleTask struct {
	console *console
	host    *appliance.Host
	started func() // called when the node runs
	ready   chan struct{}
}

// newConsoleTask makes the task, which closes started when it runs first.
func newConsoleTask(c *console, h *appliance.Host, started chan struct{}) *consoleTask {
	t := &consoleTask{console: c, host: h, ready: make(chan struct{})}
	t.started = sync.OnceFunc(func() { close(started) })
	close(t.ready) // nothing waits for it
	return t
}

func (t *consoleTask) String() string         { return "console" }
func (t *consoleTask) Ready() <-chan struct{} { return t.ready }

// Run implements [appliance.Task].
func (t *consoleTask) Run(ctx context.Context) error {
	t.started()
	tick := time.NewTicker(consoleEvery)
	defer tick.Stop()
	for {
		links, err := link.List()
		if err != nil {
			return err
		}
		t.show(t.host.Report(), links)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// show says what is new.
func (t *consoleTask) show(r status.Report, links []link.Link) {
	identity := fmt.Sprintf("%s, version %s", r.Host.Name, r.Version)
	for _, f := range r.Families {
		identity += fmt.Sprintf(", %s node ID %s", f.Family, f.ID)
	}
	t.console.state("identity", identity)
	where := addresses(links, t.host.Config.HTTP)
	if where != noAddress {
		t.console.state("addresses", where)
	}
	how := health(r)
	for _, line := range t.console.settled(append([]string{where, how}, r.Problems...)) {
		switch line {
		case where:
			t.console.state("addresses", line)
		case how:
			t.console.state("health", line)
		default:
			t.console.problem(line)
		}
	}
}

const noAddress = "no address yet: is the network cable in, and is there a DHCP server?"

// addresses tells where the box is, for whoever sits in front of it.
func addresses(links []link.Link, http string) string {
	var all []string
	for _, l := range links {
		if l.Loopback || !l.Up {
			continue
		}
		for _, a := range l.Addrs {
			if a.Is4() || !a.IsLinkLocalUnicast() { // nobody can type a zone
				all = append(all, a.String())
			}
		}
	}
	if all == nil {
		return noAddress
	}
	slices.Sort(all)
	line := "addresses " + strings.Join(all, ", ")
	if page := pageURL(all, http); page != "" {
		line += "; status page " + page
	}
	return line
}

// pageURL is where the status page is found, under an IPv4 address if there is one, which is easier to type.
func pageURL(addrs []string, http string) string {
	i := strings.LastIndexByte(http, ':')
	if i < 0 {
		return "" // it is off
	}
	host, port := strings.Trim(http[:i], "[]"), http[i:]
	if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
		host = addrs[0]
		if i := slices.IndexFunc(addrs, func(a string) bool { return !strings.Contains(a, ":") }); i >= 0 {
			host = addrs[i]
		}
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == ":80" {
		port = ""
	}
	return "http://" + host + port + "/"
}

// health says in a few words how the node is.
func health(r status.Report) string {
	if bad := r.Unhealthy(); len(bad) > 0 {
		return "not well: " + strings.Join(bad, "; ")
	}
	var nics []string
	for _, n := range r.XDP.NICs {
		if n.Mode != "none" {
			nics = append(nics, n.Name+" ("+n.Mode+")")
		}
	}
	kernel := "answers from user space"
	if r.XDP.Active && nics != nil {
		kernel = "answers from the kernel at " + strings.Join(nics, ", ")
	}
	if !r.Ready {
		return "serves the " + r.Network + " network, looking for its place in it, " + kernel
	}
	return "ready in the " + r.Network + " network, " + kernel
}
