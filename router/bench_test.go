package router_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// benchServer makes the test binary a node to be measured.
const benchServer = "KDHT_BENCH_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(benchServer) != "" {
		if err := serveBenchmark(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveBenchmark runs a node with a full table, an item and peers, or a mere echo on the same kind of socket. It prints
// its address, and for each line that it reads the processor time that it has used itself and in system calls, in
// nanoseconds.
func serveBenchmark() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	conns, err := router.Listen(ctx, netip.MustParseAddrPort("127.15.0.1:0"))
	if err != nil {
		return err
	}
	if os.Getenv(benchServer) == "echo" {
		go echo(conns[0])
	} else {
		dir, err := os.MkdirTemp("", "kdht-bench")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		st, err := store.Open(filepath.Join(dir, "store.db"), store.Options{})
		if err != nil {
			return err
		}
		defer func() { _ = st.Close() }()
		if err := st.PutItem(&store.Item{Target: heldItem, V: benchValue}, nil, netip.Addr{}); err != nil {
			return err
		}
		for i := range 20 {
			if err := st.Announce(heldPeers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 6881), false, netip.Addr{}); err != nil {
				return err
			}
		}
		n, err := router.New(router.Config{Conns: conns, Private: true, Store: st})
		if err != nil {
			return err
		}
		n.FillTable(160)
		go func() { _ = n.Run(ctx) }()
	}
	fmt.Println(conns[0].LocalAddr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var r unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
			return err
		}
		fmt.Println(r.Utime.Nano(), r.Stime.Nano())
	}
	return nil
}

// What the node under measurement holds.
var (
	benchValue = []byte("100:" + strings.Repeat("x", 100))
	heldItem   = krpc.ImmutableTarget(benchValue)
	heldPeers  = router.ID{0xcc}
)

// echo sends everything back.
func echo(c router.Conn) {
	ps := make([]router.Packet, 64)
	for i := range ps {
		ps[i].Data = make([]byte, 2048)
	}
	for {
		n, err := c.ReadBatch(ps)
		if err != nil {
			return
		}
		if _, err := c.WriteBatch(ps[:n]); err != nil {
			return
		}
	}
}

// benchNode is a node in a process of its own.
type benchNode struct {
	b    *testing.B
	addr netip.AddrPort
	in   io.Writer
	out  *bufio.Scanner
}

func startBenchNode(b *testing.B, kind string) *benchNode {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchServer+"="+kind, "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	n := &benchNode{b: b, in: in, out: bufio.NewScanner(out)}
	n.addr = netip.MustParseAddrPort(n.line())
	return n
}

func (n *benchNode) line() string {
	n.b.Helper()
	if !n.out.Scan() {
		n.b.Fatal("the node has ended")
	}
	return strings.TrimSpace(n.out.Text())
}

// cpu returns the processor time that the node has used itself, and in system calls.
func (n *benchNode) cpu() (user, system float64) {
	n.b.Helper()
	if _, err := fmt.Fprintln(n.in); err != nil {
		n.b.Fatal(err)
	}
	if _, err := fmt.Sscan(n.line(), &user, &system); err != nil {
		n.b.Fatal(err)
	}
	return user, system
}

// BenchmarkServer measures the path of a query through user space: from a real socket, through the node, and back.
// At most 128 queries are without answer. The figure that counts is the node's processor time per answer, which
// includes what the loopback device makes the sender of a datagram do for its receiver. An echo on the same socket is
// what it would be if the node did nothing.
func BenchmarkServer(b *testing.B) {
	id := router.ID{0xaa}
	target := router.ID{0xbb}
	for _, c := range []struct {
		name, kind string
		m          krpc.Message
	}{
		{"echo", "echo", krpc.Message{Method: krpc.MethodPing}},
		{"ping", "node", krpc.Message{Method: krpc.MethodPing}},
		{"find_node", "node", krpc.Message{Method: krpc.MethodFindNode, Target: target, HasTarget: true}},
		{"get_peers_miss", "node", krpc.Message{Method: krpc.MethodGetPeers, InfoHash: target, HasInfoHash: true}},
		{"get_peers_hit", "node", krpc.Message{Method: krpc.MethodGetPeers, InfoHash: heldPeers, HasInfoHash: true}},
		{"get_miss", "node", krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true}},
		{"get_hit", "node", krpc.Message{Method: krpc.MethodGet, Target: heldItem, HasTarget: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			n, m := startBenchNode(b, c.kind), c.m
			m.Type, m.TID, m.ID, m.HasID = krpc.TypeQuery, []byte("aaaa"), id, true
			query, err := m.Append(nil)
			if err != nil {
				b.Fatal(err)
			}
			conns, err := router.Listen(b.Context(), netip.MustParseAddrPort("127.15.0.2:0"))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = conns[0].Close() }()
			user0, system0 := n.cpu()
			b.ResetTimer()
			flood(b, conns[0], n.addr, query, target[:])
			b.StopTimer()
			user, system := n.cpu()
			b.ReportMetric((user-user0+system-system0)/float64(b.N)/1000, "cpu-µs/answer")
			b.ReportMetric((user-user0)/float64(b.N)/1000, "user-µs/answer")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
		})
	}
}

// flood sends b.N queries, each for another target, in batches of at most 64 with at most 128 under way.
func flood(b *testing.B, c router.Conn, to netip.AddrPort, query, target []byte) {
	const window, batch = 128, 64
	at := strings.Index(string(query), string(target))
	var out, in []router.Packet
	for range window {
		out = append(out, router.Packet{Data: append([]byte(nil), query...), Addr: to})
		in = append(in, router.Packet{Data: make([]byte, 2048)})
	}
	sent, got := 0, 0
	for got < b.N {
		k := min(window-(sent-got), b.N-sent, batch)
		for i := range k {
			if at >= 0 {
				binary.BigEndian.PutUint64(out[i].Data[at:], uint64(sent+i)*0x9e3779b97f4a7c15)
			}
		}
		if k > 0 {
			n, err := c.WriteBatch(out[:k])
			if err != nil {
				b.Fatal(err)
			}
			sent += n
		}
		n, err := c.ReadBatch(in)
		if err != nil {
			b.Fatal(err)
		}
		got += n
	}
}
