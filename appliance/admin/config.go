package admin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"kdht/appliance/admin/change"
	"kdht/config"
)

const (
	maxConfig = 256 << 10 // bytes of a configuration file
	// kept stands in what is served for the auth key, which nobody gets to read, and in what is put for the one that is there.
	kept = "(kept)"

	// within is how long a changed configuration has to prove well, unless the caller says otherwise. What takes its time by nature, an
	// address, the network, the tailnet, counts as failed after a minute (package health): who says less is in a hurry.
	within    = 3 * time.Minute
	withinMin = 30 * time.Second
	withinMax = time.Hour
)

// getConfig serves the effective configuration, every key with its description, without secrets.
func (g *gate) getConfig(w http.ResponseWriter, _ *http.Request) {
	serveText(w, g.p.h.Config.Redacted(nil))
}

// getFile serves the configuration file as it is, with the other secrets that are in it. Its entity tag is for If-Match.
func (g *gate) getFile(w http.ResponseWriter, _ *http.Request) {
	if !g.changeable(w) {
		return
	}
	text, err := g.p.o.History.Text()
	if err != nil {
		fail(w, http.StatusInternalServerError, "The configuration file cannot be read: "+err.Error()+".")
		return
	}
	w.Header().Set("ETag", strconv.Quote(change.Sum(text)))
	serveText(w, g.withoutKey(text))
}

// getVersions lists the versions of the configuration file, the newest first.
func (g *gate) getVersions(w http.ResponseWriter, _ *http.Request) {
	if !g.changeable(w) {
		return
	}
	all := g.p.o.History.Versions()
	if all == nil {
		all = []change.Version{}
	}
	serveJSON(w, http.StatusOK, all)
}

// getVersion serves the text of a version.
func (g *gate) getVersion(w http.ResponseWriter, r *http.Request) {
	if !g.changeable(w) {
		return
	}
	id, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/admin/config/versions/"))
	if err != nil {
		fail(w, http.StatusNotFound, "A version is a number; GET /admin/config/versions lists them.")
		return
	}
	text, err := g.p.o.History.Version(id)
	if errors.Is(err, change.ErrVersion) {
		fail(w, http.StatusNotFound, "There is no such version; GET /admin/config/versions lists them.")
		return
	}
	if err != nil {
		fail(w, http.StatusInternalServerError, "The version cannot be read: "+err.Error()+".")
		return
	}
	serveText(w, g.withoutKey(text))
}

// putConfig checks a configuration file, puts it in force, on trial, and has the program start anew with it.
func (g *gate) putConfig(w http.ResponseWriter, r *http.Request) {
	if !g.changeable(w) {
		return
	}
	limit := within
	if s := r.URL.Query().Get("within"); s != "" {
		var err error
		if limit, err = time.ParseDuration(s); err != nil || limit < withinMin || limit > withinMax {
			fail(w, http.StatusBadRequest, fmt.Sprintf("within is a duration from %s to %s, as in 5m.", withinMin, withinMax))
			return
		}
	}
	without, unknown := g.without(r)
	if unknown != "" {
		fail(w, http.StatusBadRequest, unknown)
		return
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxConfig))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("A configuration has at most %d KiB.", maxConfig>>10))
		return
	case err != nil:
		fail(w, http.StatusBadRequest, "The configuration did not come whole.")
		return
	}
	if text, err = g.withKey(text); err != nil {
		fail(w, http.StatusUnprocessableEntity, g.p.keys.redact(err.Error()))
		return
	}
	next, err := g.p.o.Check(text)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, g.p.keys.redact(err.Error()))
		return
	}
	if next.State != g.p.h.Config.State {
		fail(w, http.StatusUnprocessableEntity, "state: the directory cannot be changed over the tailnet: the box would begin with an empty one, and not be in the tailnet.")
		return
	}
	keys := g.reserved(text, &next)
	if who := caller(r).who; rolesOf(who, next.Tailnet)&Operator == 0 {
		fail(w, http.StatusUnprocessableEntity, "tailnet.operators: with this you would be no operator any more, and could not take it back. Have it name you, or somebody else change it.")
		return
	}
	if len(keys) > 0 && !caller(r).May(Updater) {
		fail(w, http.StatusForbidden, fmt.Sprintf("%s: to change this takes the role updater beside operator, or operators could make themselves updaters, or shut the updaters out. You are %s, with the roles %s.",
			strings.Join(keys, ", "), caller(r).Name, caller(r).Roles))
		return
	}
	if who := caller(r).who; len(keys) > 0 && rolesOf(who, next.Tailnet)&Updater == 0 {
		fail(w, http.StatusUnprocessableEntity, fmt.Sprintf("%s: with this you would be no updater any more, and could not take it back. Have tailnet.updaters name you, or somebody else change it.", strings.Join(keys, ", ")))
		return
	}
	if !wanted(next.Tailnet, next.State) && !slices.Contains(without, tailnetCheck) {
		fail(w, http.StatusUnprocessableEntity, "tailnet.mode: with this the box leaves the tailnet, and nobody can take it back from here. If that is meant, say so: PUT /admin/config?without=tailnet")
		return
	}
	h, was := g.p.o.History, before(g.p.h.Config, next, g.p.h.Report(), without)
	was.Reserved, was.Tailnet = keys, true // whoever asks has come by it
	if home, had, err := readPin(g.p.dir); err == nil && had {
		was.Outside = answering(r.Context(), home.ControlURL)
	}
	now, err := h.Text()
	if err == nil && string(now) == string(text) {
		_, _ = io.WriteString(w, "That is the configuration already; nothing was changed.\n")
		return
	}
	v, err := h.Begin(text, strings.Trim(r.Header.Get("If-Match"), `"`), caller(r).Name, limit, was, time.Now().UTC())
	switch {
	case errors.Is(err, change.ErrTrial):
		fail(w, http.StatusConflict, err.Error())
		return
	case errors.Is(err, change.ErrChanged):
		fail(w, http.StatusPreconditionFailed, err.Error())
		return
	case err != nil:
		fail(w, http.StatusInternalServerError, "The configuration cannot be written: "+err.Error()+".")
		return
	}
	g.note(caller(r), fmt.Sprintf("change the configuration: version %d", v.ID), fmt.Sprintf("on trial for %s", limit))
	noted(w)
	w.WriteHeader(http.StatusAccepted)
	_, _ = fmt.Fprintf(w, "Version %d is on trial: the program starts anew with it, and goes back to the one before unless it proves well within %s.\n", v.ID, limit)
	switch mustCome(was) {
	case 0:
	case Operator:
		_, _ = io.WriteString(w, "As it changes how the box is reached, that takes somebody who comes by the tailnet afterwards and may change it again: GET /admin will do.\n")
	default:
		_, _ = io.WriteString(w, "As it changes how the box is reached, or by whom, that takes somebody who comes by the tailnet afterwards and may change it back, an operator who is updater as well: GET /admin will do.\n")
	}
	if t := next.Tailnet; t.ControlURL == "" && g.p.h.Config.Tailnet.ControlURL != "" && t.Mode == config.TailnetAuto && !t.HasKey() {
		_, _ = io.WriteString(w, "That there is no tailnet.controlURL does not move the box: it stays with the control server where it has joined.\n")
	}
	g.leave(w, nil)
}

