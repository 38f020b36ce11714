package fleet_test

import (
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"strconv"
	"testing"

	"kdht/appliance/fleet"
	"kdht/appliance/fleet/foreign"
	"kdht/router"
	"kdht/router/krpc"
)

// items puts immutable and mutable items with one libtorrent session, and gets them with another one of the same
// family and through every node of ours.
func (m *mixed) items(ctx context.Context, t *testing.T, putter, getter *foreign.Libtorrent, addr func(*fleet.Node) netip.AddrPort) {
	family := "IPv4"
	if addr(m.Nodes[0]).Addr().Is6() {
		family = "IPv6"
	}
	text := value("immutable over " + family)
	target, copies, err := putter.PutImmutable(ctx, []byte(text))
	must(t, err)
	if copies < 8 {
		t.Errorf("libtorrent stored the immutable item at %d nodes, want 8", copies)
	}
	value, err := getter.GetImmutable(ctx, target)
	if err != nil || value != bencoded(text) {
		t.Errorf("the other libtorrent got %s, %v; want %s", value, err, bencoded(text))
	}
	m.wantItem(addr, text, 0, target)

	public := hex.EncodeToString(m.key.Public)
	for _, salt := range []string{"", m.salt("salt over " + family)} {
		args := []string{"--key", public}
		if salt != "" {
			args = append(args, "--salt", salt)
		} else if family == "IPv6" {
			continue // the item without salt is that of IPv4: some nodes hold it already
		}
		for seq := int64(1); seq <= 2; seq++ {
			text := "version " + string('0'+rune(seq)) + " over " + family + " " + salt
			got, copies, err := putter.PutMutable(ctx, m.key, []byte(salt), []byte(text))
			must(t, err)
			if got != seq || copies < 8 {
				t.Errorf("salt %q: libtorrent stored sequence number %d at %d nodes, want %d at 8", salt, got, copies, seq)
			}
			value, got, err := getter.GetMutable(ctx, m.key.Public, []byte(salt))
			if err != nil || value != bencoded(text) || got != seq {
				t.Errorf("salt %q: the other libtorrent got %s, sequence number %d, %v; want %s, %d", salt, value, got, err, bencoded(text), seq)
			}
			if seq == 2 {
				m.wantItem(addr, text, seq, args...)
			}
		}
	}
}

// libraries passes items between libtorrent and bittorrent-dht, and has both meet a conflict of compare and swap.
func (m *mixed) libraries(ctx context.Context, t *testing.T) {
	text := value("from bittorrent-dht")
	target, _, err := m.webtorrent.PutImmutable(ctx, []byte(text))
	must(t, err)
	m.libtorrentGets(ctx, t, target, text)
	m.wantItem(addr4, text, 0, target)

	text = value("from libtorrent")
	target, _, err = m.libtorrent4.PutImmutable(ctx, []byte(text))
	must(t, err)
	m.webtorrentGets(ctx, t, target, "", text, 0)

	salt := m.salt("libraries")
	if seq, _, err := m.libtorrent4.PutMutable(ctx, m.key, []byte(salt), []byte("one")); err != nil || seq != 1 {
		t.Errorf("libtorrent put sequence number %d, %v; want 1", seq, err)
	}
	mutable := krpc.MutableTarget(m.key.Public, []byte(salt))
	m.webtorrentGets(ctx, t, mutable.String(), salt, "one", 1)

	// What libtorrent has put, once more with a cas, to a node that must have it.
	holder := m.closest(ctx, t, mutable)
	for cas, want := range map[int64]int{1: 0, 9: krpc.ErrCodeCAS} {
		if code, err := m.libtorrent4.Replay(ctx, holder.Addr4, m.key.Public, []byte(salt), cas); err != nil || code != want {
			t.Errorf("replay to %s with cas %d: error %d, %v; want %d", holder.Name(), cas, code, err, want)
		}
	}

	// bittorrent-dht puts at the same nodes each time, so that after the first put all of them hold the item.
	put := func(text string, seq int64, cas *int64) error {
		_, _, err := m.webtorrent.PutMutable(ctx, m.key, []byte(salt), []byte(text), seq, cas)
		return err
	}
	must(t, put("two", 2, nil))
	wrong, right := int64(1), int64(2)
	if e, ok := errors.AsType[*foreign.Error](put("wrong", 3, &wrong)); !ok || e.Code != krpc.ErrCodeCAS {
		t.Errorf("bittorrent-dht put with a wrong cas: %v, want error %d", e, krpc.ErrCodeCAS)
	}
	must(t, put("three", 3, &right))
	if value, seq, err := m.other4.GetMutable(ctx, m.key.Public, []byte(salt)); err != nil || value != bencoded("three") || seq != 3 {
		t.Errorf("libtorrent got %s, sequence number %d, %v; want %s, 3", value, seq, err, bencoded("three"))
	}
	if seq, _, err := m.libtorrent4.PutMutable(ctx, m.key, []byte(salt), []byte("four")); err != nil || seq != 4 {
		t.Errorf("libtorrent put sequence number %d, %v; want 4", seq, err)
	}
	m.wantItem(addr4, "four", 4, "--key", hex.EncodeToString(m.key.Public), "--salt", salt)
}

