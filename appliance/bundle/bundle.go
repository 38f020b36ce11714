package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// partBytes bounds each file, in bytes. What is longer is cut, and the file errors.txt says so.
const partBytes = 8 << 20

// Part is one file of a bundle.
type Part struct {
	Name string
	// Gather writes the file. What it has written before an error is kept.
	Gather func(ctx context.Context, w io.Writer) error
}

// Write writes parts as a gzipped tar file, below a directory. What of them cannot be gathered is said in the last file of it,
// errors.txt. The secrets are not in it. The error is that of the writer, or of ctx.
func Write(ctx context.Context, w io.Writer, dir string, now time.Time, secrets Secrets, parts []Part) error {
	zip := gzip.NewWriter(w)
	out := tar.NewWriter(zip)
	var failed bytes.Buffer
	file := func(name string, text []byte) error {
		text = secrets.Remove(text)
		if err := out.WriteHeader(&tar.Header{Name: dir + "/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: now, Format: tar.FormatPAX}); err != nil {
			return err
		}
		_, err := out.Write(text)
		return err
	}
	for _, p := range parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		var part limited
		if err := gather(ctx, p, &part); err != nil {
			fmt.Fprintf(&failed, "%s: %v\n", p.Name, err)
		}
		if part.text.Len() == 0 {
			continue
		}
		if err := file(p.Name, part.text.Bytes()); err != nil {
			return err
		}
	}
	if failed.Len() > 0 {
		if err := file("errors.txt", failed.Bytes()); err != nil {
			return err
		}
	}
	return errors.Join(out.Close(), zip.Close())
}

// gather gathers one part. A node in trouble is what a bundle is for: a part that panics is not the end of the others.
func gather(ctx context.Context, p Part, w io.Writer) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return p.Gather(ctx, w)
}

var errLong = fmt.Errorf("it is longer than %d MiB and was cut", partBytes>>20)

// limited is a text that takes partBytes.
type limited struct{ text bytes.Buffer }

// Write implements [io.Writer].
func (l *limited) Write(b []byte) (int, error) {
	if room := partBytes - l.text.Len(); len(b) > room {
		n, _ := l.text.Write(b[:room]) // it never fails
		return n, errLong
	}
	return l.text.Write(b)
}
