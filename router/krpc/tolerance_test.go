package krpc_test

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"kdht/router/krpc"
)

// The table in the package documentation is the specification: every case of the vectors is in it with an outcome and
// a reason, and Decode does what it says.
func TestToleranceTable(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ outcome, reason string }
	table := map[string]row{}
	for _, match := range regexp.MustCompile(`(?m)^//\t(.+?) {2,}(.+?) {2,}(.+)$`).FindAllStringSubmatch(string(doc), -1) {
		table[match[1]] = row{match[2], match[3]}
	}
	cases := theVectors(t).Tolerance.Cases
	if len(cases) != 50 || len(table) != len(cases) {
		t.Errorf("the table has %d rows, the vectors have %d cases; want 50", len(table), len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			row, ok := table[c.Name]
			if !ok {
				t.Fatal("not in the table")
			}
			var m krpc.Message
			if got := outcome(c.Hex, &m); got != row.outcome {
				t.Errorf("outcome %q, the table says %q because %q", got, row.outcome, row.reason)
			}
			if row.outcome == "silent" {
				return
			}
			tid := "aa"
			if strings.HasPrefix(c.Name, "tid len ") {
				_, rest, _ := bytes.Cut(c.Hex, []byte("1:t"))
				_, rest, _ = bytes.Cut(rest, []byte(":"))
				tid = strings.TrimSuffix(string(rest), "1:y1:qe")
			}
			if string(m.TID) != tid {
				t.Errorf("transaction ID %q, want %q", m.TID, tid)
			}
			want := map[string]krpc.Want{"want n6 only": krpc.WantN6}[c.Name]
			if m.Want != want {
				t.Errorf("want = %d, want %d", m.Want, want)
			}
		})
	}
}

// outcome says in the words of the table what is done with a query.
func outcome(b []byte, m *krpc.Message) string {
	err := krpc.Decode(b, m)
	if e, ok := errors.AsType[*krpc.Error](err); ok {
		return map[int]string{203: "error 203", 204: "error 204"}[e.Code]
	}
	switch {
	case errors.Is(err, krpc.ErrMalformed):
		return "silent"
	case err != nil:
		return err.Error()
	case m.Method == krpc.MethodUnknown && m.HasTarget:
		return "find_node"
	}
	return "answer"
}
