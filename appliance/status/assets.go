package status

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// assets are what pages load, by path. The path has a hash of the content, so it may be kept for ever.
var assets, assetPaths = loadAssets("style.css", "live.js", "icon.svg")

type asset struct {
	typ  string
	body []byte
}

func loadAssets(names ...string) (map[string]asset, map[string]string) {
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	all, paths := make(map[string]asset), make(map[string]string)
	for _, name := range names {
		b, err := assetFiles.ReadFile("assets/" + name)
		if err != nil {
			panic(err) // it is part of the program
		}
		sum := sha256.Sum256(b)
		stem, ext, _ := strings.Cut(name, ".")
		path := "/assets/" + stem + "-" + hex.EncodeToString(sum[:6]) + "." + ext
		all[path], paths[name] = asset{types["."+ext], b}, path
	}
	return all, paths
}

// serveAsset serves what pages load.
func serveAsset(w http.ResponseWriter, r *http.Request) {
	a, ok := assets[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.typ)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(a.body) // the client has gone
}

// Frame adds the templates that all pages are made in: "begin", with a [Head], and "end".
func Frame(t *template.Template) *template.Template {
	t.Funcs(template.FuncMap{"asset": func(name string) string { return assetPaths[name] }})
	return template.Must(t.ParseFS(pageFiles, "pages/frame.html"))
}

// Head is what "begin" needs.
type Head struct {
	Title string // of the page; empty for the status page
	Name  string // of the box
	Here  string // path of the page
	Tools bool   // there are /lookup and /decode
	Live  bool   // the page has parts that change
}
