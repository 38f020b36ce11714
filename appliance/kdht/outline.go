package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
)

// node is a JSON value that remembers the order of its members.
type node struct {
	keys   []string
	values []*node // members or elements
	object bool
	list   bool
	scalar string
}

// outline prints a JSON document for people: one member per line, objects indented, lists of flat objects as tables,
// without the counters that are zero.
func outline(doc []byte) (string, error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	n, err := readNode(d)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	n.print(w, "")
	if err := w.Flush(); err != nil {
		return "", err
	}
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n"), nil
}

func readNode(d *json.Decoder) (*node, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	n := &node{}
	switch t := t.(type) {
	case json.Delim:
		n.object, n.list = t == '{', t == '['
		for d.More() {
			if n.object {
				k, err := d.Token()
				if err != nil {
					return nil, err
				}
				n.keys = append(n.keys, fmt.Sprint(k))
			}
			v, err := readNode(d)
			if err != nil {
				return nil, err
			}
			n.values = append(n.values, v)
		}
		_, err = d.Token() // the closing delimiter
		return n, err
	case nil:
		n.scalar = "-"
	case string:
		n.scalar = plain(t)
	default:
		n.scalar = fmt.Sprint(t)
	}
	return n, nil
}

// plain gives a text without control characters: a terminal must not take orders from a node.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// flat says whether a value fits on a line: a scalar, or a list of scalars.
func (n *node) flat() bool {
	if n.object {
		return len(n.values) == 0
	}
	for _, v := range n.values {
		if v.object || v.list {
			return false
		}
	}
	return true
}

// widest bounds a cell of a table, in bytes: longer texts, which wrap, read better below one another.
const widest = 48

// table gives the heading of a list of objects whose members are flat and short: the members of the first row that has
// most of them, which may be missing in others. nil if n is no such list.
func (n *node) table() (heading []string) {
	if !n.list {
		return nil
	}
	for _, row := range n.values {
		if len(row.keys) > len(heading) {
			heading = row.keys
		}
	}
	for _, row := range n.values {
		if !row.object || len(row.keys) == 0 {
			return nil
		}
		for i, cell := range row.values {
			if !cell.flat() || len(cell.text()) > widest || !slices.Contains(heading, row.keys[i]) {
				return nil
			}
		}
	}
	return heading
}

// rows is what a table with this heading shows: of counters, those that have counted something.
func (n *node) rows(heading []string) []*node {
	last := heading[len(heading)-1]
	if !slices.Contains([]string{"value", "packets", "count"}, last) {
		return n.values
	}
	var out []*node
	for _, row := range n.values {
		if row.cell(last) != "0" {
			out = append(out, row)
		}
	}
	return out
}

// cell is a flat member of an object on one line, empty if there is none.
func (n *node) cell(key string) string {
	if i := slices.Index(n.keys, key); i >= 0 {
		return n.values[i].text()
	}
	return ""
}

// text is a flat value on one line.
func (n *node) text() string {
	if !n.list && !n.object {
		return n.scalar
	}
	if len(n.values) == 0 {
		return "none"
	}
	words := make([]string, len(n.values))
	for i, v := range n.values {
		words[i] = v.scalar
	}
	return strings.Join(words, ", ")
}

// print prints a value whose heading is already there.
func (n *node) print(w io.Writer, indent string) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) } // Flush has the error
	switch {
	case n.flat():
		p("%s%s\n", indent, n.text())
	case n.table() != nil:
		heading := n.table()
		rows := n.rows(heading)
		if len(rows) == 0 {
			p("%sall 0\n", indent)
			break
		}
		p("%s%s\n", indent, strings.Join(heading, "\t"))
		for _, row := range rows {
			cells := make([]string, len(heading))
			for i, k := range heading {
				cells[i] = row.cell(k)
			}
			p("%s%s\n", indent, strings.Join(cells, "\t"))
		}
	case n.list:
		for i, v := range n.values {
			p("%s%d:\n", indent, i+1)
			v.print(w, indent+"  ")
		}
	default:
		for i, k := range n.keys {
			if v := n.values[i]; v.flat() {
				p("%s%s:\t%s\n", indent, k, withUnit(k, v.text()))
			} else if k != "buckets" { // of which there are a hundred, and their sums are in "levels"
				p("%s%s:\n", indent, k)
				v.print(w, indent+"  ")
			}
		}
	}
}
