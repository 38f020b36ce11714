package store

import (
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// trim takes the file's pages out of the process's resident set. They stay in the page
// cache, so the next access costs a minor fault; but left alone, a store that was
// once read through would count as resident in full. Only the writer, who alone
// remaps, may call it.
func trim(tx *bbolt.Tx) {
	// An error would say that the advice was not taken: no harm.
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, tx.DB().Info().Data, uintptr(tx.Size()), unix.MADV_DONTNEED)
}
