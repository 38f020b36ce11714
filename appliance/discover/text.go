package discover

import (
	"encoding/hex"
	"strings"

	"kdht/router"
)

// Text is what the TXT record of a node says.
type Text struct {
	Network  string       // "public" or "private"
	Name     string       // of the network
	ID       [2]router.ID // by router.Family; the zero ID where it has none
	Version  string       // of the program
	Families string       // "4", "6" or "4,6"
}

// Keys of the TXT record. The first must come first (RFC 6763, section 6.7).
const (
	keyFormat   = "txtvers"
	keyNetwork  = "network"
	keyName     = "name"
	keyID4      = "id4"
	keyID6      = "id6"
	keyVersion  = "version"
	keyFamilies = "families"

	textFormat   = "1"
	maxTextValue = 64 // bytes of a value that is kept
)

// strings returns the strings of the record.
func (t *Text) strings() []string {
	all := []string{keyFormat + "=" + textFormat, keyNetwork + "=" + t.Network, keyName + "=" + t.Name}
	for f, key := range []string{keyID4, keyID6} {
		if !t.ID[f].IsZero() {
			all = append(all, key+"="+t.ID[f].String())
		}
	}
	return append(all, keyFamilies+"="+t.Families, keyVersion+"="+printable(t.Version, maxTextValue))
}

// parseText reads the strings of a record. What is not understood is left out; ok is false for another format.
func parseText(all []string) (t Text, ok bool) {
	seen := make(map[string]bool)
	for _, s := range all {
		key, value, _ := strings.Cut(s, "=")
		key = strings.ToLower(key)
		if seen[key] { // the first counts (RFC 6763, section 6.4)
			continue
		}
		seen[key] = true
		switch key {
		case keyFormat:
			ok = value == textFormat
		case keyNetwork:
			t.Network = value
		case keyName:
			t.Name = value
		case keyID4:
			t.ID[router.IPv4] = parseID(value)
		case keyID6:
			t.ID[router.IPv6] = parseID(value)
		case keyVersion:
			t.Version = printable(value, maxTextValue)
		case keyFamilies:
			t.Families = printable(value, maxTextValue)
		}
	}
	return t, ok
}

func parseID(s string) (id router.ID) {
	if b, err := hex.DecodeString(s); err == nil && len(b) == len(id) {
		copy(id[:], b)
	}
	return id
}
