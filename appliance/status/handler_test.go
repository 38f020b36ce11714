package status_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"kdht/appliance/health"
	"kdht/appliance/history"
	"kdht/appliance/status"
)

// full is a report with something everywhere.
func full() status.Report {
	external := netip.MustParseAddr("198.18.0.1")
	since := time.Unix(900, 0).UTC()
	return status.Report{
		Version: "v1.2.3", Time: time.Unix(1000, 0).UTC(), Started: time.Unix(100, 0).UTC(), PID: 7,
		Ready: true,
		Health: health.Tree{
			State: health.Degraded, Ready: true, Headline: "Degraded. <Nothing> can be stored.",
			Checks: []health.Check{
				{Name: "link", State: health.Good, Sentence: "eth0 is up.", Since: since},
				{Name: "kernel half", After: []string{"link"}, State: health.Failed, Sentence: "Waits.", Because: "link", Since: since},
			},
		},
		Host: status.Host{
			Name: "<shelf>", Kernel: "6.12.1", Arch: "arm64", Uptime: 200_000, Memory: 4 << 30, MemoryAvailable: 1 << 30, Resident: 30 << 20,
			Disk: status.Disk{Path: "/perm", Size: 16 << 30, Free: 4 << 30}, Temperatures: []status.Temperature{{Name: "cpu-thermal", Celsius: 47.7}},
		},
		Update:  &status.Update{Root: 3, Trial: true, Other: "v1.2.2", Next: "v1.2.4 (slot 2)", Offered: "v1.2.5"},
		Tailnet: &status.Tailnet{State: "needs login", Since: since, LoginURL: "https://login.example/a?b=<c>", Error: "no <key>"},
		Changes: []status.Change{{Time: since, Who: "<alice>", What: "write: PUT /v1/names/a&b", Outcome: "done"}},
		Events: []status.Event{
			{Time: time.Unix(989, 0).UTC(), Level: "WARN", Message: "oldest is gone", Detail: "why=<age>"},
			{Time: time.Unix(500, 0).UTC(), Level: "INFO", Message: "6 kept"},
		},
		Hottest:  []status.HotKey{{Key: strings.Repeat("cd", 20), Rate: 4.2, Method: "get", Kernel: true}, {Key: strings.Repeat("ef", 20), Rate: 0.02, Method: "get_peers"}},
		Problems: []string{"eth1: generic mode & no better"},
		Tasks:    []status.Task{{Name: "node", Running: true}, {Name: "kernel half", Running: true, Restarts: 2}},
		Network:  "public",
		Families: []status.Family{{
			Family: "IPv4", ID: strings.Repeat("ab", 20), Listen: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:6881")},
			External: &external, Votes: 3, Secure: true, Contacts: 12, Good: 9, RTT: 0.0321, NetworkSize: 9876543,
			Bits:    4,
			Buckets: []status.Bucket{{PrefixLen: 0, Number: 0, Good: 7, Questionable: 1, Replacement: 4}, {PrefixLen: 0, Number: 5}, {PrefixLen: 1, Number: 7, Good: 2, Bad: 2}},
			Levels:  []status.Level{{PrefixLen: 0, Buckets: 2, Full: 1, Good: 7, Questionable: 1, Replacement: 4}, {PrefixLen: 1, Buckets: 1, Good: 2, Bad: 2}},
		}},
		Lookups: 1, InFlight: 4,
		Recursion: status.Recursion{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, UnderWay: 2, Cached: 3, CacheBytes: 4096,
			Times: []status.TimeBucket{{Within: 0.05, Count: 60}, {Within: 2, Count: 16}, {Count: 1}}, TimeSum: 7.7, Hops: []uint64{0, 70, 7, 0}},
		Node: []status.Counter{
			{Group: "query received", Name: "ping", Value: 11}, {Group: "query answered", Name: "ping", Value: 10},
			{Group: "query sent", Name: "find_node", Value: 12}, {Group: "error sent", Name: "203", Value: 1},
			{Group: "drop", Name: "malformed", Value: 5}, {Group: "outgoing", Name: "timeout", Value: 6}, {Group: "recursion", Name: "found", Value: 77}, {Group: "recursion", Name: "begun", Value: 77}, {Group: "drop", Name: "too many", Value: 4},
			{Group: "query answered", Name: "get_peers", Value: 3},
			{Group: "table", Name: "ID changed", Value: 7},
		},
		XDP: status.XDP{
			Mode: "auto", Active: true, Execution: "JIT", Pinned: true, PinDir: "/sys/fs/bpf/kdht/x", Lease: 60, Linger: 10,
			Endpoints: []netip.AddrPort{netip.MustParseAddrPort("198.18.0.1:6881"), netip.MustParseAddrPort("[2001:db8::1]:6881")},
			NICs: []status.NIC{
				{Name: "eth0", Index: 2, Driver: "igb", Up: true, MTU: 1500, Wanted: "auto", Mode: "native", ProgramID: 9, Paths: 3},
				{Name: "eth1", Index: 3, Driver: "r8169", Up: true, MTU: 1500, Wanted: "auto", Mode: "generic", Reason: "native: not supported", Paths: 1, OnePath: "no links & no room"},
				{Name: "br0", Index: 4, Kind: "bridge", Wanted: "none", Mode: "none", Reason: "its ports see the traffic first"},
			},
			Recursion: &status.KernelRecursion{Replied: 3}, Held: status.Held{Known: 1024, Room: 2048, Missing: 17, Since: &since, Overflows: 3},
			Counters: []status.KernelCounter{{Reason: "answered", Query: "ping", Packets: 1234567}, {Reason: "answered", Query: "hot_get", Packets: 9}, {Reason: "not_ours", Packets: 3}, {Reason: "hop_limit", Packets: 2}, {Reason: "limited", Packets: 8}},
			Events:   []status.KernelEvent{{Event: "sighting_lost", Count: 2}},
		},
		Sections: []status.Section{{Title: "Updates", Facts: []status.Fact{{Name: "last", Value: "1.2 & well"}}}},
		Store: status.Store{
			Path: "/perm/kdht/kdht.db", Items: 1234, OwnItems: 1, Infohashes: 2, Peers: 3, Sources: 4, Bytes: 5 << 20, MaxBytes: 64 << 20,
			FileBytes: 8 << 20, OldestItem: 7200, Checked: true, Writes: 100, Commits: 10, CommitTime: 0.5, Expired: 6,
			SetAside: "/perm/kdht/kdht.db.damaged", SetAsideReason: "bad checksum",
			Failure: "no space left on device", FailedSince: &since,
		},
	}
}

