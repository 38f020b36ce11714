package fleet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"kdht/bpf/netns"
)

const (
	wireName = "wire"
	// What the hub forwards goes to the wire by this routing table, unless it comes from there or has to do with a
	// near host.
	wireTable = "100"
	// Like the other interfaces (netns.End), the wire hands small frames on in buffers with room behind them.
	wirePad, wirePadUpTo = 512, 700
	// wireRoom is how many packets may be on their way. What exceeds it is lost.
	wireRoom = 1 << 16
)

// Link is what happens to a packet on its way from one host to another.
type Link struct {
	Delay time.Duration // one way
	Loss  float64       // share of the packets that are lost, 0 to 1
}

// wire delays and loses packets. The hub routes what it forwards through a TAP interface, and a thread of this process takes
// it there and gives it back when it is due. This needs no scheduler of the kernel (netem), and works for frames that XDP
// programs have sent, which pass no queueing discipline of their own side.
type wire struct {
	hub  *netns.NS
	tap  int
	stop [2]int // a pipe: closing its end ends the thread
	done chan struct{}

	delay atomic.Int64
	loss  atomic.Uint64 // of 2^32
	taken atomic.Pointer[func(packet []byte)]
	err   error // of the thread, valid after done
}

// SetLink makes all links between hosts like that from now on, except those of near hosts. The zero Link is the plain network, in
// which nothing passes through this process.
func (n *Network) SetLink(l Link) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l == (Link{}) {
		return n.bypass(true)
	}
	if n.wire == nil {
		w, err := newWire(n.hub)
		if err != nil {
			return err
		}
		n.wire = w
	}
	n.wire.delay.Store(int64(l.Delay))
	n.wire.loss.Store(uint64(l.Loss * (1 << 32)))
	return n.bypass(false)
}

// Observe has f called with every packet, from its IP header on, that passes while the link is not plain. f is called by one
// goroutine, must be quick, and must not keep the packet.
func (n *Network) Observe(f func(packet []byte)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wire == nil {
		w, err := newWire(n.hub)
		if err != nil {
			return err
		}
		n.wire = w
	}
	n.wire.taken.Store(&f)
	return nil
}

// bypass makes the hub forward directly, or through the wire. The caller holds the lock.
func (n *Network) bypass(direct bool) error {
	if n.wire == nil || n.direct == direct {
		return nil
	}
	verb := "add"
	if direct {
		verb = "del"
	}
	for _, family := range []string{"-4", "-6"} {
		if err := n.hub.IP(family, "rule", verb, "pref", "30", "lookup", wireTable); err != nil {
			return err
		}
	}
	n.direct = direct
	return nil
}

// Near makes a host a neighbour of all others, whose packets from and to it pass no [Link].
func (n *Network) Near(h *Host) error {
	for _, rule := range []string{"from", "to"} {
		for _, a := range []netip.Addr{h.IPv4, h.IPv6} {
			family := "-4"
			if a.Is6() {
				family = "-6"
			}
			if err := n.hub.IP(family, "rule", "add", "pref", "20", rule, a.String(), "lookup", "main"); err != nil {
				return err
			}
		}
	}
	return nil
}

