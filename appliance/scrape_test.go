package appliance_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance"
	"kdht/bpf/testenv"
)

// scrapeEvery is how often Prometheus asks, if nobody says otherwise.
const scrapeEvery = 15 * time.Second

// scraped runs a node and returns what scrapes its metrics, over HTTP, and gives the length of what came.
func scraped(t testing.TB, values ...string) func() int {
	cfg := local(t, append([]string{"http", testenv.FreeAddress(t)}, values...)...)
	ctx, cancel := context.WithCancel(context.Background())
	done, ready := make(chan error, 1), make(chan *appliance.Host, 1)
	go func() {
		done <- appliance.Serve(ctx, cfg, quiet, func(h *appliance.Host) error {
			ready <- h
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case h := <-ready:
		<-h.Node.Ready()
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return func() int {
		res, err := http.Get("http://" + cfg.HTTP + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		n, err := io.Copy(io.Discard, res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res.Status, err)
		}
		return int(n)
	}
}

// cpu is the time that the process has used processors for.
func cpu(t testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A scrape every 15 s takes less than 1 % of one processor, the client that asks included.
func TestScrapeIsCheap(t *testing.T) {
	scrape := scraped(t)
	scrape()
	const n = 20
	begin := cpu(t)
	for range n {
		scrape()
	}
	if each := (cpu(t) - begin) / n; each > scrapeEvery/100 {
		t.Errorf("a scrape takes %v of a processor", each)
	}
}

// BenchmarkScrape scrapes the metrics of a node over HTTP. %cpu is what that is of one processor when it is done every 15 s.
func BenchmarkScrape(b *testing.B) {
	scrape := scraped(b)
	size := 0
	begin := cpu(b)
	b.ReportAllocs()
	for b.Loop() {
		size = scrape()
	}
	each := float64(cpu(b)-begin) / float64(b.N)
	b.ReportMetric(float64(size), "bytes/scrape")
	b.ReportMetric(each/float64(scrapeEvery)*100, "%cpu")
}
