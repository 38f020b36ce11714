package foreign

import (
	"context"
	_ "embed"
	"net/netip"
	"time"

	"kdht/appliance/fleet"
)

//go:embed libtorrent.py
var libtorrentScript string

// patience is how long libtorrent is given for one operation, in seconds; its lookups end well before.
const patience = 30

// Libtorrent is a libtorrent session.
type Libtorrent struct{ *agent }

// StartLibtorrent starts a session with an interpreter that has the module libtorrent. The session listens on
// port 6881 of addrs, which are addresses of the host.
func StartLibtorrent(ctx context.Context, h *fleet.Host, dir, name, python string, bootstrap netip.AddrPort, addrs ...netip.Addr) (*Libtorrent, error) {
	argv := []string{python, "-c", libtorrentScript, bootstrap.String()}
	for _, a := range addrs {
		argv = append(argv, netip.AddrPortFrom(a, 6881).String())
	}
	a, err := start(ctx, h, dir, name, argv...)
	if err != nil {
		return nil, err
	}
	return &Libtorrent{a}, nil
}

// WaitNodes waits until the session's routing tables hold at least n nodes, and returns how many there are.
func (l *Libtorrent) WaitNodes(ctx context.Context, n int) (int, error) {
	var r struct{ Nodes int }
	err := l.do(ctx, "ready", map[string]any{"nodes": n, "seconds": patience}, &r)
	return r.Nodes, err
}

// PutImmutable puts an item and returns its target and how many nodes stored it.
func (l *Libtorrent) PutImmutable(ctx context.Context, value []byte) (target string, stored int, err error) {
	var r struct {
		Target string
		Stored int
	}
	err = l.do(ctx, "put_immutable", map[string]any{"value": value, "seconds": patience}, &r)
	return r.Target, r.Stored, err
}

// GetImmutable returns the bencoded value of an item, in hexadecimal.
func (l *Libtorrent) GetImmutable(ctx context.Context, target string) (value string, err error) {
	var r struct{ Value string }
	err = l.do(ctx, "get_immutable", map[string]any{"target": target, "seconds": patience}, &r)
	return r.Value, err
}

// TimeGet gets an item and returns how long libtorrent took.
func (l *Libtorrent) TimeGet(ctx context.Context, target string) (value string, took time.Duration, err error) {
	return l.timed(ctx, "time_get", map[string]any{"target": target, "seconds": patience})
}

// FreshGet gets an item with a session of its own that listens on an address and knows one node, and returns how long
// that took from the making of the session on.
func (l *Libtorrent) FreshGet(ctx context.Context, bootstrap, listen netip.AddrPort, target string) (value string, took time.Duration, err error) {
	return l.timed(ctx, "fresh_get", map[string]any{"bootstrap": bootstrap.String(), "listen": listen.String(), "target": target, "seconds": patience})
}

func (l *Libtorrent) timed(ctx context.Context, command string, args map[string]any) (value string, took time.Duration, err error) {
	var r struct {
		Value string
		Took  float64
	}
	err = l.do(ctx, command, args, &r)
	return r.Value, time.Duration(r.Took * float64(time.Second)), err
}

// PutMutable puts an item with the sequence number after the highest that the session finds, and returns that
// number and how many nodes stored it.
func (l *Libtorrent) PutMutable(ctx context.Context, key Key, salt, value []byte) (seq int64, stored int, err error) {
	var r struct {
		Seq    int64
		Stored int
	}
	err = l.do(ctx, "put_mutable", map[string]any{"seed": key.Seed, "public": key.Public, "salt": salt, "value": value, "seconds": patience}, &r)
	return r.Seq, r.Stored, err
}

// GetMutable returns the bencoded value, in hexadecimal, and the sequence number of an item.
func (l *Libtorrent) GetMutable(ctx context.Context, public, salt []byte) (value string, seq int64, err error) {
	var r struct {
		Value string
		Seq   int64
	}
	err = l.do(ctx, "get_mutable", map[string]any{"public": public, "salt": salt, "seconds": patience}, &r)
	return r.Value, r.Seq, err
}

// Replay gets an item that libtorrent has put, and puts it once more to one node, with a cas. It returns the KRPC error
// code, 0 if the node took the item.
func (l *Libtorrent) Replay(ctx context.Context, node netip.AddrPort, public, salt []byte, cas int64) (code int, err error) {
	var r struct {
		Code int `json:"error_code"`
	}
	err = l.do(ctx, "replay", map[string]any{"address": node.String(), "public": public, "salt": salt, "cas": cas, "seconds": patience}, &r)
	return r.Code, err
}

// GetPeers looks for peers of an infohash for a time, and returns those found by then; libtorrent does not tell when
// its lookup ends.
func (l *Libtorrent) GetPeers(ctx context.Context, infohash string, d time.Duration) (peers []string, err error) {
	var r struct{ Peers []string }
	err = l.do(ctx, "get_peers", map[string]any{"infohash": infohash, "seconds": d.Seconds()}, &r)
	return r.Peers, err
}

// Seed makes a torrent of one file, serves it and begins to announce it; it returns the infohash.
func (l *Libtorrent) Seed(ctx context.Context, file string) (infohash string, err error) {
	var r struct{ Infohash string }
	err = l.do(ctx, "seed", map[string]any{"path": file, "seconds": patience}, &r)
	return r.Infohash, err
}

// Download downloads a torrent of one file, of which only the infohash is known, into a directory, and returns the
// file's name.
func (l *Libtorrent) Download(ctx context.Context, infohash, dir string) (name string, err error) {
	var r struct{ Name string }
	err = l.do(ctx, "download", map[string]any{"infohash": infohash, "directory": dir, "seconds": patience}, &r)
	return r.Name, err
}
