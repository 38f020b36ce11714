package boot

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kdht/appliance/fleet"
	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/manifest"
	"kdht/image/pack"
	"kdht/image/vm"
)

// releases is where the LAN has releases.
var releases = netip.AddrPortFrom(vm.LANHost, 8000)

// pulling is the part of a configuration with which a box takes releases from there, but not at this time of the day by itself.
func pulling() string {
	at := time.Now().UTC().Add(12 * time.Hour)
	return fmt.Sprintf(`"url": "http://%s/kdht/", "window": "%s-%s"`, releases, at.Format("15:04"), at.Add(time.Hour).Format("15:04"))
}

// publish serves a release on the LAN until the test ends.
func (u *updated) publish(doc []byte, img pack.Image) {
	u.t.Helper()
	var l net.Listener
	err := u.lan.NS.Do(func() (err error) {
		l, err = net.Listen("tcp", releases.String())
		return err
	})
	must(u.t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /kdht/"+manifest.Name, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(doc) })
	for name, path := range map[string]string{"root": img.Root, "boot": img.Boot, "mbr": img.MBR} {
		mux.HandleFunc("GET /kdht/"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })
	}
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(l) }()
	u.t.Cleanup(func() { _ = server.Close() })
}

// pulls has a box look for a release, take it and go back, by the commands of kdht.
func (u *updated) pulls(ctx context.Context) {
	u.t.Helper()
	kdht, err := fleet.Build(ctx, u.dir)
	must(u.t, err)
	password := filepath.Join(u.dir, "pw.txt")
	must(u.t, os.WriteFile(password, []byte(updatePassword+"\n"), 0o600))
	wants := func(command, words string) {
		u.t.Helper()
		out, err := u.lan.NS.Output(kdht, "update", command, "--host", u.addr.String(), "--password-file", password)
		if err != nil || !strings.Contains(string(out), words) {
			u.t.Fatalf("kdht update %s: %v, %s; want %q", command, err, out, words)
		}
		u.t.Logf("kdht update %s:\n%s", command, out)
	}
	before := u.runs(ctx, bootdisk.Slot2).Version
	wants("check", release1+"\n")
	wants("apply", release1+" (slot 3), committed\n")
	u.ended(u.runs(ctx, bootdisk.Slot3), "committed", "")
	wants("status", ", from its update.url\n")
	wants("rollback", before+" (slot 2), committed\n")
	u.ended(u.runs(ctx, bootdisk.Slot2), "committed", "rollback")
}