// newWire makes the interface, the routes to it, and the thread.
func newWire(hub *netns.NS) (w *wire, err error) {
	w = &wire{hub: hub, tap: -1, stop: [2]int{-1, -1}, done: make(chan struct{})}
	defer func() {
		if err != nil {
			w.closeFiles()
			w = nil
		}
	}()
	if err := unix.Pipe2(w.stop[:], unix.O_CLOEXEC); err != nil {
		return w, fmt.Errorf("fleet: wire: %w", err)
	}
	// An interface belongs to the namespace of the thread that makes it.
	err = hub.Do(func() (err error) {
		if w.tap, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("fleet: wire: /dev/net/tun: %w", err)
		}
		req, err := unix.NewIfreq(wireName)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(w.tap, unix.TUNSETIFF, req); err != nil {
			return fmt.Errorf("fleet: wire: TUNSETIFF: %w", err)
		}
		return nil
	})
	if err != nil {
		return w, err
	}
	// Without ARP every frame is addressed to the interface's own link address, so that the hub takes it when it comes back
	// as it is.
	err = hub.Batch("link set " + wireName + " arp off txqueuelen 10000 up")
	for family, gateway := range map[string]string{"-4": "198.18.0.1", "-6": "fe80::1"} {
		for _, args := range [][]string{
			{"rule", "add", "pref", "10", "iif", wireName, "lookup", "main"},
			{"rule", "add", "pref", "11", "iif", "lo", "lookup", "main"}, // from this process: DialContext
			{"route", "add", "default", "via", gateway, "dev", wireName, "onlink", "table", wireTable},
		} {
			if err == nil {
				err = hub.IP(append([]string{family}, args...)...)
			}
		}
	}
	if err == nil {
		err = netns.AttachPass(hub, wireName) // for the room behind packets
	}
	if err != nil {
		return w, err
	}
	go w.run()
	return w, nil
}

// close ends the thread and removes the interface.
func (w *wire) close() error {
	_ = unix.Close(w.stop[1]) // the pipe is ours
	w.stop[1] = -1
	<-w.done
	w.closeFiles()
	return w.err
}

func (w *wire) closeFiles() {
	for _, fd := range []int{w.tap, w.stop[0], w.stop[1]} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// frame is one that is on its way.
type frame struct {
	due  time.Time
	data []byte
}

// run carries frames until the pipe is closed. All are delayed alike, so they leave in the order in which they came. It has a
// thread of its own, whose waits end to the microsecond; the runtime's timers do not. Before all other work of a busy machine, as a
// link would: else hosts that compete for the CPUs would seem further away. The thread ends with this.
func (w *wire) run() {
	runtime.LockOSThread()
	defer close(w.done)
	// Where that is not allowed the wire works all the same.
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}, 0)
	var queue []frame
	var free [][]byte
	buf := make([]byte, 1<<16)
	pad := make([]byte, wirePad)
	random := rand.NewPCG(1, 2)
	fds := []unix.PollFd{{Fd: int32(w.tap), Events: unix.POLLIN}, {Fd: int32(w.stop[0])}}
	for {
		var wait *unix.Timespec
		if len(queue) > 0 {
			t := unix.NsecToTimespec(max(0, time.Until(queue[0].due).Nanoseconds()))
			wait = &t
		}
		if _, err := unix.Ppoll(fds, wait, nil); err != nil && !errors.Is(err, unix.EINTR) {
			w.err = os.NewSyscallError("ppoll", err)
			return
		}
		if fds[1].Revents != 0 {
			return
		}
		now, delay, loss := time.Now(), time.Duration(w.delay.Load()), w.loss.Load()
		for fds[0].Revents != 0 {
			n, err := unix.Read(w.tap, buf)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				w.err = os.NewSyscallError("read from the wire", err)
				return
			}
			if f := w.taken.Load(); f != nil && n > etherLen {
				(*f)(buf[etherLen:n])
			}
			if random.Uint64()>>32 < loss || len(queue) >= wireRoom {
				continue
			}
			if delay == 0 && len(queue) == 0 {
				w.deliver(buf[:n], pad)
				continue
			}
			var b []byte
			if l := len(free); l > 0 {
				b, free = free[l-1][:0], free[:l-1]
			}
			queue = append(queue, frame{now.Add(delay), append(b, buf[:n]...)})
		}
		now = time.Now()
		sent := 0
		for sent < len(queue) && !queue[sent].due.After(now) {
			w.deliver(queue[sent].data, pad)
			free = append(free, queue[sent].data)
			sent++
		}
		queue = append(queue[:0], queue[sent:]...)
	}
}

const etherLen = 14

// deliver gives a frame back to the hub, which may drop it like any other.
func (w *wire) deliver(b, pad []byte) {
	if len(b) > wirePadUpTo {
		pad = nil
	}
	_, _ = unix.Writev(w.tap, [][]byte{b, pad})
}
