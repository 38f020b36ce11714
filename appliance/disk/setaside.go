package disk

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"kdht/appliance/disk/ext4"
)

const (
	minFiles  = 32 << 20 // of a new file system, before it grows
	maxMemory = 64 << 20 // for files that lie where the tar stream goes
	maxHead   = 8 << 20  // of the old metadata that is kept for an expert
	maxCount  = 100_000  // files
)

// device is what a rescue works on: an exclusively opened partition, or an image in a test.
type device interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// save writes what can be read of the old file system, and the note, to the end of d. far is told how many bytes of all files were
// written.
func save(ctx context.Context, d device, size int64, reason string, far func(done, all int64)) (*note, error) {
	if size < 2*minFiles {
		return nil, fmt.Errorf("%d bytes are too few for a file system and a rescue", size)
	}
	n := &note{Label: "perm", Time: time.Now().UTC().Truncate(time.Second), Reason: reason}
	if s, err := ext4.ReadSuperblock(d, 0); err == nil && s.Label != "" {
		n.Label = s.Label
	}
	if _, err := rand.Read(n.UUID[:]); err != nil {
		return nil, err
	}
	n.UUID[6], n.UUID[8] = n.UUID[6]&0x0f|0x40, n.UUID[8]&0x3f|0x80
	files, lost, err := readable(ctx, d)
	if err != nil {
		return nil, err
	}
	for _, l := range lost {
		n.lose(l)
	}
	if err := n.pack(ctx, d, size, files, far); err != nil {
		return nil, err
	}
	if err := d.Sync(); err != nil {
		return nil, err
	}
	b, err := n.encode()
	if err != nil {
		return nil, err
	}
	if _, err := d.WriteAt(b, notePlace(size)); err != nil {
		return nil, err
	}
	return n, d.Sync()
}

func (n *note) lose(what string) {
	n.LostCount++
	if len(n.Lost) < maxLost {
		n.Lost = append(n.Lost, what)
	}
}

// readable lists what can still be read, small files first: identity and configuration
// come before the database, and all before what somebody else put there.
func readable(ctx context.Context, d device) (files []*ext4.File, lost []string, err error) {
	lost, err = ext4.Walk(ctx, d, func(f *ext4.File) error {
		if old, _ := path.Match("set-aside/*/metadata.img", f.Path); old {
			return nil // of an earlier rescue: the new one brings its own
		}
		if len(files) < maxCount {
			files = append(files, f)
		} else {
			lost = append(lost, "/"+f.Path)
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		lost = append(lost, "everything: "+err.Error())
	}
	slices.SortStableFunc(files, func(a, b *ext4.File) int { return cmp.Compare(a.Size, b.Size) })
	return files, lost, nil
}

// pack chooses what fits and writes the tar stream.
func (n *note) pack(ctx context.Context, d device, size int64, files []*ext4.File, far func(done, all int64)) error {
	const perFile = 4 << 10 // headers and padding
	end := notePlace(size)
	room := min(size/2, size-minFiles)
	head := min(maxHead, room/8)
	need := head + head/100 + 1<<20
	chosen := files[:0:0]
	for _, f := range files {
		cost := f.Size + f.Size/1000 + perFile // what does not compress grows a little
		if need+cost > room {
			n.lose("/" + f.Path + ": no room to save it")
			continue
		}
		need += cost
		chosen = append(chosen, f)
	}
	n.Start = (end - need) >> 20 << 20
	memory, err := n.lift(chosen, end)
	if err != nil {
		return err
	}
	s := newStream(d, n.Start, end)
	first := make([]byte, head)
	if _, err := d.ReadAt(first, 0); err != nil {
		n.lose("a copy of the metadata: " + err.Error())
		first = nil
	}
	buffered := bufio.NewWriterSize(s, 1<<20)
	zip, err := gzip.NewWriterLevel(buffered, gzip.BestSpeed)
	if err != nil {
		return err
	}
	w := tar.NewWriter(zip)
	m := &metered{far: far}
	for _, f := range chosen {
		m.all += f.Size
	}
	for _, f := range chosen {
		if err := ctx.Err(); err != nil {
			return err
		}
		contents, ok := memory[f]
		if !ok && f.Size > 0 && memory != nil && overlaps(f, n.Start, end) {
			continue // already counted as lost
		}
		if err := n.add(w, f, contents, m); err != nil {
			return err
		}
	}
	err = w.WriteHeader(&tar.Header{Name: n.folder() + "/metadata.img", Mode: 0o600, Size: int64(len(first)), ModTime: n.Time})
	if err == nil {
		_, err = w.Write(first)
	}
	if err := errors.Join(err, w.Close(), zip.Close(), buffered.Flush()); err != nil {
		return fmt.Errorf("save files: %w", err)
	}
	n.Length = s.at - n.Start
	copy(n.SHA256[:], s.hash.Sum(nil))
	return nil
}

// folder is where the new file system tells of the old one.
func (n *note) folder() string { return "set-aside/" + n.Time.Format("2006-01-02T15-04-05Z") }

func overlaps(f *ext4.File, from, to int64) (yes bool) {
	f.Used(func(a, b int64) { yes = yes || a < to && b > from })
	return yes
}

// lift reads the files that lie where the stream will go. What does not fit in memory is lost.
func (n *note) lift(files []*ext4.File, end int64) (map[*ext4.File][]byte, error) {
	memory := map[*ext4.File][]byte{}
	left := int64(maxMemory)
	for _, f := range files {
		if !overlaps(f, n.Start, end) {
			continue
		}
		if f.Size > left {
			n.lose("/" + f.Path + ": it lies where the rescue needs room")
			continue
		}
		b := make([]byte, f.Size)
		if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			n.lose("/" + f.Path + ": " + err.Error())
			continue
		}
		left -= f.Size
		memory[f] = b
	}
	return memory, nil
}

// add writes one file to the stream. One that cannot be read to its end keeps what could be, the
// rest being zeros, under another name.
func (n *note) add(w *tar.Writer, f *ext4.File, contents []byte, m *metered) error {
	h, err := tar.FileInfoHeader(info{f}, f.Link)
	if err != nil {
		return fmt.Errorf("save %s: %w", f.Path, err)
	}
	h.Name, h.Uid, h.Gid, h.Format = f.Path, f.UID, f.GID, tar.FormatPAX
	var r io.Reader = io.NewSectionReader(f, 0, f.Size)
	if contents != nil {
		r = bytes.NewReader(contents)
	} else if err := probe(f); err != nil {
		h.Name = n.folder() + "/partly/" + f.Path
		n.lose("/" + f.Path + ": " + err.Error())
		r = lenient{f}.reader()
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	m.r = r
	if _, err := io.Copy(w, m); err != nil {
		return err
	}
	n.Files++
	return nil
}
