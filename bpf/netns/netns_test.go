package netns_test

import (
	"bufio"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// TestVeth sends a datagram over a veth pair in each family.
func TestVeth(t *testing.T) {
	testenv.NeedXDP(t)
	a, b := netns.New(t, "a"), netns.New(t, "b")
	netns.Veth(t,
		netns.End{NS: a, Name: "eth0", MAC: "02:00:00:00:00:01", Addrs: prefixes("198.18.0.1/24", "2001:db8:0:1::1/64")},
		netns.End{NS: b, Name: "eth0", Addrs: prefixes("198.18.0.2/24", "2001:db8:0:1::2/64"), Pass: true})

	for _, addr := range []string{"198.18.0.2:7", "[2001:db8:0:1::2]:7"} {
		var server, client *net.UDPConn
		must(t, b.Do(func() (err error) {
			server, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
			return err
		}))
		defer server.Close()
		must(t, a.Do(func() (err error) {
			client, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
			return err
		}))
		defer client.Close()
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2)
		n, from, err := server.ReadFromUDPAddrPort(buf)
		must(t, err)
		if string(buf[:n]) != "x" || from != client.LocalAddr().(*net.UDPAddr).AddrPort() {
			t.Errorf("%s received %q from %s, want x from %s", addr, buf[:n], from, client.LocalAddr())
		}
	}
	out, err := a.Output("cat", "/proc/net/dev")
	must(t, err)
	if !strings.Contains(string(out), "eth0") {
		t.Errorf("processes do not run inside the namespace:\n%s", out)
	}
}

// TestCloseKills closes a namespace in which a process runs.
func TestCloseKills(t *testing.T) {
	testenv.NeedNetNS(t)
	ns, err := netns.Make("kill")
	must(t, err)
	cmd := exec.Command("sleep", "1000")
	must(t, ns.Start(cmd))
	must(t, ns.Close())
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the process ended with %v, want killed", err)
	}
	if _, err := os.Stat("/run/netns/" + ns.Name()); !os.IsNotExist(err) {
		t.Errorf("the namespace still has a name: %v", err)
	}
	must(t, ns.Close())
}

// TestJanitor lets a process die with a namespace that holds a child; both must go.
func TestJanitor(t *testing.T) {
	testenv.NeedNetNS(t)
	if os.Getenv("KDHT_NETNS_VICTIM") != "" {
		ns, err := netns.Make("victim")
		must(t, err)
		cmd := exec.Command("sh", "-c", "echo "+ns.Name()+"; exec sleep 1000")
		cmd.Stdout = os.Stdout // its end tells the parent that the child is gone
		must(t, ns.Start(cmd))
		must(t, cmd.Wait()) // never: the parent kills this process
		return
	}
	victim := exec.Command(os.Args[0], "-test.run=^TestJanitor$")
	victim.Env = append(os.Environ(), "KDHT_NETNS_VICTIM=1")
	out, err := victim.StdoutPipe()
	must(t, err)
	must(t, victim.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("the victim said nothing: %v", lines.Err())
	}
	name := lines.Text()
	if _, err := os.Stat("/run/netns/" + name); err != nil {
		t.Fatal(err)
	}
	must(t, victim.Process.Kill())
	for lines.Scan() { // until the grandchild has closed the pipe
	}
	_ = victim.Wait()
	if err := exec.Command("timeout", "10", "sh", "-c", "while [ -e /run/netns/"+name+" ]; do sleep 0.05; done").Run(); err != nil {
		t.Errorf("namespace %s is still there", name)
	}
}

func prefixes(s ...string) (p []netip.Prefix) {
	for _, x := range s {
		p = append(p, netip.MustParsePrefix(x))
	}
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
