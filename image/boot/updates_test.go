package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kdht/appliance/status"
	"kdht/appliance/update"
	"kdht/appliance/update/bootdisk"
	"kdht/image/pack"
	"kdht/image/vm"
)

// updatePassword is one that a URL cannot have as it is.
const updatePassword = "cor/rect%+horse"

// updated is a box that takes updates over the network, and has an item that it must not lose.
type updated struct {
	*box
	item  string // target
	value []byte
}

// newUpdated switches a PC with the image on; settings are those of update in its configuration.
func newUpdated(ctx context.Context, t *testing.T, settings string) *updated {
	t.Helper()
	return newUpdatedBox(ctx, newBox(t, vm.BIOS(), 2<<30), settings)
}

// newUpdatedBox switches a new box on.
func newUpdatedBox(ctx context.Context, b *box, settings string) *updated {
	t := b.t
	t.Helper()
	u := &updated{box: b, value: []byte("stored before the update")}
	c := &card{t: t, path: filepath.Join(u.dir, "disk.img")}
	c.put("kdht.hujson", fmt.Sprintf(`{"update": {%s}}`, settings))
	c.put("gokr-pw.txt", updatePassword)
	u.on(ctx)
	u.wait(ctx, func(r status.Report) bool { return r.XDP.Active })
	u.item = u.put(u.value)
	return u
}

// do makes a request with the password.
func (u *updated) do(ctx context.Context, method, path string, body io.Reader) (code int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+u.addr.String()+path, body)
	if err != nil {
		return 0, "", err
	}
	req.SetBasicAuth("gokrazy", updatePassword)
	resp, err := u.lan.HTTP().Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// must makes a request that must succeed.
func (u *updated) must(ctx context.Context, method, path string, body []byte) {
	u.t.Helper()
	code, answer, err := u.do(ctx, method, path, bytes.NewReader(body))
	if err != nil || code != http.StatusOK {
		u.t.Fatalf("%s %s: status %d, %q, %v; console:\n%s", method, path, code, answer, err, strings.Join(u.Console.Last(20), "\n"))
	}
}

// refuses makes a request that must be refused with a status and a sentence that has the given words.
func (u *updated) refuses(ctx context.Context, method, path string, body []byte, want int, words string) {
	u.t.Helper()
	code, answer, err := u.do(ctx, method, path, bytes.NewReader(body))
	if err != nil || code != want || !strings.Contains(answer, words) {
		u.t.Errorf("%s %s: status %d, %q, %v; want %d with %q", method, path, code, answer, err, want, words)
	}
}

// release is what an update sends; without boot, the root file system only.
type release struct{ root, boot, mbr []byte }

func releaseOf(t *testing.T, img pack.Image) (r release) {
	t.Helper()
	return release{root: file(t, img.Root), boot: file(t, img.Boot), mbr: file(t, img.MBR)}
}

// send uploads a release and arms its trial.
func (u *updated) send(ctx context.Context, r release) {
	u.t.Helper()
	u.must(ctx, http.MethodPut, "/update/root", r.root)
	if r.boot != nil {
		u.must(ctx, http.MethodPut, "/update/boot", r.boot)
		u.must(ctx, http.MethodPut, "/update/mbr", r.mbr)
	}
	u.must(ctx, http.MethodPost, "/update/switch", nil)
}

// restart has the box restart, and returns how long its console was then.
func (u *updated) restart(ctx context.Context) (lines int) {
	u.t.Helper()
	lines = u.Console.Len()
	u.must(ctx, http.MethodPost, "/reboot", nil)
	u.says(ctx, lines, `Linux version`)
	return lines
}

// says waits for a line of the console behind the first n.
func (u *updated) says(ctx context.Context, n int, pattern string) {
	u.t.Helper()
	if _, err := u.Console.WaitAfter(ctx, n, pattern); err != nil {
		u.t.Fatal(err)
	}
}

// status waits until the state of updates is as wanted.
func (u *updated) status(ctx context.Context, what string, ok func(update.Status) bool) (s update.Status) {
	u.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		code, answer, err := u.do(ctx, http.MethodGet, "/update/status", nil)
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d, %q", code, answer)
		}
		if err == nil {
			s = update.Status{}
			if err = json.Unmarshal([]byte(answer), &s); err == nil && ok(s) {
				return s
			}
		}
		select {
		case <-tick.C:
		case <-u.Done():
			u.t.Fatalf("waiting for %s: the machine has stopped", what)
		case <-ctx.Done():
			u.t.Fatalf("waiting for %s: %v, %+v; console:\n%s", what, err, s, strings.Join(u.Console.Last(30), "\n"))
		}
	}
}

// runs waits until the box runs from a slot, not on trial, and checks that it has lost nothing.
func (u *updated) runs(ctx context.Context, slot bootdisk.Slot) update.Status {
	u.t.Helper()
	s := u.status(ctx, fmt.Sprintf("slot %d, committed", slot), func(s update.Status) bool { return s.Slot == slot && !s.Trial })
	u.holds(u.item, u.value)
	return s
}

// ended checks how the last update in the history ended.
func (u *updated) ended(s update.Status, result, reason string) {
	u.t.Helper()
	if len(s.History) == 0 {
		u.t.Error("the history is empty")
		return
	}
	if last := s.History[len(s.History)-1]; last.Result != result || !strings.Contains(last.Reason, reason) {
		u.t.Errorf("the history ends with %+v, want %s with %q", last, result, reason)
	}
}

// forward gives the box's port 80 a port of 127.0.0.1, for programs that are not in the LAN's namespace.
func (u *updated) forward() (host string) {
	u.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(u.t, err)
	u.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				var far net.Conn
				if u.lan.NS.Do(func() (err error) { far, err = net.Dial("tcp", u.addr.String()+":80"); return err }) != nil {
					return
				}
				defer far.Close()
				go func() { _, _ = io.Copy(far, near); _ = far.(*net.TCPConn).CloseWrite() }()
				_, _ = io.Copy(near, far)
			}()
		}
	}()
	return l.Addr().String()
}
