package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
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
		n.scalar = strings.Map(func(r rune) rune { // a terminal must not take orders from a node
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, t)
	default:
		n.scalar = fmt.Sprint(t)
	}
	return n, nil
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

// table says whether n is a list of objects with the same flat members.
func (n *node) table() bool {
	if !n.list || len(n.values) == 0 {
		return false
	}
	for _, row := range n.values {
		if !row.object || len(row.keys) == 0 || strings.Join(row.keys, "\n") != strings.Join(n.values[0].keys, "\n") {
			return false
		}
		for _, cell := range row.values {
			if !cell.flat() {
				return false
			}
		}
	}
	return true
}

// rows is what a table shows: of counters, those that have counted something.
func (n *node) rows() []*node {
	first := n.values[0]
	if k := first.keys[len(first.keys)-1]; k != "value" && k != "packets" {
		return n.values
	}
	var out []*node
	for _, row := range n.values {
		if row.values[len(row.values)-1].scalar != "0" {
			out = append(out, row)
		}
	}
	return out
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
	case n.table():
		p("%s%s\n", indent, strings.Join(n.values[0].keys, "\t"))
		for _, row := range n.rows() {
			cells := make([]string, len(row.values))
			for i, c := range row.values {
				cells[i] = c.text()
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
			} else {
				p("%s%s:\n", indent, k)
				v.print(w, indent+"  ")
			}
		}
	}
}
