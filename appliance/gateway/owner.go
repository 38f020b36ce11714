package gateway

import (
	"net/http"
	"slices"
	"strings"

	"kdht/appliance"
)

// Owner is an [appliance.Admission] for what only whoever may change things is to have: programs on the machine itself and holders of a
// token, as [Configured] knows them, whom others let in, and those whom [appliance.Host.Admit] knows.
func Owner(h *appliance.Host, others ...func(*http.Request) bool) appliance.Admission {
	writers := Configured(h.Config)
	return func(w http.ResponseWriter, r *http.Request) (name string, ok, answered bool) {
		who, err := writers(r)
		if err == nil && (who.May(Name) || slices.ContainsFunc(others, func(f func(*http.Request) bool) bool { return f(r) })) {
			return who.Name, true, false
		}
		if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") { // that was the credential
			return "", false, false
		}
		return h.Admit(w, r)
	}
}
