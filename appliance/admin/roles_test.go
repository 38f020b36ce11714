package admin_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"tailscale.com/tstest/integration/testcontrol"

	"kdht/appliance"
	"kdht/appliance/admin"
	"kdht/appliance/update"
)

// updates stands in for the interface for updates: it says whether a password would be asked for.
func updates(h *appliance.Host) error {
	asked := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, ok := update.Authorized(r.Context()); ok {
			_, _ = w.Write([]byte("for " + name))
			return
		}
		http.Error(w, "password", http.StatusUnauthorized)
	})
	for _, p := range update.Patterns {
		h.Handle(p, asked)
	}
	return nil
}

// asked is a request, with who may send it and what he is answered.
type asked struct {
	method, path, body string
	may                admin.Role // any of these
	want               int        // for those who may
}

// everything are requests for all that is served, as a box answers that has the extension updates, no names and no version 7 of its configuration.
func everything() []asked {
	const v, o, u = admin.Viewer, admin.Operator, admin.Updater
	return []asked{
		{"GET", "/admin", "", v, 200},
		{"GET", "/admin/audit", "", v, 200},
		{"GET", "/admin/log?n=3", "", v, 200},
		{"GET", "/admin/config", "", v, 200},
		{"GET", "/admin/config/file", "", o, 200},
		{"PUT", "/admin/config", "{", o, 422},
		{"GET", "/admin/config/versions", "", v, 200},
		{"GET", "/admin/config/versions/7", "", o, 404},
		{"GET", "/admin/backup", "", o, 200},
		{"PUT", "/admin/restore", "no database", o, 422},
		{"POST", "/admin/restore", "no database", o, 422},
		{"POST", "/admin/reboot", "", o | u, 409},
		{"GET", "/admin/nothing", "", v, 404},
		{"DELETE", "/admin/config", "", v, 404},
		{"GET", "/debug/pprof/", "", o, 200},
		{"GET", "/debug/pprof/heap", "", o, 200},
		{"GET", "/debug/pprof/cmdline", "", o, 403},
		{"GET", "/debug/vars", "", o, 404},
		{"GET", "/update/status", "", v, 200},
		{"PUT", "/update/status", "", u, 200},
		{"GET", "/update/features", "", v, 200},
		{"POST", "/update/check", "", u, 200},
		{"PUT", "/update/root", "", u, 200},
		{"POST", "/update/switch", "", u, 200},
		{"PUT", "/uploadtemp/x", "", u, 200},
		{"POST", "/divert", "", u, 200},
		{"POST", "/reboot", "", o | u, 200},
		{"POST", "/poweroff", "", o, 200},
		{"GET", "/", "", v, 200},
		{"GET", "/status", "", v, 200},
		{"GET", "/metrics", "", v, 200},
		{"GET", "/healthz", "", v, 200},
		{"GET", "/v1", "", v, 200},
		{"GET", "/v1/items/59150b1ea35033374e962e64895dcb527390530d", "", v, 404},
		{"PUT", "/v1/items", "value", o, 201},
		{"DELETE", "/v1/names/x", "", o, 404}, // it has no names
		{"POST", "/", "", o, 405},
	}
}

