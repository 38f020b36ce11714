package foreign

import (
	"context"
	"net/netip"

	"kdht/appliance/fleet"
)

// InstallWebtorrent installs bittorrent-dht from npm and returns the script to start.
func InstallWebtorrent(ctx context.Context) (script string, err error) {
	return installNPM(ctx, "webtorrent")
}

// Webtorrent is a bittorrent-dht node. It speaks IPv4 only.
type Webtorrent struct{ *agent }

// StartWebtorrent starts a node on port 6881 of the host's IPv4 address. The script is that of [InstallWebtorrent].
func StartWebtorrent(ctx context.Context, h *fleet.Host, dir, name, script string, bootstrap netip.AddrPort) (*Webtorrent, error) {
	a, err := start(ctx, h, dir, name, "node", script, bootstrap.String(), h.IPv4.String(), "6881")
	if err != nil {
		return nil, err
	}
	return &Webtorrent{a}, nil
}

// WaitNodes waits until the node has bootstrapped and knows at least n nodes.
func (w *Webtorrent) WaitNodes(ctx context.Context, n int) (int, error) {
	var r struct{ Nodes int }
	err := w.do(ctx, "ready", map[string]any{"nodes": n}, &r)
	return r.Nodes, err
}

// PutImmutable puts an item and returns its target and how many nodes stored it.
func (w *Webtorrent) PutImmutable(ctx context.Context, value []byte) (target string, stored int, err error) {
	return w.put(ctx, "put_immutable", map[string]any{"value": value})
}

// PutMutable puts an item and returns its target and how many nodes stored it; with cas not nil, only nodes that
// hold that sequence number take it. An [Error] has the KRPC code if all nodes refused.
func (w *Webtorrent) PutMutable(ctx context.Context, key Key, salt, value []byte, seq int64, cas *int64) (target string, stored int, err error) {
	args := map[string]any{"seed": key.Seed, "public": key.Public, "salt": salt, "value": value, "seq": seq}
	if cas != nil {
		args["cas"] = *cas
	}
	return w.put(ctx, "put_mutable", args)
}

func (w *Webtorrent) put(ctx context.Context, command string, args map[string]any) (string, int, error) {
	var r struct {
		Target string
		Stored int
	}
	err := w.do(ctx, command, args, &r)
	return r.Target, r.Stored, err
}

// Get returns the value of an item, in hexadecimal and not bencoded, and its sequence number, 0 if immutable.
func (w *Webtorrent) Get(ctx context.Context, target string, salt []byte) (value string, seq int64, err error) {
	var r struct {
		Value string
		Seq   int64
	}
	err = w.do(ctx, "get", map[string]any{"target": target, "salt": salt}, &r)
	return r.Value, r.Seq, err
}

// Announce announces a peer on a port of the node's address.
func (w *Webtorrent) Announce(ctx context.Context, infohash string, port uint16) error {
	return w.do(ctx, "announce", map[string]any{"infohash": infohash, "port": port}, nil)
}

// Lookup returns the peers found for an infohash.
func (w *Webtorrent) Lookup(ctx context.Context, infohash string) (peers []string, err error) {
	var r struct{ Peers []string }
	err = w.do(ctx, "lookup", map[string]any{"infohash": infohash}, &r)
	return r.Peers, err
}
