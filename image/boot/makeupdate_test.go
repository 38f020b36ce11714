package boot

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"kdht/image/pack"
)

// target plays a box as gok sees one: gokrazy's update interface. What a box does with it is tested on boxes.
type target struct {
	mu    sync.Mutex
	steps []string
	root  []byte
	out   bytes.Buffer // what gok says
}

func (b *target) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

var stampLine = regexp.MustCompile(`Build timestamp: (\S+)`)

func (b *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if user, password, _ := r.BasicAuth(); user != "gokrazy" || password != "se cret/%" {
		http.Error(w, "wrong password", http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	path := strings.Trim(r.URL.Path, "/")
	switch {
	case path == "update/features":
		_, _ = io.WriteString(w, "partuuid,updatehash,gpt,") // the client notices
	case r.Method == http.MethodPut:
		b.steps = append(b.steps, path)
		if path == "update/root" {
			b.root = body
		}
		_, _ = fmt.Fprintf(w, "%08x", crc32.ChecksumIEEE(body)) // as above
	case r.Method == http.MethodPost:
		b.steps = append(b.steps, path)
	default: // gok waits for the version that it sent
		stamp := ""
		if m := stampLine.FindSubmatch(b.out.Bytes()); m != nil {
			stamp = string(m[1])
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"BuildTimestamp": %q}`, stamp) // as above
	}
}

// TestMakeUpdate sends an update with gok to a server that plays the box: it logs in, although images hold no password, sends
// everything in order, and nothing that is printed tells the password.
func TestMakeUpdate(t *testing.T) {
	b := new(target)
	server := httptest.NewServer(b)
	defer server.Close()
	src, err := pack.OpenSource(t.Context(), ".")
	must(t, err)
	err = pack.Update(t.Context(), src, "amd64", strings.TrimPrefix(server.URL, "http://"), "se cret/%", pack.Options{Version: "v9"}, b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.out.Bytes())
	}
	if want := []string{"update/root", "update/boot", "update/mbr", "update/switch", "reboot"}; !slices.Equal(b.steps, want) {
		t.Errorf("gok did %v, want %v", b.steps, want)
	}
	if !bytes.HasPrefix(b.root, []byte("hsqs")) || len(b.root) > pack.MaxRoot {
		t.Errorf("the root is %d bytes that begin with %q", len(b.root), b.root[:min(4, len(b.root))])
	}
	for _, secret := range []string{"se cret", "se%20cret", "se+cret"} {
		if bytes.Contains(b.out.Bytes(), []byte(secret)) {
			t.Errorf("gok's output tells the password:\n%s", b.out.Bytes())
		}
	}
}
