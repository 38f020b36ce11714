package box

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"kdht/appliance/durable"
)

// errEarlier says that a configuration is none that anybody has put there since the one in use.
var errEarlier = errors.New("an earlier configuration")

// seenFile is the name of the record of [seen] in the state directory.
const seenFile = "boot-files.json"

// seen is what the configuration file on each boot file system was when it was looked at last there, as SHA-256 by
// [Layout.BootID]. A rollback to another kernel brings the file system of before back with what lay on it then, which is not new.
type seen struct {
	b    *Box
	id   string
	sums map[string]string
}

func (b *Box) readSeen() *seen {
	s := &seen{b: b, sums: make(map[string]string)}
	if b.layout.BootID != nil {
		s.id = b.layout.BootID()
	}
	text, err := os.ReadFile(filepath.Join(b.state, seenFile))
	if err == nil {
		err = json.Unmarshal(text, &s.sums)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.log.Warn("what was on the boot partition before is not known", "err", err)
	}
	return s
}

func sum(content []byte) string {
	h := sha256.Sum256(content)
	return hex.EncodeToString(h[:])
}

// has says whether the file was the same on this file system when it was looked at last.
func (s *seen) has(content []byte) bool { return s.id != "" && s.sums[s.id] == sum(content) }

// note notes what the file is now; nil: it is not there.
func (s *seen) note(content []byte) {
	if s.id == "" {
		return
	}
	next := maps.Clone(s.sums)
	if delete(next, s.id); content != nil {
		next[s.id] = sum(content)
	}
	if maps.Equal(next, s.sums) {
		return
	}
	text, err := json.Marshal(next)
	if err == nil {
		err = durable.Write(filepath.Join(s.b.state, seenFile), text, 0o600)
	}
	if err != nil { // then the file counts as new once more
		s.b.log.Warn("what is on the boot partition is not noted", "err", err)
	}
}
