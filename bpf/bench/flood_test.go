package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/status"
	"kdht/bpf/testenv"
	"kdht/router/krpc"
)

// floodTime is how long the flood lasts, per family: KDHT_FLOOD, or 2 s, and until the clients have asked a hundred times.
func floodTime(t *testing.T) time.Duration {
	s := os.Getenv("KDHT_FLOOD")
	if s == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("KDHT_FLOOD: %v", err)
	}
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var floodNode6 = netip.MustParseAddrPort("[2001:db8:0:19::1]:6881")

// TestFlood floods a node that runs with its default limits, from random forged sources, at the generator's maximum: with
// queries that the kernel half could answer, ones that only user space can, and garbage. Meanwhile clients that answer pings
// are served, user space rests, memory stays, and the victims get hardly more bytes than the flood has.
func TestFlood(t *testing.T) {
	testenv.NeedXDP(t)
	r, err := newRig()
	must(t, err)
	t.Cleanup(func() { must(t, r.close()) })
	must(t, r.gen.Batch("addr add 2001:db8:0:19::2/64 dev "+genIf+" nodad", "neigh replace "+floodNode6.Addr().String()+" lladdr 02:00:00:00:00:01 nud permanent dev "+genIf))
	must(t, r.node.Batch(
		"addr add "+floodNode6.Addr().String()+"/64 dev "+nodeIf+" nodad",
		"neigh replace 2001:db8:0:19::2 lladdr 02:00:00:00:00:02 nud permanent dev "+nodeIf,
		"route add 0.0.0.0/0 via "+genAddr.Addr().String(), "route add ::/0 via 2001:db8:0:19::2"))
	dir := t.TempDir()
	r.binary = filepath.Join(dir, "kdht")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", r.binary, "kdht/appliance/kdht").CombinedOutput(); err != nil {
		t.Fatalf("build kdht: %v\n%s", err, out)
	}
	var log strings.Builder
	cmd := exec.Command(r.binary, "serve", "--state", filepath.Join(dir, "state"), "--http", "127.0.0.1:8080", "--bootstrap", "none",
		"--listen", nodeAddr.String(), "--listen", floodNode6.String(), "--interface", nodeIf, "--xdp", "native")
	cmd.Stdout, cmd.Stderr = &log, &log
	must(t, r.node.Start(cmd))
	t.Cleanup(func() {
		must(t, cmd.Process.Signal(unix.SIGTERM))
		_ = cmd.Wait() // its output says more than its exit code
		if t.Failed() {
			t.Logf("%s", log.String())
		}
	})
	waitFor(t, "the kernel half", func() bool {
		s, err := r.status()
		return err == nil && s.XDP.Active && len(s.XDP.Endpoints) >= 2
	})

	target, id := "mnopqrstuvwxyz123456", "abcdefghij0123456789"
	payloads := [][]byte{
		[]byte("d1:ad2:id20:" + id + "6:target20:" + target + "e1:q9:find_node1:t2:aa1:y1:qe"),
		[]byte("d1:ad2:id20:" + id + "9:info_hash20:" + target + "e1:q9:get_peers1:t2:aa1:y1:qe"),
		[]byte("d1:ad2:id20:" + id + "e1:q4:ping1:t2:aa1:y1:qe"),
		[]byte("d1:ad2:id20:" + id + "6:target20:" + target + "e1:q3:get1:t2:aa1:y1:qe"),
		[]byte("d1:ad2:id20:" + id + "6:target20:" + target + "e1:q17:sample_infohashes1:t2:aa1:y1:qe"),
		[]byte("d1:rd2:id20:" + id + "e1:t4:aaaa1:v4:LT\x02\x081:y1:re"),
		[]byte("d1:y1:qe"),
	}
	families := []struct {
		name         string
		to, from     netip.AddrPort
		fresh, known netip.AddrPort
	}{
		{"IPv4", nodeAddr, genAddr, netip.MustParseAddrPort("198.18.0.7:6881"), netip.MustParseAddrPort("198.18.0.8:6881")},
		{"IPv6", floodNode6, netip.MustParseAddrPort("[2001:db8:0:19::2]:39936"), netip.MustParseAddrPort("[2001:db8:0:19::2]:6882"), netip.MustParseAddrPort("[2001:db8:0:19::2]:6883")},
	}
	// Before the first flood: the forged senders of one take up the leave to report senders, for five minutes.
	table := map[string]*client{}
	for _, f := range families {
		c := r.newClient(t, f.known, f.to, payloads[0])
		table[f.name] = c
		waitFor(t, "the "+f.name+" client in the table", func() bool {
			c.ask()
			s, err := r.status()
			return err == nil && slices.ContainsFunc(s.Families, func(have status.Family) bool { return have.Family == f.name && have.Contacts > 0 })
		})
	}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			known := table[f.name]
			fresh := r.newClient(t, f.fresh, f.to, payloads[0])
			before, err := r.status()
			must(t, err)
			cpu, rss := cpuOf(t, cmd.Process.Pid), rssOf(t, cmd.Process.Pid)
			fl := newFlood(r.sock, payloads, endpoint{[6]byte(r.genDev.HardwareAddr), f.from}, endpoint{[6]byte(r.nodeDev.HardwareAddr), f.to})
			var done atomic.Bool
			stopped := make(chan struct{}, 2)
			for _, c := range []*client{known, fresh} {
				go func() {
					for !done.Load() {
						c.ask()
						time.Sleep(10 * time.Millisecond) // a client's pace
					}
					stopped <- struct{}{}
				}()
			}
			d := floodTime(t)
			must(t, r.pin())
			begin := time.Now()
			func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				var old unix.CPUSet
				must(t, unix.SchedGetaffinity(0, &old))
				defer func() { must(t, unix.SchedSetaffinity(0, &old)) }()
				must(t, setCore(0, genCore))
				must(t, fl.run(func(elapsed time.Duration) bool {
					return elapsed >= d && known.asked.Load() >= 100 && fresh.asked.Load() >= 100 || elapsed >= d+time.Minute
				}))
			}()
			elapsed := time.Since(begin)
			used, grown := cpuOf(t, cmd.Process.Pid)-cpu, rssOf(t, cmd.Process.Pid)-rss
			done.Store(true)
			<-stopped
			<-stopped
			time.Sleep(100 * time.Millisecond) // for the last replies
			fl.collect()
			after, err := r.status()
			must(t, err)
			t.Logf("%.0f datagrams/s, %d in %v; user space took %.3f of a core, memory grew by %d KiB", float64(fl.sent)/elapsed.Seconds(), fl.sent,
				elapsed.Round(time.Millisecond), used.Seconds()/elapsed.Seconds(), grown>>10)
			t.Logf("%d bytes back for %d: %.3f; kernel: %s", fl.gotBytes, fl.sentBytes, float64(fl.gotBytes)/float64(fl.sentBytes), difference(before, after))
			t.Logf("known: %v; fresh: %v", known, fresh)
			for _, c := range []*client{known, fresh} {
				if asked := c.asked.Load(); asked < 100 || float64(c.answered) < 0.99*float64(asked) {
					t.Errorf("a client was not served: %v", c)
				}
			}
			if used > elapsed/10 {
				t.Errorf("user space took %v of %v", used, elapsed)
			}
			if grown > 16<<20 {
				t.Errorf("memory grew by %d bytes", grown)
			}
			if budget := int((elapsed + 2*time.Second).Seconds() * (512 << 10)); fl.gotBytes > fl.sentBytes+budget {
				t.Errorf("%d bytes back for %d", fl.gotBytes, fl.sentBytes)
			}
		})
	}
}

