package update

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// passwordFile is the name of the file in the state directory to which the password is taken from the boot partition.
const passwordFile = "gokr-pw.txt"

// PasswordFiles are where else a password may be: the usual state directory, if the configuration has another one, and
// where gokrazy looks.
var PasswordFiles = []string{"/perm/kdht/" + passwordFile, "/perm/gokr-pw.txt", "/etc/gokr-pw.txt"}

const noPassword = "this box has no password, so nothing can be changed over the network: put one into a file gokr-pw.txt on the boot partition and restart, or write it to /perm/gokr-pw.txt"

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

// penalty is how long a wrong password is thought about.
const penalty = 500 * time.Millisecond

// authenticated lets those through who know the password, and whoever comes through our own Unix socket, which only root
// can open.
func (m *Manager) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, local := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); local {
			next.ServeHTTP(w, r)
			return
		}
		want := m.password()
		if want == "" {
			http.Error(w, noPassword, http.StatusForbidden)
			return
		}
		user, got, ok := r.BasicAuth()
		a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
		if same := subtle.ConstantTimeCompare(a[:], b[:]) == 1; !ok || user != "gokrazy" || !same {
			if ok {
				select {
				case <-time.After(penalty):
				case <-r.Context().Done():
				}
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="gokrazy"`)
			http.Error(w, "wrong user or password: the user is gokrazy, the password that of the box", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// who names a client for the history.
func who(r *http.Request) string {
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
