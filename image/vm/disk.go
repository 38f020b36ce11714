package vm

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	sectorSize = 512
	// cacheSize is how much a disk caches of what was written and not flushed; then it writes all of it back.
	cacheSize = 64 << 20
)

// errCut means that the power has been cut.
var errCut = errors.New("power is off")

// Disk is a disk with a volatile write cache, as most are: what a machine wrote and did not flush may be lost when the
// power is cut, sector by sector, in any order. It outlives the machines that it is in; one at a time.
type Disk struct {
	file   *os.File
	size   int64
	listen *net.UnixListener

	mu     sync.Mutex
	cache  map[int64][]byte // by sector: written, not flushed
	cutAt  func(Write) bool
	cut    chan struct{} // closed when cutAt said so
	off    bool
	writes int

	recording *Recording
	tryBoot   bool // what ran from the disk last has asked the firmware to start with tryboot.txt
}

// Write is a command that changes a disk, or makes changes durable, as given to the function of [Disk.CutAt].
type Write struct {
	// N counts the commands since CutAt, from 0.
	N int
	// Flush is true for a flush, which has neither offset nor length, both in bytes.
	Flush          bool
	Offset, Length int64
}

// NewDisk makes a disk of size bytes in a new file, with the contents of an image at its beginning. The file is sparse: a
// big disk takes no more room than what is written to it.
func NewDisk(path, image string, size int64) (*Disk, error) {
	src, err := os.Open(image)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	info, err := src.Stat()
	if err == nil {
		err = errors.Join(f.Truncate(size), copySparse(f, src, info.Size()))
	}
	if err == nil && size < info.Size() {
		err = fmt.Errorf("the image has %d bytes, the disk %d", info.Size(), size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return newDisk(f, size)
}

// OpenDisk opens the file of a disk made before.
func OpenDisk(path string) (*Disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return newDisk(f, size)
}

func newDisk(f *os.File, size int64) (*Disk, error) {
	d := &Disk{file: f, size: size, cache: make(map[int64][]byte), cut: make(chan struct{})}
	dir, err := os.MkdirTemp("", "kdht-nbd-")
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	d.listen, err = net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "socket")})
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.RemoveAll(dir))
	}
	go func() {
		for {
			conn, err := d.listen.Accept()
			if err != nil {
				return
			}
			go func() { _ = serveNBD(conn, d) }() // the machine reports what it cannot read or write
		}
	}()
	return d, nil
}

// copySparse copies the parts of a file that are not zero.
func copySparse(dst io.WriterAt, src *os.File, size int64) error {
	buf, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		data, err := unix.Seek(int(src.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only a hole is left
			return nil
		}
		if err == nil {
			off = data / int64(len(buf)) * int64(len(buf))
		}
		n, err := src.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if slices.Equal(buf[:n], zero[:n]) {
			continue
		}
		if _, err := dst.WriteAt(buf[:n], off); err != nil {
			return err
		}
	}
	return nil
}

// drive is the disk in QEMU's words.
func (d *Disk) drive() string {
	return "driver=nbd,server.type=unix,server.path=" + d.listen.Addr().String()
}

// Size returns the size in bytes.
func (d *Disk) Size() int64 { return d.size }

// Close ends the use of the disk; its file stays.
func (d *Disk) Close() error {
	return errors.Join(d.listen.Close(), os.RemoveAll(filepath.Dir(d.listen.Addr().String())), d.file.Close())
}

// CutAt has the power cut when f says so of a command, before the command is carried out: it may be lost, too, like all that
// was not flushed. It may be called before or while a machine runs; nil ends it. The machine notices through [Disk.Cut].
func (d *Disk) CutAt(f func(Write) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutAt, d.writes = f, 0
}

// Cut returns a channel that is closed when the power has been cut by [Disk.CutAt].
func (d *Disk) Cut() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut
}

// powerOff applies a loss to the cache; no command is carried out any more until powerOn.
func (d *Disk) powerOff(loss Loss) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	sectors := make([]int64, 0, len(d.cache))
	for s := range d.cache {
		sectors = append(sectors, s)
	}
	slices.Sort(sectors)
	for _, s := range sectors {
		if !loss.keeps() {
			delete(d.cache, s)
		}
	}
	return d.writeBack()
}

func (d *Disk) setTryBoot() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tryBoot = true
}

// takeTryBoot tells whether it was asked for. It counts once.
func (d *Disk) takeTryBoot() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked := d.tryBoot
	d.tryBoot = false
	return asked
}

func (d *Disk) powerOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off, d.cut = false, make(chan struct{})
}

// Loss says what of the data that a machine wrote and did not flush is on the disk after a power cut.
type Loss struct{ rand *rand.Rand }

// LoseAll loses all that was not flushed.
func LoseAll() Loss { return Loss{} }

// LoseSome keeps each sector or not, by chance: the same seed makes the same choices.
func LoseSome(seed uint64) Loss { return Loss{rand.New(rand.NewPCG(seed, 0))} }

func (l Loss) keeps() bool { return l.rand != nil && l.rand.IntN(2) == 0 }
