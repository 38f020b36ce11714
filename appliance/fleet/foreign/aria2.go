package foreign

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"kdht/appliance/fleet"
)

// Aria2Download runs aria2 on a host until it has downloaded, into dir, a torrent of which it knows only the infohash.
// Its DHT entry point may be an IPv4 or an IPv6 address; the peers must be of that family.
func Aria2Download(ctx context.Context, h *fleet.Host, dir, name string, bootstrap netip.AddrPort, infohash string) error {
	argv := []string{"aria2c", "--no-conf", "--dir=" + dir, "--seed-time=0", "--file-allocation=none",
		"--bt-enable-lpd=false", "--enable-peer-exchange=false", "--listen-port=6881", "--dht-listen-port=6881",
		"--console-log-level=info", "--summary-interval=0", "--bt-stop-timeout=120"}
	if bootstrap.Addr().Is4() {
		argv = append(argv, "--enable-dht=true", "--dht-entry-point="+bootstrap.String(),
			"--dht-file-path="+filepath.Join(dir, name+".dht"), "--interface="+h.IPv4.String())
	} else {
		argv = append(argv, "--enable-dht=false", "--enable-dht6=true", "--dht-entry-point6="+bootstrap.String(),
			"--dht-file-path6="+filepath.Join(dir, name+".dht"), "--dht-listen-addr6="+h.IPv6.String())
	}
	p, err := fleet.Start(h.NS, dir, name, nil, nil, append(argv, "magnet:?xt=urn:btih:"+infohash)...)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		_ = p.Stop(5 * time.Second) // the reason to stop counts
		return fmt.Errorf("%s: %w\n%s", name, context.Cause(ctx), p.Log(4096))
	}
	if err := p.Err(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, p.Log(4096))
	}
	return nil
}