// without are the checks of the health that a change may cost: ?without=NAME,NAME. Those that there are not it says.
func (g *gate) without(r *http.Request) (names []string, unknown string) {
	var all []string
	for _, c := range g.p.h.Report().Health.Checks {
		all = append(all, c.Name)
	}
	for _, s := range r.URL.Query()["without"] {
		for name := range strings.SplitSeq(s, ",") {
			if !slices.Contains(all, name) {
				return nil, fmt.Sprintf("without is what of the health the change may cost: %s.", strings.Join(all, ", "))
			}
			names = append(names, name)
		}
	}
	return names, ""
}

// reserved names those of the keys that a new text changes which an operator may not change by himself: he could make himself an
// updater, by a list, by the policy of another tailnet, or by tags that the policy of this one gives more to, have the box take
// releases that others have signed, or shut those out who may more than he, by taking them off the list of operators, or the box out of the tailnet.
//
// What counts is what the file says, old and new, whether or not it stands without the flags: those are nothing that he changes, and what
// they hide today is in force once they are gone. Where the old file is none, it is what the program runs with, and would run with.
func (g *gate) reserved(text []byte, next *config.Config) (names []string) {
	now := &g.p.h.Config
	if old, err := g.p.o.History.Text(); err == nil {
		was, errOld := config.Values("", old)
		will, errNew := config.Values("", text)
		if errOld == nil && errNew == nil {
			now, next = &was, &will
		}
	}
	for _, name := range config.Differences(now, next) {
		less := name == "tailnet.operators" && slices.ContainsFunc(now.Tailnet.Operators, func(s string) bool { return !slices.Contains(next.Tailnet.Operators, s) })
		off := name == "tailnet.mode" && !wanted(next.Tailnet, g.p.h.Config.State)
		if less || off || strings.HasPrefix(name, "update.") || slices.Contains(reservedKeys, name) {
			names = append(names, name)
		}
	}
	return names
}

var reservedKeys = []string{"tailnet.updaters", "tailnet.controlURL", "tailnet.authKey", "tailnet.authKeyFile", "tailnet.tags"}

// changeable reports whether the configuration can be changed here; else it says what would let it.
func (g *gate) changeable(w http.ResponseWriter) bool {
	if g.p.o.History == nil {
		fail(w, http.StatusConflict, "This node was started without a configuration file, so there is none to change: start it with --config FILE.")
		return false
	}
	return true
}

// withKey puts the auth key that is there in the place of the word for it, which may stand there and nowhere else: what is put
// elsewhere can be read, or goes to others.
func (g *gate) withKey(text []byte) ([]byte, error) {
	key := g.p.h.Config.Tailnet.AuthKey
	n := strings.Count(string(text), kept)
	if key == "" || n == 0 {
		return text, nil
	}
	const probe = "tskey-kept"
	probed := []byte(strings.Replace(string(text), kept, probe, 1))
	c, err := config.Values("", probed)
	if err != nil {
		return probed, nil //nolint:nilerr // who checks it next says where
	}
	if n > 1 || c.Tailnet.AuthKey != probe {
		return nil, fmt.Errorf("%s may only stand for the value of tailnet.authKey", kept)
	}
	return []byte(strings.Replace(string(text), kept, key, 1)), nil
}

// withoutKey takes the auth key out of a configuration file.
func (g *gate) withoutKey(text []byte) []byte {
	s := string(text)
	c, err := config.Values("", text)
	if err != nil { // who knows where it has a key
		return []byte("// The file is not shown, because it does not parse: " + strings.ReplaceAll(g.p.keys.redact(err.Error()), "\n", " ") + "\n")
	}
	if c.Tailnet.AuthKey != "" {
		s = strings.ReplaceAll(s, c.Tailnet.AuthKey, kept)
		if c, err := config.Values("", []byte(strings.ReplaceAll(s, kept, "tskey-kept"))); err != nil || c.Tailnet.AuthKey != "tskey-kept" {
			return []byte("// The file is not shown: its auth key is written in a way that cannot be hidden.\n") // with escapes
		}
	}
	return []byte(g.p.keys.redactKnown(s))
}

func serveText(w http.ResponseWriter, text []byte) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(text) // the client may have gone
}
