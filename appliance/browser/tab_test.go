package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// get fetches a page without a browser.
func (b *box) get(t *testing.T, path string) string {
	t.Helper()
	res, err := http.Get(b.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// write puts something at a path, as a program on the machine does.
func (b *box) write(t *testing.T, path, value string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, b.url+path, strings.NewReader(value))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = res.Body.Close(); res.StatusCode != http.StatusCreated {
		t.Fatalf("PUT %s: %s", path, res.Status)
	}
}

// browse starts a browser, which ends with the test. flags are names and values.
func browse(t *testing.T, flags ...string) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"} {
		if _, err := os.Stat(name); err == nil {
			path = name
			break
		}
	}
	if path == "" {
		missing(t, "there is no Chromium: sudo apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.UserDataDir(t.TempDir()),
		chromedp.Env("TMPDIR="+t.TempDir())) // of what it makes there it leaves most
	for i := 0; i < len(flags); i += 2 {
		options = append(options, chromedp.Flag(flags[i], flags[i+1]))
	}
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, end := chromedp.NewContext(ctx)
	t.Cleanup(end)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// look is how somebody looks at a page.
type look struct {
	name          string
	width, height int64
	scale         float64
	phone         bool
	dark          bool
	noScript      bool
	still         bool // prefers reduced motion
}

var (
	phone   = look{name: "phone", width: 390, height: 844, scale: 2, phone: true}
	desktop = look{name: "desktop", width: 1280, height: 900, scale: 1}
)

func (l look) inTheDark() look { l.name, l.dark = l.name+"-dark", true; return l }

// tab is an open page, and what it did.
type tab struct {
	t   *testing.T
	ctx context.Context
	box *box

	mu      sync.Mutex
	faults  []string // errors on the console, exceptions, and requests that leave the box
	pardons []string // parts of what counts as no fault
}

// open opens a page. What it should not do fails the test at its end.
func open(t *testing.T, browser context.Context, b *box, l look) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	x := &tab{t: t, ctx: ctx, box: b}
	own, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx); err != nil { // a tab of its own
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(ctx, 3*patience)
	t.Cleanup(stop)
	x.ctx = ctx
	err = chromedp.Listen(ctx, func(e any) {
		switch e := e.(type) {
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
				x.fault("log: %s (%s)", e.Entry.Text, e.Entry.URL)
			}
		case *runtime.EventExceptionThrown:
			x.fault("exception: %s in %s", e.ExceptionDetails.Text, e.ExceptionDetails.URL)
		case *runtime.EventConsoleAPICalled:
			x.fault("console.%s", e.Type)
		case *network.EventRequestWillBeSent:
			if u, err := url.Parse(e.Request.URL); err != nil || u.Host != own.Host && u.Scheme != "about" {
				x.fault("request to %s", e.Request.URL)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, f := range x.faults {
			pardoned := false
			for _, p := range x.pardons {
				pardoned = pardoned || strings.Contains(f, p)
			}
			if !pardoned {
				t.Errorf("%s: %s", l.name, f)
			}
		}
	})
	scheme, motion := "light", "no-preference"
	if l.dark {
		scheme = "dark"
	}
	if l.still {
		motion = "reduce"
	}
	call(x, log.Enable, cdp.Empty{})
	call(x, network.Enable, network.EnableParams{})
	call(x, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: l.scale, Mobile: l.phone})
	call(x, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: motion},
	}})
	call(x, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: l.noScript})
	return x
}

func (x *tab) fault(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.faults = append(x.faults, fmt.Sprintf(format, args...))
}

// pardon has faults that contain a text be none.
func (x *tab) pardon(text string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pardons = append(x.pardons, text)
}

// call gives the browser a command of its protocol.
func call[P, R any](x *tab, c cdp.Command[P, R], params P) {
	x.t.Helper()
	if _, err := chromedp.Call(x.ctx, c, params); err != nil {
		x.t.Fatal(err)
	}
}

func (x *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	x.t.Helper()
	if err := chromedp.Do(x.ctx, actions...); err != nil {
		x.t.Fatal(err)
	}
}

// visit goes to a page and waits until it is loaded.
func (x *tab) visit(path string) {
	x.t.Helper()
	x.run(chromedp.Navigate(x.box.url + path))
}

// eval evaluates an expression in the page, and again in the next one if that takes its place meanwhile: a click does not wait for the page
// that it leads to.
func eval[T any](x *tab, expression string) T {
	x.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		out, err := chromedp.Run(x.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		if err == nil {
			return out
		}
		if !isGone(err) || time.Now().After(deadline) {
			x.t.Fatalf("%v, evaluating %.200s", err, expression)
		}
	}
}

// isGone reports whether the page in which something was to be evaluated has made way for another one. Chromium says so in words alone.
func isGone(err error) bool {
	var e *cdproto.Error
	return errors.As(err, &e) && (strings.Contains(e.Message, "target navigated or closed") || strings.Contains(e.Message, "context was destroyed"))
}

// text is what an element says.
func (x *tab) text(selector string) string {
	x.t.Helper()
	return eval[string](x, fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector))
}

// screenshot keeps the whole page as a picture.
func (x *tab) screenshot(name string) {
	x.t.Helper()
	dir := os.Getenv("KDHT_SCREENSHOTS")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin", "screenshots")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		x.t.Fatal(err)
	}
	png, err := chromedp.Run(x.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		x.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		x.t.Fatal(err)
	}
}

// violations are what axe-core finds that is serious or critical.
func (x *tab) violations() []string {
	x.t.Helper()
	return eval[[]string](x, axe+`; axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations
		.filter(v => v.impact == "serious" || v.impact == "critical")
		.flatMap(v => v.nodes.map(n => v.id + ": " + v.help + ": " + n.target.join(" ") + " " + n.html.slice(0, 200) + " " + (n.any[0]?.message ?? ""))))`)
}

// accessible checks that there are no violations, and that the page is no wider than the window.
func (x *tab) accessible() {
	x.t.Helper()
	if axe == "" {
		missing(x.t, "there is no axe-core")
	}
	for _, f := range x.violations() {
		x.t.Error(f)
	}
	if wide := eval[int](x, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
		x.t.Errorf("the page is %d pixels wider than the window: %s", wide, eval[string](x, `[...document.querySelectorAll("main *")].filter(e =>
			e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !e.closest(".scroll") && !e.closest("svg")).slice(0, 3).map(e => e.outerHTML.slice(0, 120)).join("\n")`))
	}
}
