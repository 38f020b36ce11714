package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// printJSON prints one JSON document on one line.
func (s *system) printJSON(x any) error {
	enc := json.NewEncoder(s.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(x)
}

// printable says whether bytes can be shown as text: UTF-8 without control characters other than blanks and line ends.
func printable(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' {
			return false
		}
	}
	return true
}

// hexDump gives bytes as hexadecimal digits.
func hexDump(b []byte) string { return hex.EncodeToString(b) }

// printLines prints lines on standard output.
func (s *system) printLines(lines []string) error {
	for _, l := range lines {
		if _, err := fmt.Fprintln(s.stdout, l); err != nil {
			return err
		}
	}
	return nil
}
