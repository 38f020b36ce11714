package foreign

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"kdht/appliance/fleet"
	"kdht/router/krpc"
)

// Aria2 is an aria2 process with one download. It speaks one family.
type Aria2 struct {
	*fleet.Process
	name string
	done string // file that appears when the download is complete
}

// StartAria2 starts aria2 with a node ID and a torrent of which it knows only the infohash, to be downloaded into dir. When it is
// complete it goes on seeding. The entry point is an IPv4 or an IPv6 address, and that is the family.
func StartAria2(h *fleet.Host, dir, name string, id krpc.ID, bootstrap netip.AddrPort, infohash string) (*Aria2, error) {
	a := &Aria2{name: name, done: filepath.Join(dir, name+".done")}
	hook := filepath.Join(dir, name+".sh") // aria2 calls it with an ID, a number of files and a path
	if err := os.WriteFile(hook, []byte("#!/bin/sh\ntouch '"+a.done+"'\n"), 0o755); err != nil {
		return nil, err
	}
	argv := []string{
		"aria2c", "--no-conf", "--dir=" + dir, "--file-allocation=none", "--seed-time=60", "--seed-ratio=0",
		"--bt-enable-lpd=false", "--enable-peer-exchange=false", "--listen-port=6881", "--dht-listen-port=6881",
		"--console-log-level=info", "--summary-interval=0", "--on-bt-download-complete=" + hook,
	}
	table := filepath.Join(dir, name+".dht")
	if err := os.WriteFile(table, aria2Table(id), 0o644); err != nil {
		return nil, err
	}
	if bootstrap.Addr().Is4() {
		argv = append(argv, "--enable-dht=true", "--dht-entry-point="+bootstrap.String(), "--dht-file-path="+table,
			"--interface="+h.IPv4.String())
	} else {
		argv = append(argv, "--enable-dht=false", "--enable-dht6=true", "--dht-entry-point6="+bootstrap.String(),
			"--dht-file-path6="+table, "--dht-listen-addr6="+h.IPv6.String())
	}
	var err error
	a.Process, err = fleet.Start(h.NS, dir, name, nil, nil, append(argv, "magnet:?xt=urn:btih:"+infohash)...)
	return a, err
}

// aria2Table makes a saved routing table that holds nothing but a node ID, in aria2's format, version 3.
func aria2Table(id krpc.ID) []byte {
	b := []byte{0xa1, 0xa2, 0x02, 0, 0, 0, 0, 3}
	b = binary.BigEndian.AppendUint64(b, uint64(time.Now().Unix()))
	b = append(b, make([]byte, 8)...) // reserved
	b = append(b, id[:]...)
	return append(b, make([]byte, 4+4+4)...) // reserved, number of nodes, reserved
}

// WaitDownload waits until the download is complete.
func (a *Aria2) WaitDownload(ctx context.Context) error {
	err := a.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
		_, err := os.Stat(a.done)
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%s: download: %w\n%s", a.name, err, a.Log(4096))
	}
	return nil
}

// Close ends the process.
func (a *Aria2) Close() error { return a.Stop(10 * time.Second) }