func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// status is the status page of the node.
func (r *rig) status() (s status.Report, err error) {
	h := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = r.node.Do(func() error { c, err = new(net.Dialer).DialContext(ctx, network, addr); return err })
		return c, err
	}}}
	resp, err := h.Get("http://127.0.0.1:8080/status?format=json")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// difference lists by how much the kernel's counters have moved.
func difference(before, after status.Report) string {
	old := map[string]uint64{}
	for _, c := range before.XDP.Counters {
		old[c.Reason+c.Query] = c.Packets
	}
	var all []string
	for _, c := range after.XDP.Counters {
		if n := c.Packets - old[c.Reason+c.Query]; n > 0 {
			all = append(all, fmt.Sprintf("%s %d", strings.TrimSpace(c.Reason+" "+c.Query), n))
		}
	}
	return strings.Join(all, ", ")
}

// client is a node that asks one thing again and again, and answers pings.
type client struct {
	conn       *net.UDPConn
	to         netip.AddrPort
	query      []byte
	asked      atomic.Int64
	answered   int
	challenged int
	again      int // queries that were sent again
}

func (c *client) String() string {
	return fmt.Sprintf("%d of %d queries answered, %d pings, %d sent again", c.answered, c.asked.Load(), c.challenged, c.again)
}

func (r *rig) newClient(t *testing.T, from, to netip.AddrPort, query []byte) *client {
	t.Helper()
	c := &client{to: to, query: query}
	must(t, r.gen.Do(func() (err error) {
		c.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(from))
		return err
	}))
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// ask asks until there is an answer, for five seconds at most, as clients do whose datagrams may be lost: the ring of the node's
// veth holds 256 frames, and the flood fills it, so that four of five do not reach the program at all.
func (c *client) ask() {
	c.asked.Add(1)
	buf := make([]byte, 2048)
	var m krpc.Message
	for range 200 {
		if _, err := c.conn.WriteToUDPAddrPort(c.query, c.to); err != nil {
			return
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(25 * time.Millisecond))
	reading:
		for {
			n, _, err := c.conn.ReadFromUDPAddrPort(buf)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				c.again++
				break reading
			case err != nil:
				return
			case krpc.Decode(buf[:n], &m) != nil:
			case m.Type == krpc.TypeResponse:
				c.answered++
				return
			case m.Type == krpc.TypeQuery && m.Method == krpc.MethodPing:
				c.challenged++
				reply := krpc.Message{Type: krpc.TypeResponse, TID: m.TID, HasID: true, ID: krpc.ID([]byte("abcdefghij0123456789"))}
				if b, err := reply.Append(nil); err == nil {
					_, _ = c.conn.WriteToUDPAddrPort(b, c.to)
				}
				if len(m.TID) == 8 {
					break reading // a challenge came in place of the answer
				}
			}
		}
	}
}

// cpuOf is the CPU time that a process has used.
func cpuOf(t *testing.T, pid int) (sum time.Duration) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	must(t, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		field, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(field, 10, 64)
		must(t, err)
		sum += time.Duration(n)
	}
	return sum
}

// rssOf is the memory that a process occupies, in bytes.
func rssOf(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	must(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	must(t, err)
	return pages * os.Getpagesize()
}
