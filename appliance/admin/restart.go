package admin

import (
	"net/http"
	"time"
)

// parting is how long an answer has to reach the caller before the program stops.
const parting = 300 * time.Millisecond

// restart has the program start anew.
func (g *gate) restart(w http.ResponseWriter, r *http.Request) {
	g.note(caller(r), "restart", "begun") // the store is closed when it is done
	noted(w)
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write([]byte("The program starts anew.\n"))
	g.leave(w, nil)
}

// leave has the program start anew once the answer is out; last is done with the database closed.
func (g *gate) leave(w http.ResponseWriter, last func()) {
	_ = http.NewResponseController(w).Flush()
	h := g.p.h
	time.AfterFunc(parting, func() { h.Restart(last) }) // the server waits for this request before it stops
}

// reboot restarts the machine, as the interface for updates does, which tries what is armed.
func (g *gate) reboot(w http.ResponseWriter, r *http.Request) {
	if !g.p.o.Appliance {
		fail(w, http.StatusConflict, "This is no appliance: its machine is not ours to restart.")
		return
	}
	next := r.Clone(r.Context())
	next.URL.Path = "/reboot"
	g.update(w, next)
}
