package update_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kdht/store"
)

// guess asks for the status as somebody from an address, with a password, and gives the status of the answer.
func (b *bench) guess(from, user, password string) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequestWithContext(b.t.Context(), http.MethodGet, "/update/status", nil)
	r.RemoteAddr = from
	r.SetBasicAuth(user, password)
	w := httptest.NewRecorder()
	b.m.Handler().ServeHTTP(w, r)
	return w
}

// TestGuessing lets nobody try many passwords, and nobody be locked out by others.
func TestGuessing(t *testing.T) {
	b := newBench(t)
	expect := func(what, from, password string, want int) {
		t.Helper()
		if w := b.guess(from, "gokrazy", password); w.Code != want {
			t.Errorf("%s: %d %s", what, w.Code, w.Body)
		}
	}
	expect("an owner", "[2001:db8::1]:1", password, http.StatusOK)
	if w := b.guess("10.0.0.1:1", "root", password); w.Code != http.StatusUnauthorized {
		t.Errorf("another user: %d", w.Code)
	}
	w := b.guess("10.0.0.1:2", "gokrazy", password)
	if s, err := strconv.Atoi(w.Header().Get("Retry-After")); w.Code != http.StatusTooManyRequests || err != nil || s != 1 {
		t.Errorf("the right password right after a wrong one: %d, %s", w.Code, w.Header().Get("Retry-After"))
	}
	expect("the right password from elsewhere", "10.0.0.2:1", password, http.StatusOK)

	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := make(map[int]int)
	for i := range 100 {
		wg.Go(func() {
			w := b.guess(fmt.Sprintf("[2001:db8::2:%x]:1", i), "gokrazy", "wrong")
			mu.Lock()
			defer mu.Unlock()
			codes[w.Code]++
		})
	}
	wg.Wait()
	if codes[http.StatusUnauthorized] != 1 || codes[http.StatusTooManyRequests] != 99 {
		t.Errorf("100 guesses at once from one /64: %v", codes)
	}
	expect("a stranger there", "[2001:db8::3]:1", password, http.StatusTooManyRequests)
	expect("the owner there", "[2001:db8::1]:2", password, http.StatusOK)

	for i := range 2000 {
		b.guess(fmt.Sprintf("10.1.%d.%d:1", i>>8, i&0xff), "gokrazy", "wrong")
	}
	expect("a stranger while thousands guess", "10.2.0.1:1", "wrong", http.StatusTooManyRequests)
	expect("the owner while thousands guess", "[2001:db8::1]:3", password, http.StatusOK)
	expect("and the other one", "10.0.0.2:3", password, http.StatusOK)

	// Of so many the audit log has few, and forgets nothing for them.
	log, err := b.store.Audit(store.MaxAudit)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range log {
		if !a.Failed || !strings.HasPrefix(a.Outcome, "refused: wrong user or password") && !strings.HasPrefix(a.Outcome, "more than 100 different within a day") {
			t.Errorf("%+v", a)
		}
	}
	if first := log[len(log)-1]; len(log) != 101 || first.Who != "gokrazy client from 10.0.0.1" || first.What != "password: GET /update/status" {
		t.Errorf("%d entries, the first is %+v", len(log), first)
	}

	// The delay grows, and ends.
	var waits []int
	for deadline := time.Now().Add(30 * time.Second); len(waits) < 2 && time.Now().Before(deadline); {
		w := b.guess("10.0.0.1:3", "gokrazy", "wrong")
		if w.Code == http.StatusUnauthorized {
			s, err := strconv.Atoi(b.guess("10.0.0.1:3", "gokrazy", "wrong").Header().Get("Retry-After"))
			if err != nil {
				t.Fatal(err)
			}
			waits = append(waits, s)
			continue
		}
		time.Sleep(10 * time.Millisecond) // until the box listens again
	}
	if fmt.Sprint(waits) != "[2 4]" {
		t.Errorf("delays of %v s after the second and third wrong password", waits)
	}
}
