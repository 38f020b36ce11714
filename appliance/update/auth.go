package update

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"kdht/appliance"
	"kdht/store"
)

// passwordFile is the name of the file in the state directory to which the password is taken from the boot partition.
const passwordFile = "gokr-pw.txt"

// PasswordFiles are where else a password may be: the usual state directory, if the configuration has another one, and
// where gokrazy looks.
var PasswordFiles = []string{"/perm/kdht/" + passwordFile, "/perm/gokr-pw.txt", "/etc/gokr-pw.txt"}

// noPassword says why nobody is let in.
func (m *Manager) noPassword() string {
	why := "this box has no password"
	if m.o.Memory {
		why = "/perm cannot be used, so this box does not know its password"
	}
	return why + ", and nothing can be changed over the network: put one into a file gokr-pw.txt on the boot partition and restart"
}

// password reads the password as gokrazy does; "" if there is none.
func (m *Manager) password() string {
	for _, path := range m.o.Passwords {
		if b, err := os.ReadFile(path); err == nil {
			if p := strings.TrimSpace(string(b)); p != "" {
				return p
			}
		}
	}
	return ""
}

type authorizedKey struct{}

// WithAuthority is for who has found out in another way than by the password that the sender of a request may update the box,
// whose name goes into the history: [Manager.Handler] asks requests with the context for no password.
func WithAuthority(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, authorizedKey{}, name)
}

// Authorized is the name that [WithAuthority] was given.
func Authorized(ctx context.Context) (name string, ok bool) {
	name, ok = ctx.Value(authorizedKey{}).(string)
	return name, ok
}

// authenticated lets those through who know the password, who have shown their authority elsewhere, and whoever comes through
// our own Unix socket, which only root can open.
func (m *Manager) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, local := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); local {
			next.ServeHTTP(w, r)
			return
		}
		if _, ok := Authorized(r.Context()); ok {
			next.ServeHTTP(w, r)
			return
		}
		if m.admit(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

// admit reports whether a request has the password of the box; else it has answered it.
func (m *Manager) admit(w http.ResponseWriter, r *http.Request) bool {
	want := m.password()
	if want == "" {
		http.Error(w, m.noPassword(), http.StatusForbidden)
		return false
	}
	user, got, sent := r.BasicAuth()
	ok, wait := false, time.Duration(0)
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	if sent { // a browser asks without first
		ok, wait = m.guesses.try(from.Addr(), time.Now(), func() bool {
			a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
			return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && user == "gokrazy"
		})
	}
	switch {
	case ok:
		appliance.KeepConnection(r.Context())
		return true
	case wait > 0:
		seconds := int((wait + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		http.Error(w, fmt.Sprintf("too many wrong passwords from your address, or from many others in your network: try again in %d s, or over IPv4 instead of IPv6, or from another network", seconds), http.StatusTooManyRequests)
	default:
		if sent {
			m.failures.Note("password "+networkOf(from.Addr()).String(), entry(r, "password", "refused: wrong user or password"))
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="gokrazy"`)
		http.Error(w, "wrong user or password: the user is gokrazy, the password that of the box", http.StatusUnauthorized)
	}
	return false
}

// Owner is an [appliance.Admission] by the password of the box, if it has one.
func (m *Manager) Owner(w http.ResponseWriter, r *http.Request) (by string, ok, answered bool) {
	if m.password() == "" {
		return "", false, false
	}
	ok = m.admit(w, r)
	return who(r), ok, !ok
}

// Outcomes in the audit log.
const (
	begun = "begun"
	done  = "done"
)

// note notes in the audit log what a request has changed, or if the outcome is begun, may change from now on. What comes over the tailnet the
// admin plane notes.
func (m *Manager) note(r *http.Request, outcome string) {
	if _, ok := Authorized(r.Context()); ok {
		return
	}
	if err := m.o.History.AddAudit(entry(r, "update", outcome)); err != nil {
		m.o.Log.Error("the audit log cannot be written", "err", err)
	}
}

// failed answers a request of somebody who may change the box with what kept it from changing anything, and notes that, once a day.
func (m *Manager) failed(w http.ResponseWriter, r *http.Request, err error) {
	if _, ok := Authorized(r.Context()); !ok {
		m.failures.Note(remote(r)+" "+r.Method+" "+r.URL.Path, entry(r, "update", "failed: "+err.Error()))
	}
	fail(w, err)
}

func entry(r *http.Request, what, outcome string) store.Audit {
	return store.Audit{Time: time.Now().UTC(), Who: who(r), What: what + ": " + r.Method + " " + r.URL.Path, Outcome: outcome}
}

// who names a client for the history.
func who(r *http.Request) string {
	if name, ok := Authorized(r.Context()); ok {
		return name + " over the tailnet"
	}
	if s := r.Header.Get("User-Agent"); strings.HasPrefix(s, "kdht/") {
		return "kdht update from " + remote(r)
	}
	return "gokrazy client from " + remote(r)
}

func remote(r *http.Request) string {
	if _, local := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); local {
		return "the box itself"
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