// past is an empty one.
func past() *history.Recorder {
	return history.New(history.Options{Log: slog.New(slog.DiscardHandler)})
}

func get(t *testing.T, r status.Report, path, accept string) *httptest.ResponseRecorder {
	t.Helper()
	h := status.Handler(func() status.Report { return r }, past(), slog.New(slog.DiscardHandler))
	req := httptest.NewRequest(http.MethodGet, path, nil)
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

func TestNegotiation(t *testing.T) {
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, c := range []struct{ path, accept, want string }{
		{"/", "", "text/html"},
		{"/", browser, "text/html"},
		{"/status", browser, "text/html"},
		{"/", "*/*", "text/html"},
		{"/status", "*/*", "application/json"},
		{"/status", "", "application/json"},
		{"/status", "text/html", "text/html"},
		{"/status", "application/json", "application/json"},
		{"/", "application/json", "application/json"},
		{"/", "text/html;q=0.5, application/json", "application/json"},
		{"/", "text/html, application/json;q=0.5", "text/html"},
		{"/", "text/*;q=0.1, application/*", "application/json"},
		{"/", "application/json;q=0, */*", "text/html"},
		{"/", "text/html;q=x, application/json;q=0.1", "application/json"},
		{"/", ";;;,,", "text/html"},
		{"/?format=json", browser, "application/json"},
		{"/status?format=json", "", "application/json"},
		{"/status?format=html", "application/json", "text/html"},
	} {
		r := get(t, full(), c.path, c.accept)
		if got := r.Header().Get("Content-Type"); r.Code != 200 || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s with Accept %q: %d, %s; want %s", c.path, c.accept, r.Code, got, c.want)
		}
		if r.Header().Get("Vary") != "Accept" || r.Header().Get("Content-Security-Policy") == "" {
			t.Errorf("%s: headers %v", c.path, r.Header())
		}
	}
}

func TestJSONIsTheReport(t *testing.T) {
	for name, want := range map[string]status.Report{"full": full(), "empty": {}} {
		var got status.Report
		body := get(t, want, "/status?format=json", "").Body
		if strings.Contains(body.String(), "null") {
			t.Errorf("%s: a null among %s", name, body)
		}
		d := json.NewDecoder(body)
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Errorf("%s, want as reported (-), got (+):\n%s", name, diff)
		}
	}
}

func TestPageOfAKernelHalfThatAnsweredNothing(t *testing.T) {
	r := full()
	r.XDP.Counters = nil
	if html := get(t, r, "/", "").Body.String(); !strings.Contains(html, ", none of them in the kernel") {
		t.Error("it does not say so")
	}
}

