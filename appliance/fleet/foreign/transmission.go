package foreign

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"kdht/appliance/fleet"
	"kdht/router/krpc"
)

// Transmission is a transmission-daemon. It announces on port 51413, and speaks both families.
type Transmission struct {
	*fleet.Process
	name    string
	http    http.Client
	url     string
	session string // what its RPC server wants to see, against cross-site requests
	dir     string
}

// StartTransmission starts a daemon with a node ID that has the given nodes, of which it needs nine or more, in its saved routing
// table: it takes the first eight at a pace of one in two seconds, and nodes from its file dht.bootstrap at a pace of
// one in fifteen.
func StartTransmission(ctx context.Context, n *fleet.Network, h *fleet.Host, dir, name string, id krpc.ID, bootstrap ...netip.AddrPort) (*Transmission, error) {
	conf := filepath.Join(dir, name)
	if err := os.MkdirAll(conf, 0o755); err != nil {
		return nil, err
	}
	settings, err := json.Marshal(map[string]any{
		"bind-address-ipv4": h.IPv4.String(), "bind-address-ipv6": h.IPv6.String(),
		"rpc-bind-address": "0.0.0.0", "rpc-whitelist-enabled": false, "rpc-host-whitelist-enabled": false,
		"dht-enabled": true, "lpd-enabled": false, "pex-enabled": false, "port-forwarding-enabled": false,
		"download-dir": conf, "encryption": 1,
	})
	if err != nil {
		return nil, err
	}
	var nodes, nodes6 []byte
	for _, b := range bootstrap {
		if b.Addr().Is4() {
			nodes = krpc.AppendAddr(nodes, b)
		} else {
			nodes6 = krpc.AppendAddr(nodes6, b)
		}
	}
	table := fmt.Appendf(nil, "d2:id20:%s5:nodes%d:%s6:nodes6%d:%se", id[:], len(nodes), nodes, len(nodes6), nodes6)
	for file, content := range map[string][]byte{"settings.json": settings, "dht.dat": table} {
		if err := os.WriteFile(filepath.Join(conf, file), content, 0o644); err != nil {
			return nil, err
		}
	}
	p, err := fleet.Start(h.NS, dir, name, nil, nil, "transmission-daemon", "--foreground", "--config-dir", conf, "--log-debug")
	if err != nil {
		return nil, err
	}
	t := &Transmission{Process: p, name: name, dir: conf, url: fmt.Sprintf("http://%s:9091/transmission/rpc", h.IPv4)}
	t.http.Transport = &http.Transport{DialContext: n.DialContext, DisableKeepAlives: true}
	err = t.Poll(ctx, 100*time.Millisecond, func() (bool, error) { return t.call(ctx, "session-get", nil, nil) == nil, nil })
	if err != nil {
		err = fmt.Errorf("%s: start: %w\n%s", name, err, t.Log(4096))
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

// Close ends the daemon.
func (t *Transmission) Close() error { return t.Stop(10 * time.Second) }

// Download downloads a torrent of which nothing but the infohash is known, and returns the path of its one file. The
// daemon goes on to seed it.
func (t *Transmission) Download(ctx context.Context, infohash string) (path string, err error) {
	if err := t.call(ctx, "torrent-add", map[string]any{"filename": "magnet:?xt=urn:btih:" + infohash}, nil); err != nil {
		return "", err
	}
	err = t.Poll(ctx, 250*time.Millisecond, func() (bool, error) {
		var r struct {
			Torrents []struct {
				Name                    string
				PercentDone             float64
				MetadataPercentComplete float64
			}
		}
		err := t.call(ctx, "torrent-get", map[string]any{"ids": []string{infohash}, "fields": []string{"name", "percentDone", "metadataPercentComplete"}}, &r)
		if err != nil || len(r.Torrents) != 1 {
			return false, err
		}
		path = filepath.Join(t.dir, r.Torrents[0].Name)
		return r.Torrents[0].MetadataPercentComplete == 1 && r.Torrents[0].PercentDone == 1, nil
	})
	if err != nil {
		return "", fmt.Errorf("%s: download: %w\n%s", t.name, err, t.Log(4096))
	}
	return path, nil
}

// call calls a method of the daemon's RPC interface.
func (t *Transmission) call(ctx context.Context, method string, args, result any) error {
	body, err := json.Marshal(map[string]any{"method": method, "arguments": args})
	if err != nil {
		return err
	}
	for range 2 { // the first answer may only tell the session
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("X-Transmission-Session-Id", t.session)
		resp, err := t.http.Do(req)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", t.name, method, err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return fmt.Errorf("%s: %s: %w", t.name, method, err)
		}
		if resp.StatusCode == http.StatusConflict {
			t.session = resp.Header.Get("X-Transmission-Session-Id")
			continue
		}
		reply := struct {
			Result    string
			Arguments any
		}{Arguments: result}
		if err := json.Unmarshal(b, &reply); err != nil {
			return fmt.Errorf("%s: %s: status %d: %w", t.name, method, resp.StatusCode, err)
		}
		if reply.Result != "success" {
			return &Error{Client: t.name, Command: method, Text: reply.Result}
		}
		return nil
	}
	return &Error{Client: t.name, Command: method, Text: "no session"}
}
