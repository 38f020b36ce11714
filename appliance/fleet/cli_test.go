package fleet_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"kdht/appliance/fleet"
	"kdht/appliance/fleet/foreign"
	"kdht/router/krpc"
)

// makeKey makes the key of all mutable items, and its file.
func (m *mixed) makeKey(t *testing.T) {
	t.Helper()
	m.file = filepath.Join(m.Dir, "items.key")
	seed := make([]byte, ed25519.SeedSize)
	for m.key.Public == nil || krpc.MutableTarget(m.key.Public, nil)[0] >= 0x80 { // as in variant
		_, _ = rand.Read(seed) // never fails
		m.key = foreign.NewKey(seed)
	}
	must(t, os.WriteFile(m.file, fmt.Appendf(nil, "%x\n", seed), 0o600))
}

// item is what `kdht get --json` prints.
type item struct {
	Text   string
	Seq    int64
	Copies int
}

// stored is what `kdht put --json` prints.
type stored struct {
	Target string
	Seq    int64
	Stored []struct{ Addr string }
}

// parse runs a client command through a node and parses its JSON.
func (m *mixed) parse(ctx context.Context, via netip.AddrPort, result any, command string, args ...string) error {
	out, err := m.Run(ctx, m.client, append([]string{command, "--json", "--bootstrap", via.String()}, args...)...)
	if len(out) > 0 {
		if err := json.Unmarshal(out, result); err != nil {
			return err
		}
	}
	return err
}

// everywhere runs a client command through every node of ours, each known by one address only, and checks what each
// gives. Several run at a time: most of the time they wait, for nodes that have gone.
func (m *mixed) everywhere(t *testing.T, addr func(*fleet.Node) netip.AddrPort, check func(via netip.AddrPort) error) {
	t.Helper()
	slots := make(chan struct{}, 10)
	var wg sync.WaitGroup
	for _, n := range m.Nodes {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := check(addr(n)); err != nil {
				t.Errorf("through %s: %v", n.Name(), err)
			}
		})
	}
	wg.Wait()
}

// wantItem has an item be found through every node in the end.
func (m *mixed) wantItem(addr func(*fleet.Node) netip.AddrPort, text string, seq int64, args ...string) {
	m.everyNode = append(m.everyNode, func(ctx context.Context, t *testing.T) {
		m.everywhere(t, addr, func(via netip.AddrPort) error {
			var got item
			err := m.parse(ctx, via, &got, "get", args...)
			if err == nil && (got.Text != text || got.Seq != seq) {
				err = fmt.Errorf("got %q with sequence number %d, want %q with %d", got.Text, got.Seq, text, seq)
			}
			return err
		})
	})
}

// wantPeer has a peer of an infohash be found through every node in the end.
func (m *mixed) wantPeer(addr func(*fleet.Node) netip.AddrPort, infohash string, peer netip.AddrPort) {
	m.everyNode = append(m.everyNode, func(ctx context.Context, t *testing.T) {
		m.everywhere(t, addr, func(via netip.AddrPort) error {
			var got struct{ Peers []string }
			err := m.parse(ctx, via, &got, "peers", infohash)
			if err == nil && !slices.Contains(got.Peers, peer.String()) {
				err = fmt.Errorf("got peers %v, want %s among them", got.Peers, peer)
			}
			return err
		})
	})
}

// bencoded is a byte string as libtorrent reports values: bencoded, in hexadecimal digits.
func bencoded(s string) string {
	return hex.EncodeToString([]byte(strconv.Itoa(len(s)) + ":" + s))
}
