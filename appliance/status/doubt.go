package status

import (
	"html/template"
	"net/http"
	"os"
	"strings"
	"time"
)

// Doubt answers a request of a browser that may be made by a page of somebody else's: 403, and for who looks at it a page with a link to
// what was asked for, by which it is [Confirmed].
func Doubt(w http.ResponseWriter, r *http.Request) {
	const sentence = "A page of another site may have made your browser ask for this, so nothing was done."
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if Quality(accept, "text", "html") <= Quality(accept, "application", "json") {
		w.Header().Set("Vary", "Accept")
		http.Error(w, sentence+" Open the address by itself.", http.StatusForbidden)
		return
	}
	Secure(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		name, err := os.Hostname()
		if err != nil {
			name = ""
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Vary", "Accept")
		w.WriteHeader(http.StatusForbidden)
		_ = doubts.Execute(w, struct { // the client may have gone
			Head
			Sentence, Target, Link string
			Minutes                int
		}{Head{Title: "Is it you?", Name: name}, sentence, targetOf(r), marked(r, time.Now()), int(markLife.Minutes())})
	})).ServeHTTP(w, r)
}

var doubts = template.Must(Frame(template.New("doubt")).Parse(`{{template "begin" .Head}}
<section class="card" aria-labelledby="h-doubt"><h1 id="h-doubt">Is it you who asks?</h1>
<p>{{.Sentence}} Over plain HTTP browsers do not say whether somebody has typed an address or a page has named it.
This link says that it is you, for {{.Minutes}} minutes, and is of no use to anybody elsewhere. Programs such as curl are not asked.</p>
<p><a class="button" href="{{.Link}}">Yes, go on</a></p>
<p class="quiet small">to <code>{{.Target}}</code></p>
</section></main>
{{template "end"}}`))