// TestRoles has everybody ask for everything: each may do what his roles say, by the tailnet's policy or the configuration, and
// nothing else.
func TestRoles(t *testing.T) {
	n := newTailnet(t, func(c *testcontrol.Server) { c.TagOwners = map[string][]string{"tag:deploy": nil} })
	cfg := configure(t)
	h, check := fileOf(t, &cfg, `{
		"network": "private", "discovery": "off", "bootstrap": "none",
		"gateway": { "sign": ["loopback"] },
		"tailnet": {
			"mode": "on", "controlURL": "`+n.url+`", "hostname": "box", "authKey": "tskey-auth-secret",
			"viewers": ["user-6@fake-control.example.net"], "updaters": ["tag:deploy"],
			"operators": ["user-7@fake-control.example.net", "user-8@fake-control.example.net"],
		},
	}`)
	b := start(t, options{admin: admin.Options{History: h, Check: check}, config: &cfg, more: []appliance.Extension{updates}})
	b.state("connected") // user 1
	viewer, operator, updater, stranger := n.peer("viewer"), n.peer("operator"), n.peer("updater"), n.peer("stranger")
	listed, second := n.peer("listed"), n.peer("second") // users 6 and 7
	demoted := n.peer("demoted")                         // user 8: an operator by the list, nobody by the policy
	tagged := n.peer("tagged", "tag:deploy")
	everybody := []*peer{viewer, operator, updater, stranger, listed, second, demoted, tagged}
	for _, p := range everybody {
		p.box = b.host.Report().Tailnet.Addrs[0]
	}
	n.grant(n.key("box"), map[*peer]string{
		viewer:   `{"roles": ["viewer"]}`,
		operator: `{"roles": ["operator", "something new"]}`,
		updater:  `{"roles": ["updater"]}`,
		demoted:  `{"roles": []}`,
	})
	for p, want := range map[*peer]string{
		viewer: "viewer", operator: "viewer, operator", updater: "viewer, updater", stranger: "nobody", listed: "viewer",
		second: "viewer, operator", demoted: "nobody", tagged: "viewer, updater",
	} {
		p.rolesAre(want)
	}

	const v, o, u = admin.Viewer, admin.Operator, admin.Updater
	roles := map[*peer]admin.Role{viewer: v, operator: v | o, updater: v | u, listed: v, second: v | o, tagged: v | u}
	cases := everything()
	for _, c := range cases {
		for _, p := range everybody {
			a, err := p.do(c.method, c.path, strings.NewReader(c.body))
			if err != nil {
				t.Errorf("%s: %s %s: %v", p.name, c.method, c.path, err)
				continue
			}
			want := http.StatusForbidden
			if roles[p]&c.may != 0 {
				want = c.want
			}
			if a.status != want {
				t.Errorf("%s: %s %s: %d %s, want %d", p.name, c.method, c.path, a.status, strings.TrimSpace(a.body), want)
			}
			if strings.Contains(a.body, "tskey-auth-secret") {
				t.Errorf("%s: %s %s has the auth key", p.name, c.method, c.path)
			}
		}
	}

	// The table is whole: each path that anybody is told of was asked for.
	for _, p := range []*peer{operator, updater} {
		var who struct {
			Paths []struct{ Methods, Path string }
		}
		if err := json.Unmarshal([]byte(p.must(200, "GET", "/admin", "").body), &who); err != nil {
			t.Fatal(err)
		}
		for _, x := range who.Paths {
			for m := range strings.FieldsSeq(x.Methods) {
				known := m == "HEAD" || m == "OPTIONS" || x.Path == "/admin/restart" || x.Path == "/live" // below, and in TestLog
				for _, c := range cases {
					known = known || c.method == m && (c.path == x.Path || strings.HasPrefix(c.path, x.Path) && strings.HasSuffix(x.Path, "/") || strings.HasPrefix(c.path, x.Path+"?"))
				}
				if !known {
					t.Errorf("nobody asked for %s %s", m, x.Path)
				}
			}
		}
	}

	for _, p := range everybody {
		if roles[p]&o == 0 {
			p.must(403, "POST", "/admin/restart", "")
		}
	}

	// Every change, and every attempt of those who have a role, is in the audit log, with who made it.
	audit := operator.must(200, "GET", "/admin/audit?n=500", "").body
	for _, want := range []string{
		`"user-3@fake-control.example.net (operator)"`, `"tag:deploy (tagged)"`, `"update: PUT /update/root"`, `"restart: POST /admin/restart"`, `"refused"`, `"backup: GET /admin/backup"`,
		`"failed: 422 Unprocessable Entity"`,
	} {
		if !strings.Contains(audit, want) {
			t.Errorf("the audit log lacks %s", want)
		}
	}
	if strings.Contains(audit, "stranger") {
		t.Error("the audit log can be filled by strangers")
	}
	page := viewer.must(200, "GET", "/", "").body
	if !strings.Contains(page, "restart: POST /admin/restart") {
		t.Error("the page does not show the audit log")
	}
	if w := updater.must(200, "PUT", "/update/root", "").body; w != "for user-4@fake-control.example.net (updater)" {
		t.Errorf("the history of updates gets %q", w)
	}

	// What a browser sends that shows somebody else's page, or that was sent here under another name.
	for name, c := range map[string]struct {
		method, path string
		header       []string
		want         int
	}{
		"form of another site":     {"POST", "/admin/restart", []string{"Origin", "https://evil.example"}, 403},
		"script of another site":   {"POST", "/admin/restart", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"picture on another site":  {"GET", "/admin/backup", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		"link on another site":     {"GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},
		"another link there":       {"GET", "/admin/backup", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 403},
		"picture over plain HTTP":  {"GET", "/debug/pprof/profile", []string{"User-Agent", "Mozilla/5.0", "Accept-Language", "de"}, 403},
		"its frame":                {"GET", "/admin/config/file", []string{"User-Agent", "Mozilla/5.0", "Referer", "http://evil.example/"}, 403},
		"what costs nothing":       {"GET", "/admin/audit", []string{"User-Agent", "Mozilla/5.0"}, 200},
		"link on its own page":     {"GET", "/admin/config/file", []string{"User-Agent", "Mozilla/5.0", "Referer", "http://" + operator.box + "/"}, 200},
		"another name":             {"GET", "/", []string{"Host", "evil.example"}, 421},
		"another name, own origin": {"POST", "/admin/restart", []string{"Host", "evil.example", "Origin", "http://evil.example"}, 421},
		"its name":                 {"GET", "/", []string{"Host", "box"}, 200},
		"its whole name":           {"GET", "/", []string{"Host", "box." + domain + "."}, 200},
		"its whole name and port":  {"GET", "/", []string{"Host", "box." + domain + ":80"}, 200},
		"another box":              {"GET", "/", []string{"Host", "viewer." + domain}, 421},
	} {
		a, err := operator.do(c.method, c.path, nil, c.header...)
		if err != nil || a.status != c.want {
			t.Errorf("%s: %d %s, %v; want %d", name, a.status, a.body, err, c.want)
		}
	}
	if urls := b.host.Report().Tailnet.URLs; !slices.Equal(urls, []string{"http://box." + domain}) { // it has no certificate
		t.Errorf("served at %v", urls)
	}

	operator.must(202, "POST", "/admin/restart", "", "Origin", "http://"+operator.box)
	if err := b.ended(); !isRestart(err) {
		t.Errorf("Serve = %v, want ErrRestart", err)
	}
}
