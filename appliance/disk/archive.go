package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"
)

// Setting a file system aside must survive a power cut after any write, and there is
// only the one partition to write to. So what is saved of the old file system goes, as a
// compressed tar stream, to the end of the partition; a note in the last 4 KiB then
// vouches for it and says what comes next; the new file system leaves that end out; when the
// files are back and flushed, the note is erased and the file system grows over it.
//
//   - Before the note is written, the old file system is as it was, except for what lay at the
//     very end: files that lie there are read into memory first, or not saved.
//   - With the note, the next call begins to make the file system anew, unless its UUID is the
//     one in the note, and then puts the files back.

const (
	noteSize  = 4096
	noteMagic = "kdht set aside 1"
)

// A note is what the last 4 KiB of the partition say during a rescue.
type note struct {
	Start  int64             `json:"start"`  // of the tar stream, in bytes of the partition
	Length int64             `json:"length"` // of the tar stream
	SHA256 [sha256.Size]byte `json:"sha256"`
	UUID   [16]byte          `json:"uuid"`  // of the new file system
	Label  string            `json:"label"` // likewise
	Time   time.Time         `json:"time"`
	Reason string            `json:"reason"`
	Files  int               `json:"files"`
	Lost   []string          `json:"lost"`
	// LostCount counts the lost; not all of them are in Lost.
	LostCount int `json:"lost_count"`
}

var errNoNote = errors.New("no rescue was interrupted")

// encode gives the note's block: magic, length, JSON, CRC32 of all that.
func (n *note) encode() ([]byte, error) {
	for {
		text, err := json.Marshal(n)
		if err != nil {
			return nil, err
		}
		b := append([]byte(noteMagic), binary.LittleEndian.AppendUint32(nil, uint32(len(text)))...)
		b = append(b, text...)
		if len(b)+4 <= noteSize {
			b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
			return append(b, make([]byte, noteSize-len(b))...), nil
		}
		if len(n.Lost) == 0 {
			n.Reason = ""
		}
		n.Lost = n.Lost[:len(n.Lost)/2]
	}
}

// readNote reads the note of a partition of size bytes. The error is errNoNote if there is
// none, also if it is damaged or its stream is: then the rescue had not come so far, or
// nothing can be done about it any more.
func readNote(r io.ReaderAt, size int64) (*note, error) {
	b := make([]byte, noteSize)
	if _, err := r.ReadAt(b, notePlace(size)); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(b, []byte(noteMagic)) {
		return nil, errNoNote
	}
	const head = len(noteMagic) + 4
	length := int(binary.LittleEndian.Uint32(b[len(noteMagic):]))
	if length > noteSize-head-4 || binary.LittleEndian.Uint32(b[head+length:]) != crc32.ChecksumIEEE(b[:head+length]) {
		return nil, errNoNote
	}
	var n note
	if err := json.Unmarshal(b[head:head+length], &n); err != nil {
		return nil, errNoNote
	}
	if n.Start < minFiles || n.Length < 0 || n.Length > notePlace(size)-n.Start {
		return nil, errNoNote
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(r, n.Start, n.Length)); err != nil {
		return nil, fmt.Errorf("read what was saved: %w", err)
	}
	if !bytes.Equal(h.Sum(nil), n.SHA256[:]) {
		return nil, errNoNote
	}
	return &n, nil
}

// notePlace is where the note of a partition of size bytes is.
func notePlace(size int64) int64 { return size/noteSize*noteSize - noteSize }

// A stream writes to a span of a device, and sums.
type stream struct {
	w       io.WriterAt
	at, end int64
	hash    hash.Hash
}

var errNoRoom = errors.New("no more room for what is saved")

func newStream(w io.WriterAt, from, to int64) *stream {
	return &stream{w: w, at: from, end: to, hash: sha256.New()}
}

func (s *stream) Write(b []byte) (int, error) {
	if s.at+int64(len(b)) > s.end {
		return 0, errNoRoom
	}
	if _, err := s.w.WriteAt(b, s.at); err != nil {
		return 0, err
	}
	s.at += int64(len(b))
	return s.hash.Write(b)
}
