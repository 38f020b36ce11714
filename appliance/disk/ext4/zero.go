package ext4

import "io"

// zero makes n bytes from off on read as zeros.
func zero(w io.WriterAt, off, n int64) error {
	if ok, err := zeroFast(w, off, n); ok {
		return err
	}
	b := make([]byte, min(n, 1<<20))
	for n > 0 {
		b = b[:min(n, int64(len(b)))]
		if _, err := w.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
		n -= int64(len(b))
	}
	return nil
}
