package box

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Name gives the machine its name: the one of the configuration if that is not empty, else kdht- and the last three
// bytes of the MAC address of its first network card. What is built into the image is the same for all boxes.
//
// gokrazy's DHCP client asks for its lease under the name that it finds when it starts, at the same moment as we do, so
// it is started again when the name changes. Discovery comes after this.
func (b *Box) Name(configured string) {
	name := configured
	if name == "" {
		mac, err := firstMAC(b.layout.NICs)
		if err != nil {
			b.problem("The box keeps the name of its image, since it has no network card to be named after: %v.", err)
			return
		}
		name = "kdht-" + hex.EncodeToString(mac[len(mac)-3:])
	}
	if now, err := os.Hostname(); err == nil && now == name {
		return
	}
	if err := b.layout.SetHostname(name); err != nil {
		b.problem("The box cannot be named %s: %v.", name, err)
		return
	}
	b.log.Info("named", "hostname", name)
}

// firstMAC returns the MAC address of the first physical Ethernet card, in an order that is the same at every start,
// whichever the kernel finds first: addresses that are the card's own before others, built-in cards before those on
// USB, wired ones before wireless ones, then by where they are attached.
func firstMAC(nics string) (net.HardwareAddr, error) {
	type card struct {
		rank [3]bool
		path string
		mac  net.HardwareAddr
	}
	read := func(name, file string) string {
		b, _ := os.ReadFile(filepath.Join(nics, name, file)) // what cannot be read is not there
		return strings.TrimSpace(string(b))
	}
	entries, err := os.ReadDir(nics)
	if err != nil {
		return nil, err
	}
	var cards []card
	for _, e := range entries {
		path, err := filepath.EvalSymlinks(filepath.Join(nics, e.Name(), "device"))
		if err != nil {
			continue // a virtual interface
		}
		mac, err := net.ParseMAC(read(e.Name(), "address"))
		if err != nil || len(mac) != 6 || read(e.Name(), "type") != fmt.Sprint(unix.ARPHRD_ETHER) || slices.Equal(mac, make([]byte, 6)) {
			continue
		}
		_, errWireless := os.Stat(filepath.Join(nics, e.Name(), "phy80211"))
		cards = append(cards, card{
			rank: [3]bool{read(e.Name(), "addr_assign_type") != "0", strings.Contains(path, "/usb"), errWireless == nil},
			path: path, mac: mac,
		})
	}
	if len(cards) == 0 {
		return nil, fmt.Errorf("%s has none", nics)
	}
	slices.SortFunc(cards, func(a, b card) int {
		for i := range a.rank {
			if a.rank[i] != b.rank[i] {
				return map[bool]int{true: 1, false: -1}[a.rank[i]]
			}
		}
		return cmp.Compare(a.path, b.path)
	})
	return cards[0].mac, nil
}

// gokrazySocket is where gokrazy's init serves its interface to programs of root.
const gokrazySocket = "/run/gokrazy-http.sock"

// setHostname sets the name of the machine and has gokrazy's DHCP client learn it.
func setHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return err
	}
	if err := restartProgram(gokrazySocket, "/gokrazy/dhcp"); err != nil {
		return fmt.Errorf("the DHCP client goes on with the name before: %w", err)
	}
	return nil
}

// restartProgram has gokrazy's init restart one of its programs.
func restartProgram(socket, program string) error {
	client := &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	// The token only has to be the same in form and cookie.
	form := url.Values{"path": {program}, "xsrftoken": {"1"}}
	req, err := http.NewRequest(http.MethodPost, "http://gokrazy/restart", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.AddCookie(&http.Cookie{Name: "gokrazy_xsrf", Value: "1"})
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusSeeOther {
		return fmt.Errorf("gokrazy answers %s", res.Status)
	}
	return nil
}
