package status

import (
	"embed"
	"net/http"
)

//go:generate go test -run TestSchemas -update .

// schemas describe /status and /history: JSON Schema, made from the types and their comments.
//
//go:embed schema/*.json
var schemas embed.FS

// serveSchema serves one of them.
func serveSchema(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		b, err := schemas.ReadFile("schema/" + name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError) // it is part of the program
			return
		}
		w.Header().Set("Content-Type", "application/schema+json")
		_, _ = w.Write(b) // the client has gone
	}
}
