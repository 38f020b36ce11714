package admin

import (
	"net/http"

	"kdht/appliance"
	"kdht/appliance/gateway"
)

// loginPath leads to where somebody has to log in.
const loginPath = "/tailnet/login"

// loginPage sends those who may change things ([gateway.Owner]) to the URL where somebody has to log in. The status page has it only while
// the box belongs to nobody.
func (p *plane) loginPage() http.Handler {
	owner := gateway.Owner(p.h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		who, ok, answered := owner(w, r)
		if !ok && !answered {
			fail(w, http.StatusForbidden, "The URL of a login is for programs on the machine itself, for holders of a token (gateway.tokens in its configuration; "+
				"\"Authorization: Bearer SECRET\"), and on the appliance for whoever knows its password (that in gokr-pw.txt on the boot partition, user gokrazy).")
		}
		if !ok || !appliance.Wanted(w, r) { // asked after the password, since the answer is good for who has shown it
			return
		}
		url := p.now.login()
		if url == "" {
			fail(w, http.StatusNotFound, "There is no login that waits for somebody.")
			return
		}
		p.log.Info("somebody is sent to the login of the tailnet", "who", who, "from", r.RemoteAddr)
		w.Header().Set("Location", url)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusSeeOther)
		_, _ = w.Write([]byte(url + "\n")) // the client may have gone
	})
}
