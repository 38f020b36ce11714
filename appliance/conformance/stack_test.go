package conformance_test

import (
	"strconv"
	"strings"
	"testing"
)

// stackCounters are the counters of the network stack in the node's namespace, such as "Udp.InCsumErrors".
func (n *node) stackCounters(t *testing.T) counters {
	t.Helper()
	c := counters{}
	lines := func(file string) []string {
		return strings.Split(string(get[[]byte](t)(n.r.node.Output("cat", file))), "\n")
	}
	set := func(name, value string) {
		if v, err := strconv.ParseUint(value, 10, 64); err == nil { // some are -1
			c[name] = v
		}
	}
	for _, file := range []string{"/proc/net/snmp", "/proc/net/netstat"} {
		all := lines(file)
		for i := 0; i+1 < len(all); i += 2 {
			names, values := strings.Fields(all[i]), strings.Fields(all[i+1])
			for j := 1; j < len(names); j++ {
				set(strings.TrimSuffix(names[0], ":")+"."+names[j], values[j])
			}
		}
	}
	for _, line := range lines("/proc/net/snmp6") {
		if f := strings.Fields(line); len(f) == 2 {
			set(f[0], f[1])
		}
	}
	// Sources that the routing decision refuses: hexadecimal, a line for each CPU.
	cache := lines("/proc/net/stat/rt_cache")
	for i, name := range strings.Fields(cache[0]) {
		for _, line := range cache[1:] {
			if f := strings.Fields(line); i < len(f) {
				v, _ := strconv.ParseUint(f[i], 16, 64) // the kernel writes nothing else
				c["rt_cache."+name] += v
			}
		}
	}
	return c
}
