package store

import "golang.org/x/sys/unix"

// trim takes the file's pages out of the process's resident set. They stay in the page
// cache, so the next access costs a minor fault; but left alone, a store that was
// once read through would count as resident in full.
func (s *Store) trim() {
	db := s.db.Load()
	if db == nil {
		return
	}
	_ = s.submit(func(b *batch) error {
		// The writer is the only one who remaps.
		info, size := b.tx.DB().Info(), b.tx.Size()
		unix.Syscall(unix.SYS_MADVISE, info.Data, uintptr(size), unix.MADV_DONTNEED)
		return nil
	}, false)
}
