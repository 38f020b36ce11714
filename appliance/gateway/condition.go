package gateway

import (
	"math"
	"net/http"
	"strconv"
	"strings"

	"kdht/router"
)

// form is how an item is shown.
type form string

// The forms.
const (
	formRaw      form = ""         // the bytes of a byte string
	formJSON     form = "json"     // a document with everything about the item
	formBencoded form = "bencoded" // the value as it is signed or hashed
)

// etag is the entity tag of a version of a mutable item in a form.
func etag(seq int64, f form) string {
	s := strconv.FormatInt(seq, 10)
	if f != formRaw {
		s += "-" + string(f)
	}
	return `"` + s + `"`
}

// tags is the value of If-Match or If-None-Match (RFC 9110 section 13.1).
type tags struct {
	any  bool // "*"
	list []tag
}

type tag struct {
	seq  int64
	form form
	weak bool
	text string
}

// maxTags bounds the entity tags of one request.
const maxTags = 16

// parseTags reads entity tags. Those that are none of ours match nothing.
func parseTags(values []string) (tags, *Problem) {
	s := strings.TrimSpace(strings.Join(values, ","))
	if s == "*" {
		return tags{any: true}, nil
	}
	var t tags
	malformed := bad("entity-tag", `If-Match and If-None-Match have entity tags in double quotes, as in the ETag of an answer, or "*".`)
	for s != "" {
		x := tag{seq: -1}
		s, x.weak = strings.CutPrefix(s, "W/")
		rest, ok := strings.CutPrefix(s, `"`)
		text, after, closed := strings.Cut(rest, `"`)
		if !ok || !closed || len(t.list) == maxTags {
			return tags{}, malformed
		}
		x.text = text
		number, f, _ := strings.Cut(text, "-")
		if n, err := strconv.ParseInt(number, 10, 64); err == nil && n >= 0 && number == strconv.FormatInt(n, 10) {
			x.seq, x.form = n, form(f)
		}
		t.list = append(t.list, x)
		after = strings.TrimLeft(after, " \t")
		if after != "" && !strings.HasPrefix(after, ",") {
			return tags{}, malformed
		}
		s = strings.TrimLeft(after, ", \t")
	}
	return t, nil
}

func (t tags) none() bool { return !t.any && len(t.list) == 0 }

// condition is under which circumstances a request is to be carried out.
type condition struct{ match, noneMatch tags }

func conditionOf(r *http.Request) (c condition, p *Problem) {
	if c.match, p = parseTags(r.Header.Values("If-Match")); p != nil {
		return c, p
	}
	c.noneMatch, p = parseTags(r.Header.Values("If-None-Match"))
	return c, p
}

func (c condition) none() bool { return c.match.none() && c.noneMatch.none() }

// current reports whether the client has this version in this form already, so that it need not be sent again.
func (c condition) current(seq int64, f form) bool {
	if c.noneMatch.any {
		return true
	}
	for _, t := range c.noneMatch.list { // weak comparison
		if t.seq == seq && t.form == f {
			return true
		}
	}
	return false
}

// cas decides whether the version that is to replace another one, or none, may, and gives the sequence number that nodes are
// to compare too, nil if any will do.
func (c condition) cas(current *router.Item) (*int64, error) {
	failed := func(detail string) error {
		p := &Problem{Status: http.StatusPreconditionFailed, Code: "changed", Detail: detail}
		if current != nil {
			p.Seq = &current.Seq
		}
		return p
	}
	if !c.noneMatch.none() && current != nil {
		for _, t := range c.noneMatch.list {
			if t.seq == current.Seq {
				return nil, failed("It is there, with the entity tag that If-None-Match names.")
			}
		}
		if c.noneMatch.any {
			return nil, failed("It is there already, and If-None-Match: * asks that it not be.")
		}
	}
	if c.match.none() {
		return nil, nil
	}
	if current == nil {
		return nil, failed("It is not there, and If-Match asks that it be.")
	}
	if c.match.any {
		return &current.Seq, nil
	}
	for _, t := range c.match.list { // strong comparison
		if !t.weak && t.seq == current.Seq {
			return &current.Seq, nil
		}
	}
	return nil, failed("It has another entity tag than If-Match says: somebody has changed it. Get it again, decide, and put with its new entity tag.")
}

// next gives the sequence number that follows the present version: the time in microseconds, as pkarr has it, so that a newer
// version wins even where the present one was not found, unless that is from a clock that is ahead.
func next(current *router.Item, now int64) (int64, error) {
	seq := max(now, 1)
	if current == nil {
		return seq, nil
	}
	if current.Seq == math.MaxInt64 {
		return 0, &Problem{Status: http.StatusConflict, Code: "last", Detail: "The item has the highest sequence number there is, and can never be changed again. Use another salt or name."}
	}
	return max(seq, current.Seq+1), nil
}
