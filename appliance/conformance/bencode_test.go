package conformance_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// str is a bencoded string.
func str[T ~string | ~[]byte](s T) string { return strconv.Itoa(len(s)) + ":" + string(s) }

// num is a bencoded integer.
func num(n int64) string { return fmt.Sprintf("i%de", n) }

// query is a query that can be spoilt: arguments and top-level keys are bencoded already, right or wrong. Keys are sent
// in sorted order.
type query struct {
	args, top map[string]string
}

const asker = "abcdefghij0123456789" // node ID of all askers

// newQuery makes a well-formed query; args are keys and bencoded values in turn.
func newQuery(method string, args ...string) query {
	q := query{map[string]string{"id": str(asker)}, map[string]string{"q": str(method), "t": str("aa"), "y": str("q")}}
	for i := 0; i < len(args); i += 2 {
		q.args[args[i]] = args[i+1]
	}
	return q
}

// with returns the query with other arguments; an empty value removes the key.
func (q query) with(args ...string) query { return query{change(q.args, args), q.top} }

// withTop does so at the top level, where "a" may be replaced as well.
func (q query) withTop(keys ...string) query { return query{q.args, change(q.top, keys)} }

func change(old map[string]string, kv []string) map[string]string {
	m := make(map[string]string, len(old)+len(kv)/2)
	for k, v := range old {
		m[k] = v
	}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return m
}

func (q query) bytes() []byte {
	top := q.top
	if _, ok := top["a"]; !ok {
		top = change(top, []string{"a", dict(q.args)})
	}
	return []byte(dict(top))
}

func dict(m map[string]string) string {
	var keys []string
	for k, v := range m {
		if v != "" {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var b strings.Builder
	b.WriteByte('d')
	for _, k := range keys {
		b.WriteString(str(k) + m[k])
	}
	b.WriteByte('e')
	return b.String()
}
