package status_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kdht/appliance/history"
	"kdht/appliance/status"
)

// stream is a response that is read while it is written.
type stream struct {
	*httptest.ResponseRecorder
	mu      sync.Mutex
	flushed string
}

func (s *stream) FlushError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushed += s.Body.String()
	s.Body.Reset()
	return nil
}
func (s *stream) SetReadDeadline(time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

// take returns the parts that came since the last call.
func (s *stream) take(t *testing.T) map[string]string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := make(map[string]string)
	for _, e := range strings.Split(s.flushed, "\n\n") {
		data, ok := strings.CutPrefix(e, "event: part\ndata: ")
		if !ok {
			if strings.Trim(e, ":\n") != "" {
				t.Errorf("an odd event: %q", e)
			}
			continue
		}
		var p struct{ ID, HTML string }
		if err := json.Unmarshal([]byte(data), &p); err != nil {
			t.Fatal(err)
		}
		parts[p.ID] = p.HTML
	}
	s.flushed = ""
	return parts
}

// live is a page that runs, in a bubble of time.
type live struct {
	http.Handler
	mu     sync.Mutex
	report status.Report
	calls  int
}

func startLive(t *testing.T) (l *live, stop func()) {
	l = &live{report: full()}
	past := history.New(history.Options{Read: func() (x history.Reading) {
		l.mu.Lock()
		defer l.mu.Unlock()
		x[history.User] = float64(l.report.PID) // any number
		return x
	}, Log: slog.New(slog.DiscardHandler)})
	l.Handler = status.Handler(func() status.Report {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.calls++
		return l.report
	}, past, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _ = past.Run(ctx) }()
	synctest.Wait()
	return l, func() { cancel(); synctest.Wait() }
}

// follow follows the page until ctx ends, as one of several clients.
func (l *live) follow(ctx context.Context, client int) (s *stream, ended chan struct{}) {
	return l.followFrom(ctx, fmt.Sprintf("192.0.2.%d:40000", client))
}

// followFrom follows the page from an address.
func (l *live) followFrom(ctx context.Context, remote string) (s *stream, ended chan struct{}) {
	s, ended = &stream{ResponseRecorder: httptest.NewRecorder()}, make(chan struct{})
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/live", nil)
	r.RemoteAddr = remote
	go func() {
		defer close(ended)
		l.ServeHTTP(s, r)
	}()
	synctest.Wait()
	return s, ended
}

// Who follows the page gets what it is made of, and then what has changed of it.
func TestLiveSendsWhatHasChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startLive(t)
		s, ended := l.follow(t.Context(), 0)
		if s.Header().Get("Content-Type") != "text/event-stream" || s.Header().Get("Content-Security-Policy") == "" {
			t.Errorf("headers %v", s.Header())
		}
		w := httptest.NewRecorder()
		l.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		page := w.Body.String()
		for id, html := range s.take(t) {
			// Names in charts are the same, too: an element is replaced by what it is.
			if !regexp.MustCompile(`id="` + id + `"[^>]*>`).MatchString(page) {
				t.Errorf("the page has no element %s", id)
			}
			if !strings.Contains(page, html) {
				t.Errorf("the page does not contain the part %s:\n%s", id, html)
			}
		}
		if parts := s.take(t); len(parts) != 0 {
			t.Errorf("sent twice: %v", parts)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if parts := s.take(t); parts["tiles"] == "" || parts["minutes"] == "" || parts["kernel"] != "" || parts["table-IPv4"] != "" {
			t.Errorf("of a page on which rates are known now: %v", parts)
		}
		l.mu.Lock()
		l.report.Ready, l.report.Families[0].Contacts = false, 4711
		l.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if parts := s.take(t); !strings.Contains(parts["table-IPv4"], "4\u202f711") || parts["kernel"] != "" {
			t.Errorf("after a change: %v", parts)
		}
		stop()
		<-ended
	})
}

