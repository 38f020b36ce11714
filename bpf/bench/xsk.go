package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes of an AF_XDP socket, in entries and bytes.
const (
	frameSize  = 2048
	ringSize   = 1024
	frameCount = 2 * ringSize // the first half is for sending, the second for receiving
)

// xsk is an AF_XDP socket in copy mode on queue 0 of an interface
// (Documentation/networking/af_xdp.rst). It is for one thread.
type xsk struct {
	fd         int
	umem       []byte
	fill, comp ring[uint64]
	rx, tx     ring[unix.XDPDesc]
	maps       [][]byte
}

// ring is one of the four rings shared with the kernel.
type ring[T any] struct {
	producer, consumer, flags *uint32
	entries                   []T
}

// openXSK opens a socket in the network namespace of the calling thread.
func openXSK(ifindex int) (_ *xsk, err error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("AF_XDP socket: %w", err)
	}
	s := &xsk{fd: fd}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.umem, err = unix.Mmap(-1, 0, frameCount*frameSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("UMEM: %w", err)
	}
	reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&s.umem[0]))), Len: uint64(len(s.umem)), Size: frameSize}
	if err := setsockopt(fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg)); err != nil {
		return nil, fmt.Errorf("register UMEM: %w", err)
	}
	for _, opt := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING, unix.XDP_TX_RING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_XDP, opt, ringSize); err != nil {
			return nil, fmt.Errorf("size of ring %d: %w", opt, err)
		}
	}
	var off unix.XDPMmapOffsets
	size := unsafe.Sizeof(off)
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_MMAP_OFFSETS,
		uintptr(unsafe.Pointer(&off)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		return nil, fmt.Errorf("ring offsets: %w", errno)
	}
	if s.fill, err = mapRing[uint64](s, off.Fr, unix.XDP_UMEM_PGOFF_FILL_RING); err != nil {
		return nil, err
	}
	if s.comp, err = mapRing[uint64](s, off.Cr, unix.XDP_UMEM_PGOFF_COMPLETION_RING); err != nil {
		return nil, err
	}
	if s.rx, err = mapRing[unix.XDPDesc](s, off.Rx, unix.XDP_PGOFF_RX_RING); err != nil {
		return nil, err
	}
	if s.tx, err = mapRing[unix.XDPDesc](s, off.Tx, unix.XDP_PGOFF_TX_RING); err != nil {
		return nil, err
	}
	for i := range uint32(ringSize) {
		s.fill.entries[i] = uint64(ringSize+i) * frameSize
	}
	atomic.StoreUint32(s.fill.producer, ringSize)
	addr := &unix.SockaddrXDP{Flags: unix.XDP_COPY | unix.XDP_USE_NEED_WAKEUP, Ifindex: uint32(ifindex)}
	if err := unix.Bind(fd, addr); err != nil {
		return nil, fmt.Errorf("bind AF_XDP socket: %w", err)
	}
	return s, nil
}

func setsockopt(fd, opt int, p unsafe.Pointer, n uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt), uintptr(p), n, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func mapRing[T any](s *xsk, off unix.XDPRingOffset, page int64) (ring[T], error) {
	var entry T
	mem, err := unix.Mmap(s.fd, page, int(off.Desc)+ringSize*int(unsafe.Sizeof(entry)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return ring[T]{}, fmt.Errorf("map ring: %w", err)
	}
	s.maps = append(s.maps, mem)
	word := func(at uint64) *uint32 { return (*uint32)(unsafe.Pointer(&mem[at])) }
	return ring[T]{
		producer: word(off.Producer), consumer: word(off.Consumer), flags: word(off.Flags),
		entries: unsafe.Slice((*T)(unsafe.Pointer(&mem[off.Desc])), ringSize),
	}, nil
}

// frame is one of the frames for sending, 0 to ringSize-1.
func (s *xsk) frame(i int) []byte { return s.umem[i*frameSize:][:frameSize] }

// queue puts a frame for sending on its ring; kick makes the kernel look.
func (s *xsk) queue(i, n int) {
	p := *s.tx.producer
	s.tx.entries[p%ringSize] = unix.XDPDesc{Addr: uint64(i) * frameSize, Len: uint32(n)}
	atomic.StoreUint32(s.tx.producer, p+1)
}

// kick has the kernel send what is queued, at most a batch of it at a time.
func (s *xsk) kick() error {
	for s.pending() > 0 {
		_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
		s.reap()
		switch errno {
		case 0:
		case unix.EAGAIN, unix.EBUSY, unix.ENOBUFS:
			return nil // the next call goes on
		default:
			return fmt.Errorf("send: %w", errno)
		}
	}
	return nil
}

// pending is how many frames are queued and not sent yet.
func (s *xsk) pending() int { return int(*s.tx.producer - atomic.LoadUint32(s.tx.consumer)) }

// reap takes back frames that were sent.
func (s *xsk) reap() { atomic.StoreUint32(s.comp.consumer, atomic.LoadUint32(s.comp.producer)) }

// receive calls f with every frame that has arrived and gives the frames back, and returns their number.
func (s *xsk) receive(f func([]byte)) int {
	first, last := *s.rx.consumer, atomic.LoadUint32(s.rx.producer)
	fill := *s.fill.producer
	for i := first; i != last; i++ {
		d := s.rx.entries[i%ringSize]
		f(s.umem[d.Addr:][:d.Len])
		s.fill.entries[fill%ringSize] = d.Addr &^ (frameSize - 1)
		fill++
	}
	atomic.StoreUint32(s.rx.consumer, last)
	atomic.StoreUint32(s.fill.producer, fill)
	return int(last - first)
}

// wait blocks until a frame has arrived or the time is over.
func (s *xsk) wait(d time.Duration) {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	_, _ = unix.Poll(fds, int(d.Milliseconds())) // an interrupted wait is a short one
}

func (s *xsk) close() error {
	var errs []error
	for _, m := range s.maps {
		errs = append(errs, unix.Munmap(m))
	}
	if s.umem != nil {
		errs = append(errs, unix.Munmap(s.umem))
	}
	return errors.Join(append(errs, unix.Close(s.fd))...)
}
