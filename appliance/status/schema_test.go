package status_test

import (
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"kdht/appliance/health"
	"kdht/appliance/history"
	"kdht/appliance/status"
)

var update = flag.Bool("update", false, "write the schemas")

// The schemas are those of the types, with their comments.
func TestSchemas(t *testing.T) {
	for name, c := range map[string]struct {
		of    reflect.Type
		title string
	}{
		"status":  {reflect.TypeFor[status.Report](), "The state of a KDHT node at one moment: /status"},
		"history": {reflect.TypeFor[history.History](), "What a KDHT node did over the last minutes and the last day: /history"},
	} {
		t.Run(name, func(t *testing.T) {
			s := schemaOf(t, c.of)
			s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", c.title
			want, err := json.MarshalIndent(s, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, '\n')
			path := filepath.Join("schema", name+".json")
			if *update {
				if err := os.WriteFile(path, want, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			w := get(t, full(), "/schema/"+name+".json", "")
			if w.Code != 200 || w.Header().Get("Content-Type") != "application/schema+json" {
				t.Fatalf("%d, %v", w.Code, w.Header())
			}
			if diff := cmp.Diff(string(want), w.Body.String()); diff != "" {
				t.Errorf("%s is not that of the types, run 'go generate ./appliance/status' (-want, +got):\n%s", path, diff)
			}
		})
	}
}

// What is served is as the schemas say, whether there is everything or nothing, and what is not is told apart.
func TestDocumentsFollowTheirSchemas(t *testing.T) {
	for path, of := range map[string]string{"/status?format=json": "/schema/status.json", "/history": "/schema/history.json"} {
		var s jsonschema.Schema
		if err := json.Unmarshal(get(t, full(), of, "").Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		r, err := s.Resolve(nil)
		if err != nil {
			t.Fatal(err)
		}
		empty := status.Report{Health: health.Tree{State: health.Good}}
		for name, report := range map[string]status.Report{"full": full(), "empty": empty} {
			var doc map[string]any
			if err := json.Unmarshal(get(t, report, path, "").Body.Bytes(), &doc); err != nil {
				t.Fatal(err)
			}
			if err := r.Validate(doc); err != nil {
				t.Errorf("%s, %s: %v", path, name, err)
			}
			doc["unknown"] = 1
			if r.Validate(doc) == nil {
				t.Errorf("%s, %s: a member that the schema does not know is well", path, name)
			}
		}
	}
}

// schemaOf makes the schema of a type.
func schemaOf(t *testing.T, of reflect.Type) *jsonschema.Schema {
	t.Helper()
	text := func(format string) *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Format: format} }
	states := text("")
	for _, s := range health.States {
		states.Enum = append(states.Enum, string(s))
	}
	s, err := jsonschema.ForType(of, &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[time.Time]():      text("date-time"),
		reflect.TypeFor[netip.Addr]():     text(""),
		reflect.TypeFor[netip.AddrPort](): text(""),
		reflect.TypeFor[netip.Prefix]():   text(""),
		reflect.TypeFor[health.State]():   states,
		reflect.TypeFor[history.Value]():  {Types: []string{"number", "null"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	finish(s, of, comments(t))
	return s
}

// finish adds what comments say, and takes away that lists and what is left out might be null, which they never are.
func finish(s *jsonschema.Schema, of reflect.Type, comments map[string]string) {
	if len(s.Types) == 2 && s.Types[0] == "null" {
		s.Type, s.Types = s.Types[1], nil
	}
	switch of.Kind() {
	case reflect.Pointer:
		finish(s, of.Elem(), comments)
	case reflect.Slice:
		finish(s.Items, of.Elem(), comments)
	case reflect.Struct:
		if s.Properties == nil {
			return
		}
		for i := range of.NumField() {
			f := of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if p := s.Properties[name]; p != nil {
				p.Description = comments[of.Name()+"."+f.Name]
				finish(p, f.Type, comments)
			}
		}
	}
}

// comments are those of the fields of types, as "Type.Field".
func comments(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, dir := range []string{".", "../health", "../history"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				if s, ok := spec.Type.(*ast.StructType); ok {
					for _, field := range s.Fields.List {
						for _, name := range field.Names {
							text := strings.TrimSpace(field.Doc.Text() + field.Comment.Text())
							all[spec.Name.Name+"."+name.Name] = strings.ReplaceAll(text, "\n", " ")
						}
					}
				}
				return false
			})
		}
	}
	return all
}
