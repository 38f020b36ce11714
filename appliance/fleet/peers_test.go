package fleet_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"kdht/appliance/fleet"
	"kdht/appliance/fleet/foreign"
)

// Ports of foreign peers: where libtorrent listens, and one that is announced without anybody listening there.
const (
	libtorrentPort = 6881
	idlePort       = 4444
)

// peers4 announces with every client, finds with every client, and downloads with those that can.
func (m *mixed) peers4(ctx context.Context, t *testing.T) {
	seed := netip.AddrPortFrom(m.hosts["libtorrent4"].IPv4, libtorrentPort)
	content, infohash := m.seed(ctx, t, m.libtorrent4, m.other4, seed)

	// The downloads have nothing but the infohash, and nobody but the DHT to ask.
	var wg sync.WaitGroup
	wg.Go(func() {
		path, err := m.transmission.Download(ctx, infohash)
		wantFile(t, "Transmission", path, content, err)
	})
	wg.Go(func() {
		dir := m.t.TempDir()
		a, err := foreign.StartAria2(m.hosts["aria2"], dir, "aria2", aside(), m.Nodes[6].Addr4, infohash)
		if err == nil {
			m.closeLater(a)
			err = a.WaitDownload(ctx)
		}
		wantFile(t, "aria2", filepath.Join(dir, contentName), content, err)
	})
	wg.Wait()

	m.wantPeer(addr4, infohash, seed)
	m.webtorrentFinds(ctx, t, infohash, seed)

	other := randomID()
	must(t, m.webtorrent.Announce(ctx, other, idlePort))
	peer := netip.AddrPortFrom(m.hosts["webtorrent"].IPv4, idlePort)
	m.wantPeer(addr4, other, peer)
	m.libtorrentFinds(ctx, t, m.other4, other, peer)
}

// peers6 does over IPv6 what its clients can do there.
func (m *mixed) peers6(ctx context.Context, t *testing.T) {
	seed := netip.AddrPortFrom(m.hosts["libtorrent6"].IPv6, libtorrentPort)
	content, infohash := m.seed(ctx, t, m.libtorrent6, m.other6, seed)
	m.wantPeer(addr6, infohash, seed)
	dir := m.t.TempDir()
	name, err := m.other6.Download(ctx, infohash, dir)
	wantFile(t, "libtorrent", filepath.Join(dir, name), content, err)
}

// contentName is the name of the file in every torrent.
const contentName = "content"

// seed has libtorrent seed a random file, and waits until another one finds it: the announce takes its time.
func (m *mixed) seed(ctx context.Context, t *testing.T, l, other *foreign.Libtorrent, seed netip.AddrPort) (content []byte, infohash string) {
	t.Helper()
	content = make([]byte, 100_000)
	_, _ = rand.Read(content) // never fails
	path := filepath.Join(m.t.TempDir(), contentName)
	must(t, os.WriteFile(path, content, 0o644))
	infohash, err := l.Seed(ctx, path)
	must(t, err)
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	must(t, fleet.Poll(waiting, time.Millisecond, func() (bool, error) {
		peers, err := other.GetPeers(ctx, infohash, time.Second)
		return slices.Contains(peers, seed.String()), err
	}))
	return content, infohash
}

// libtorrentFinds looks for a peer with libtorrent.
func (m *mixed) libtorrentFinds(ctx context.Context, t *testing.T, l *foreign.Libtorrent, infohash string, want netip.AddrPort) {
	t.Helper()
	peers, err := l.GetPeers(ctx, infohash, 2*time.Second)
	if err != nil || !slices.Contains(peers, want.String()) {
		t.Errorf("libtorrent found peers %v of %s, %v; want %s among them", peers, infohash, err, want)
	}
}

// webtorrentFinds looks for a peer with bittorrent-dht.
func (m *mixed) webtorrentFinds(ctx context.Context, t *testing.T, infohash string, want netip.AddrPort) {
	t.Helper()
	peers, err := m.webtorrent.Lookup(ctx, infohash)
	if err != nil || !slices.Contains(peers, want.String()) {
		t.Errorf("bittorrent-dht found peers %v of %s, %v; want %s among them", peers, infohash, err, want)
	}
}

// wantFile checks a download.
func wantFile(t *testing.T, client, path string, content []byte, err error) {
	if err != nil {
		t.Errorf("%s did not download: %v", client, err)
		return
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%s downloaded %d bytes, %v; want the %d that are seeded", client, len(got), err, len(content))
	}
}

func randomID() string {
	var id [20]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