func TestPage(t *testing.T) {
	html := get(t, full(), "/", "").Body.String()
	for _, want := range []string{
		"&lt;shelf&gt;", "&lt;Nothing&gt; can be stored.", "generic mode &amp; no better", strings.Repeat("ab", 20), "198.18.0.1:6881",
		"native: not supported", "MTU 1500, recursion on 3 paths at a time", "recursion on one path at a time", "One path: no links &amp; no room", "1\u202f234\u202f567", "5.0 MiB of 64.0 MiB", "up 15 min,", "1 min after a crash, 10 s after a stop", "9\u202f876\u202f543 nodes", "32.1 ms",
		"restarted 2 times", "knows 1\u202f024, <span class=\"word failed\">not 17", "room for 2\u202f048", ">Updates</h2>", "1.2 &amp; well", "3, for 2 infohashes", "<code>10.0.0.0/8</code>",
		"<dd>77; not there 0", "3 items, 4.0 KiB", "by 3 nodes", `name="viewport"`, `content="light dark"`, "the JIT compiler",
		"partition 3, <span class=\"badge degraded\">on trial", "the other has v1.2.2", "48 °C", "3.0 GiB of 4.0 GiB", "12.0 GiB of 16.0 GiB",
		"oldest is gone", "4.2", "6 kept", "11 s ago", "get_peers</code>", "99.9 % of them in the kernel", "2 h", "hop limit", "too many",
		"<a href=\"https://login.example/a?b=%3cc%3e\">log in</a>", "no &lt;key&gt;", "<th scope=\"row\">50 ms</th>", "IPv4: 2 levels",
		">2 d 7 h, <span class=\"quiet\">this program 15 min", "&lt;alice&gt;: write: PUT /v1/names/a&amp;b",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not contain %q", want)
		}
	}
	if m := regexp.MustCompile(`(?i)<script[^>]*>[^<]|style=|\son\w+=|(?:src|action)="?https?:|@import|url\(|<shelf>|<no value>|NaN`).FindString(html); m != "" {
		t.Errorf("the page contains %q", m)
	}
	whole(t, html)

	r := full()
	r.Store.Infohashes = 1
	r.Recursion.Allow = nil
	if !strings.Contains(get(t, r, "/", "").Body.String(), "Off: <code>recursion.allow</code>") {
		t.Error("recursion is not off")
	}
	if !strings.Contains(get(t, r, "/", "").Body.String(), "3, for 1 infohash<") {
		t.Error("one infohash is several")
	}
	if html := get(t, status.Report{}, "/", "").Body.String(); !strings.HasSuffix(strings.TrimSpace(html), "</html>") {
		t.Error("the page of an empty report is not complete")
	} else {
		whole(t, html)
	}
}

// whole checks that what is opened is closed, and that names of elements are unique and what refers to them is right.
func whole(t *testing.T, html string) {
	t.Helper()
	for _, tag := range []string{"table", "thead", "tbody", "tr", "td", "th", "details", "section", "ul", "ol", "li", "dl", "dd", "dt", "div", "main", "p", "figure", "svg"} {
		opened, closed := len(regexp.MustCompile("<"+tag+"[ >]").FindAllString(html, -1)), strings.Count(html, "</"+tag+">")
		if opened != closed {
			t.Errorf("%d <%s> but %d </%s>", opened, tag, closed, tag)
		}
	}
	ids := make(map[string]bool)
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		if ids[m[1]] {
			t.Errorf("two elements are named %s", m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(` (?:aria-labelledby|aria-describedby|for)="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		if !ids[m[1]] {
			t.Errorf("nothing is named %s", m[1])
		}
	}
}

// The health of the node is the first that one sees.
func TestHeadline(t *testing.T) {
	for _, state := range health.States {
		r := full()
		r.Health.State, r.Health.Headline = state, "It is <"+string(state)+">."
		html := get(t, r, "/", "").Body.String()
		if !strings.Contains(html, `<section class="hero `+string(state)+`"`) || !strings.Contains(html, `<h1 role="status">It is &lt;`+string(state)+`&gt;.</h1>`) {
			t.Errorf("no %s in\n%s", state, html)
		}
		for _, want := range []string{`<span class="check good">`, `link<span class="unseen"> is good,</span>`, "eth0 is up.", "for 1 min 40 s", `<span class="badge failed">failed</span> kernel half`} {
			if !strings.Contains(html, want) {
				t.Errorf("no %q in\n%s", want, html)
			}
		}
	}
}

// What the pages load is there, and may be kept for ever, as its path names its content.
func TestAssets(t *testing.T) {
	html := get(t, full(), "/", "").Body.String()
	paths := regexp.MustCompile(`(?:src|href)="(/assets/[^"]*)"`).FindAllStringSubmatch(html, -1)
	if len(paths) != 3 {
		t.Fatalf("the page loads %v", paths)
	}
	for _, p := range paths {
		w := get(t, full(), p[1], "")
		if w.Code != 200 || w.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" || w.Body.Len() == 0 || strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d, %v", p[1], w.Code, w.Header())
		}
	}
	for _, p := range []string{"/assets/", "/assets/style.css", "/assets/../handler.go"} {
		if w := get(t, full(), p, ""); w.Code == 200 {
			t.Errorf("%s is served", p)
		}
	}
}