// However many follow, the page is made once for all, and there is an end to how many may, also at one address.
func TestManyFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startLive(t)
		ctx, cancel := context.WithCancel(t.Context())
		var all []chan struct{}
		refused := func(client int, what string) {
			t.Helper()
			s, ended := l.follow(t.Context(), client)
			<-ended
			if s.Code != http.StatusServiceUnavailable || s.Header().Get("Retry-After") == "" {
				t.Errorf("%s: %d", what, s.Code)
			}
		}
		for n := range 32 {
			_, ended := l.follow(ctx, n/8)
			all = append(all, ended)
			if n == 7 {
				refused(0, "one more of a client than may")
			}
		}
		refused(1, "one more of a client than may, when all seats are taken")
		l.mu.Lock()
		l.calls = 0
		l.mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if l.calls != 5 {
			t.Errorf("%d reports for 32 who followed for 5 steps", l.calls)
		}
		cancel()
		for _, e := range all {
			<-e
		}
		s, _ := l.follow(t.Context(), 0) // there is room again
		if len(s.take(t)) == 0 {
			t.Errorf("nothing comes after others have gone: %d", s.Code)
		}
		stop()
	})
}

// When all seats are taken, those of whoever has most go to who has none, whatever addresses he takes them by.
func TestOneMayNotKeepOthersFromFollowing(t *testing.T) {
	follows := func(ended chan struct{}) bool {
		select {
		case <-ended:
			return false
		default:
			return true
		}
	}
	for name, c := range map[string]struct {
		greedy func(n int) string // addresses of 32 followers, the oldest first
		honest []string
		lost   []int // of the 32
	}{
		"eight each of four IPv6 addresses": {func(n int) string { return fmt.Sprintf("[fd00::%x]:1", n/8) }, []string{"[fd00::99]:1", "10.0.0.9:1"}, []int{0, 8}},
		"eight each of four IPv4 addresses": {func(n int) string { return fmt.Sprintf("10.0.0.%d:1", n/8) }, []string{"[fd00::99]:1", "10.0.0.9:1"}, []int{0, 8}},
		"one each of as many IPv6 addresses": {func(n int) string {
			if n < 8 {
				return fmt.Sprintf("10.0.0.%d:1", n)
			}
			return fmt.Sprintf("[fd00::%x]:1", n)
		}, []string{"10.0.0.9:1", "[fd00:0:0:9::1]:1"}, []int{8, 9}},
		"nobody has more than others": {func(n int) string { return fmt.Sprintf("10.0.0.%d:1", n) }, []string{"10.0.0.99:1"}, []int{0}},
		"a neighbour of one who has eight": {func(n int) string {
			if n < 8 {
				return "10.0.0.1:1"
			}
			return fmt.Sprintf("[fd00::%x]:1", n)
		}, []string{"[fd00::99]:1", "[fd00::98]:1"}, []int{0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, stop := startLive(t)
				var streams []*stream
				var all, honest []chan struct{}
				for n := range 32 {
					s, ended := l.followFrom(t.Context(), c.greedy(n))
					streams, all = append(streams, s), append(all, ended)
				}
				for _, a := range c.honest {
					s, ended := l.followFrom(t.Context(), a)
					honest = append(honest, ended)
					if !follows(ended) || len(s.take(t)) == 0 {
						t.Errorf("%s gets no seat: %d", a, s.Code)
					}
				}
				var lost []int
				for n, ended := range all {
					if !follows(ended) {
						lost = append(lost, n)
						if s := streams[n].Body.String(); s != "retry: 30000\n\n" {
							t.Errorf("%d is told %q", n, s)
						}
					}
				}
				if !slices.Equal(lost, c.lost) {
					t.Errorf("%v have lost their seats, want %v", lost, c.lost)
				}
				stop()
				for _, ended := range append(all, honest...) {
					<-ended
				}
			})
		})
	}
}

// A node that has just begun shows no empty charts of the last day, and says why; the charts come with the first step.
func TestTheDayBeginsWithItsFirstStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startLive(t)
		charts := func() int {
			w := httptest.NewRecorder()
			l.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			_, day, _ := strings.Cut(w.Body.String(), `id="day"`)
			day, _, _ = strings.Cut(day, "</section>")
			n := strings.Count(day, "<svg")
			if said := strings.Contains(day, "Nothing was measured yet"); said == (n > 0) {
				t.Errorf("%d charts, and nothing measured is %v:\n%s", n, said, day)
			}
			return n
		}
		if n := charts(); n != 0 {
			t.Errorf("%d charts of nothing", n)
		}
		time.Sleep(2*history.DayStep + time.Second)
		synctest.Wait()
		if n := charts(); n < 2 {
			t.Errorf("%d charts after the first step", n)
		}
		stop()
	})
}
