package admin

import (
	"net/http"
	"strings"
)

// route says who may do what. The first one that matches a request decides.
type route struct {
	methods string // separated by blanks; "" is any
	path    string // with a / at the end: that and all below it
	need    Role   // any of these
	what    string // for the audit log; "": it is not noted
	asks    bool   // though it is no GET it changes nothing
	long    bool   // it sets its deadlines by itself
	handle  http.HandlerFunc
}

const read = "GET HEAD"

// routes is the table of everything that is served.
func (g *gate) routes() []route {
	either := Operator | Updater
	return []route{
		{methods: read, path: "/admin", need: Viewer, handle: g.whoami},
		{methods: read, path: "/admin/audit", need: Viewer, handle: g.audit},
		{methods: read, path: "/admin/log", need: Viewer, long: true, handle: g.log},
		{methods: read, path: "/admin/config", need: Viewer, handle: g.getConfig},
		{methods: read, path: "/admin/config/file", need: Operator, what: "read the configuration file", handle: g.getFile},
		{methods: "PUT", path: "/admin/config", need: Operator, what: "change the configuration", handle: g.putConfig},
		{methods: read, path: "/admin/config/versions", need: Viewer, handle: g.getVersions},
		{methods: read, path: "/admin/config/versions/", need: Operator, what: "read an earlier configuration", handle: g.getVersion},
		{methods: read, path: "/admin/backup", need: Operator, what: "backup", long: true, handle: g.backup},
		{methods: "PUT POST", path: "/admin/restore", need: Operator, what: "restore", long: true, handle: g.restore},
		{methods: "POST", path: "/admin/restart", need: Operator, what: "restart", handle: g.restart},
		{methods: "POST", path: "/admin/reboot", need: either, what: "reboot", handle: g.reboot},
		{path: "/admin/", need: Viewer, handle: notFound},

		{methods: read, path: "/debug/pprof/", need: Operator, what: "profile", long: true, handle: g.profile},
		{path: "/debug/", need: Operator, handle: notFound},

		// Of the interface for updates (package update), which asks for no password here.
		{methods: read, path: "/update/status", need: Viewer, handle: g.update},
		{methods: read, path: "/update/features", need: Viewer, handle: g.update},
		{methods: "POST", path: "/update/check", need: Updater, what: "look for an update", asks: true, long: true, handle: g.update},
		{path: "/update/", need: Updater, what: "update", long: true, handle: g.update},
		{path: "/uploadtemp/", need: Updater, what: "update", long: true, handle: g.update},
		{path: "/divert", need: Updater, what: "update", long: true, handle: g.update},
		{methods: "POST", path: "/reboot", need: either, what: "reboot", handle: g.update},
		{methods: "POST", path: "/poweroff", need: Operator, what: "power off", handle: g.update},

		// The status page, its twins and tools, and the gateway, which decides for itself what the caller may put.
		{methods: read, path: "/live", need: Viewer, handle: g.live},
		{methods: read + " OPTIONS", path: "/", need: Viewer, handle: g.web},
		{path: "/", need: Operator, handle: g.web},
	}
}

// matches reports whether the route is that of a request.
func (t route) matches(r *http.Request) bool {
	if t.methods != "" {
		ok := false
		for m := range strings.FieldsSeq(t.methods) {
			ok = ok || m == r.Method
		}
		if !ok {
			return false
		}
	}
	if strings.HasSuffix(t.path, "/") {
		return strings.HasPrefix(r.URL.Path, t.path)
	}
	return r.URL.Path == t.path
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	fail(w, http.StatusNotFound, "There is no such path, or not with this method; GET /admin lists those that there are.")
}