// The price of a page, and of what is sent of it to all who follow it.
func BenchmarkPage(b *testing.B) {
	h := status.Handler(full, past(), slog.New(slog.DiscardHandler))
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		b.ReportMetric(float64(w.Body.Len()), "bytes")
	}
}

func TestMetrics(t *testing.T) {
	text := get(t, full(), "/metrics", "").Body.String()
	for _, want := range []string{
		`kdht_build_info{goversion="go`,
		`kdht_ready 1`,
		`kdht_health_state{state="degraded"} 1`,
		`kdht_health_state{state="good"} 0`,
		`kdht_health_check{check="kernel_half",state="failed"} 1`,
		`kdht_health_check{check="kernel_half",state="good"} 0`,
		`kdht_task_running{task="node"} 1`,
		`kdht_task_restarts_total{task="kernel_half"} 2`,
		`kdht_table_contacts{family="ipv4",state="good"} 9`,
		`kdht_table_contacts{family="ipv4",state="replacement"} 4`,
		`kdht_kernel_datagrams_total{method="ping",reason="answered"} 1.234567e+06`,
		`kdht_kernel_datagrams_total{method="",reason="not_ours"} 3`,
		`kdht_kernel_interface_info{driver="r8169",interface="eth1",mode="generic",wanted="auto"} 1`,
		`kdht_kernel_recursion_paths{interface="eth0"} 3`, `kdht_kernel_recursion_paths{interface="eth1"} 1`,
		`kdht_kernel_held_keys{state="known"} 1024`,
		`kdht_kernel_held_keys{state="missing"} 17`,
		`kdht_kernel_held_room 2048`,
		`kdht_kernel_held_overflows_total 3`,
		`kdht_kernel_events_total{event="sighting_lost"} 2`,
		`kdht_queries_received_total{method="ping"} 11`,
		`kdht_queries_answered_total{method="ping"} 10`,
		`kdht_queries_sent_total{method="find_node"} 12`,
		`kdht_errors_sent_total{code="203"} 1`,
		`kdht_dropped_total{reason="malformed"} 5`,
		`kdht_events_total{event="timeout",group="outgoing"} 6`,
		`kdht_events_total{event="id_changed",group="table"} 7`,
		`kdht_recursions 2`,
		`kdht_recursion_cached_items 3`,
		`kdht_recursion_cached_bytes 4096`,
		`kdht_store_bytes 5.24288e+06`,
		`kdht_store_set_aside 1`,
		`kdht_store_failing 1`,
		`go_goroutines `,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(text, `interface="br0"`) {
		t.Error("an unsuitable interface is among the metrics")
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// The first line says whether all is well, the tree follows; JSON, for who prefers it, is the tree.
func TestHealth(t *testing.T) {
	well, ill, early := full(), full(), full()
	ill.Tasks[1] = status.Task{Name: "kernel half", Error: "netlink is gone"}
	early.Ready = false
	for _, c := range []struct {
		path string
		r    status.Report
		code int
		text string
	}{
		{"/healthz", well, 200, "ok\n"},
		{"/healthz", early, 200, "ok\n"},
		{"/healthz", ill, 503, "kernel half: netlink is gone\n"},
		{"/readyz", well, 200, "ready\n"},
		{"/readyz", early, 503, "not ready\n"},
	} {
		r := get(t, c.r, c.path, "*/*")
		if got, want := r.Body.String(), c.text+"\n"+c.r.Health.Text(); r.Code != c.code || got != want {
			t.Errorf("%s: %d %q, want %d %q", c.path, r.Code, got, c.code, want)
		}
		r = get(t, c.r, c.path, "application/json")
		var tree health.Tree
		if err := json.Unmarshal(r.Body.Bytes(), &tree); err != nil || r.Code != c.code || r.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s as JSON: %d, %v, %s", c.path, r.Code, err, r.Header().Get("Content-Type"))
		}
		if diff := cmp.Diff(c.r.Health, tree); diff != "" {
			t.Errorf("%s as JSON, want (-), got (+):\n%s", c.path, diff)
		}
	}
	if body := get(t, status.Report{}, "/readyz", "application/json").Body.String(); strings.Contains(body, "null") {
		t.Errorf("there is a null in %s", body)
	}
}

func TestNothingElse(t *testing.T) {
	h := status.Handler(full, past(), slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		method, path string
		code         int
	}{{"GET", "/other", 404}, {"GET", "/debug/pprof/", 404}, {"POST", "/", 405}, {"POST", "/status", 405}, {"DELETE", "/metrics", 405}, {"HEAD", "/status", 200}} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.code {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.code)
		}
	}
}
