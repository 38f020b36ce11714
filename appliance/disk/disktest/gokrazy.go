package disktest

import (
	"embed"
	"io"
	"testing"
)

// What the tables in testdata say, in bytes.
const (
	ImageSize = 1258299392                     // of the disk that the tables were written for
	PermStart = (8192 + 1100*2048) * 512       // of partition 4
	PermSize  = ImageSize - 34*512 - PermStart // of partition 4 in the GPT
	PermMBR   = ImageSize - PermStart          // of partition 4 in the MBR
)

//go:embed testdata
var testdata embed.FS

// WriteGPT writes gokrazy's GPT and hybrid MBR for a disk of [ImageSize].
func WriteGPT(t testing.TB, w io.WriterAt) {
	t.Helper()
	tail := read(t, "gpt.tail")
	write(t, w, read(t, "gpt.head"), 0)
	write(t, w, tail[:512], ImageSize-33*512)
	write(t, w, tail[512:], ImageSize-512)
}

// WriteMBR writes gokrazy's plain MBR for a disk of [ImageSize].
func WriteMBR(t testing.TB, w io.WriterAt) {
	t.Helper()
	write(t, w, read(t, "mbr.head"), 0)
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := testdata.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, w io.WriterAt, b []byte, off int64) {
	t.Helper()
	if _, err := w.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}