// ownClient stores with our own client, and finds with foreign ones.
func (m *mixed) ownClient(ctx context.Context, t *testing.T) {
	var r stored
	text := value("from kdht")
	must(t, m.parse(ctx, m.Nodes[7].Addr4, &r, "put", text))
	m.libtorrentGets(ctx, t, r.Target, text)
	m.webtorrentGets(ctx, t, r.Target, "", text, 0)

	salt := m.salt("own client")
	args := []string{"--key-file", m.file, "--salt", salt}
	must(t, m.parse(ctx, m.Nodes[8].Addr4, &r, "put", append(args, "one")...))
	if r.Seq != 1 {
		t.Errorf("kdht put sequence number %d, want 1", r.Seq)
	}
	m.webtorrentGets(ctx, t, r.Target, salt, "one", 1)
	must(t, m.parse(ctx, m.Nodes[9].Addr4, &r, "put", append(args, "--cas", "1", "two")...))
	if r.Seq != 2 {
		t.Errorf("kdht put sequence number %d, want 2", r.Seq)
	}
	err := m.parse(ctx, m.Nodes[9].Addr4, &r, "put", append(args, "--seq", "3", "--cas", "1", "three")...)
	if exit, ok := errors.AsType[*fleet.ExitError](err); !ok || exit.Code != exitRejected {
		t.Errorf("kdht put with a wrong cas: %v; want exit code %d", err, exitRejected)
	}
	m.wantItem(addr4, "two", 2, "--key", hex.EncodeToString(m.key.Public), "--salt", salt)
	m.wantItem(addr6, "two", 2, "--key", hex.EncodeToString(m.key.Public), "--salt", salt)

	infohash := randomID()
	must(t, m.parse(ctx, m.Nodes[11].Addr4, &r, "announce", "--peer-port", strconv.Itoa(idlePort), infohash))
	m.libtorrentFinds(ctx, t, m.other4, infohash, netip.AddrPortFrom(m.client.IPv4, idlePort))
	m.libtorrentFinds(ctx, t, m.other6, infohash, netip.AddrPortFrom(m.client.IPv6, idlePort))
	m.webtorrentFinds(ctx, t, infohash, netip.AddrPortFrom(m.client.IPv4, idlePort))
}

// exitRejected is kdht's exit code for refused writes.
const exitRejected = 5

// libtorrentGets gets an immutable item with libtorrent.
func (m *mixed) libtorrentGets(ctx context.Context, t *testing.T, target, text string) {
	t.Helper()
	if value, err := m.other4.GetImmutable(ctx, target); err != nil || value != bencoded(text) {
		t.Errorf("libtorrent got %s, %v; want %s", value, err, bencoded(text))
	}
}

// webtorrentGets gets an item with bittorrent-dht.
func (m *mixed) webtorrentGets(ctx context.Context, t *testing.T, target, salt, text string, seq int64) {
	t.Helper()
	value, got, err := m.webtorrent.Get(ctx, target, []byte(salt))
	if err != nil || value != hex.EncodeToString([]byte(text)) || got != seq {
		t.Errorf("bittorrent-dht got %s, sequence number %d, %v; want %x, %d", value, got, err, text, seq)
	}
}

// closest returns the node of ours whose ID is closest to a target.
func (m *mixed) closest(ctx context.Context, t *testing.T, target krpc.ID) (best *fleet.Node) {
	t.Helper()
	var bestID krpc.ID
	for _, n := range m.Nodes {
		r, err := n.Status(ctx)
		must(t, err)
		id, err := krpc.ParseID(r.Families[0].ID)
		must(t, err)
		if best == nil || router.Closer(target, id, bestID) {
			best, bestID = n, id
		}
	}
	return best
}
