package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kdht/appliance/journal"
)

func logger(bytes int) (*slog.Logger, *journal.Journal) {
	j := journal.New(bytes)
	return slog.New(j.Handler(slog.DiscardHandler)), j
}

func messages(lines []journal.Line) (all []string) {
	for _, l := range lines {
		all = append(all, l.Message)
	}
	return all
}

// What is kept reads as the handler that it is passed on to writes it.
func TestLineIsAsTextHandlerWritesIt(t *testing.T) {
	var out bytes.Buffer
	j := journal.New(journal.DefaultBytes)
	log := slog.New(j.Handler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	log.Debug("plain", "n", 1)
	log.With("a", "b c", slog.Group("g", "x", 1.5)).WithGroup("h").With("i", "").Warn("with groups", "k", netip.MustParseAddr("::1"), slog.Group("", "inline", true))
	log.Error("values", "err", errors.New(`a "quoted" = one`), "d", 3*time.Second, "nil", nil, "s", []string{"x", "y"},
		"group", slog.GroupValue(slog.Int("z", 1), slog.Group("deep", "w", "v")), slog.Attr{})
	log.Info("line\nbreak", "tab", "\t", "invalid", "a\xffb")
	want := strings.Split(strings.TrimSpace(out.String()), "\n")
	lines := j.Lines(100, slog.LevelDebug)
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d", len(lines), len(want))
	}
	for i, l := range lines {
		if want := strings.ReplaceAll(want[i], `\xff`, "\uFFFD"); l.String() != want {
			t.Errorf("line %d is\n%s\nwant\n%s", i, l, want)
		}
	}
}

// A private value is in the log, and not in what others see of it.
func TestPrivateValue(t *testing.T) {
	var out bytes.Buffer
	j := journal.New(journal.DefaultBytes)
	log := slog.New(j.Handler(slog.NewTextHandler(&out, nil)))
	log.Warn("log in", "url", journal.Private("https://login.example/a"), "n", 1)
	if !strings.Contains(out.String(), "url=https://login.example/a") {
		t.Errorf("the log has %s", out.String())
	}
	l := j.Lines(1, slog.LevelDebug)[0]
	if got := l.String(); !strings.HasSuffix(got, `url=https://login.example/a n=1`) {
		t.Errorf("kept: %s", got)
	}
	if got := l.Public().String(); !strings.HasSuffix(got, `url="(not shown)" n=1`) {
		t.Errorf("shown: %s", got)
	}
	if got := j.Lines(1, slog.LevelDebug)[0].String(); !strings.Contains(got, "login.example") {
		t.Errorf("what is shown has changed what is kept: %s", got)
	}
}

func TestKeepsINFOThoughTheOtherHandlerDoesNot(t *testing.T) {
	var out bytes.Buffer
	j := journal.New(journal.DefaultBytes)
	log := slog.New(j.Handler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError})))
	log.Debug("debug")
	log.Info("info")
	log.Error("error")
	if got := fmt.Sprint(messages(j.Lines(9, slog.LevelDebug))); got != "[info error]" {
		t.Error(got)
	}
	if s := out.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "msg=error") {
		t.Errorf("passed on: %s", s)
	}
}

func TestLinesAreTheLastOfTheirSeverity(t *testing.T) {
	log, j := logger(journal.DefaultBytes)
	for i := range 5 {
		log.Info(fmt.Sprint("i", i))
		log.Warn(fmt.Sprint("w", i))
	}
	log.Error("e")
	for _, c := range []struct {
		n     int
		least slog.Level
		want  string
	}{
		{4, slog.LevelDebug, "[w3 i4 w4 e]"}, {3, slog.LevelWarn, "[w3 w4 e]"}, {3, slog.LevelError, "[e]"}, {0, slog.LevelDebug, "[]"},
		{99, slog.LevelWarn, "[w0 w1 w2 w3 w4 e]"}, {99, slog.LevelError + 1, "[]"},
	} {
		if got := fmt.Sprint(messages(j.Lines(c.n, c.least))); got != c.want {
			t.Errorf("%d of %s: %s, want %s", c.n, c.least, got, c.want)
		}
	}
}

// However much is logged, and however long the lines are, it stays within its bound, counts what it forgets, and a warning
// outlives any number of lines that are none.
func TestBounded(t *testing.T) {
	log, j := logger(64 << 10)
	log.Warn("the warning")
	for i := range 5000 {
		log.Info("usual", "i", i, "long", strings.Repeat("x", i))
	}
	c := j.Counts()
	if c.Bytes > 64<<10 {
		t.Errorf("%d bytes are kept", c.Bytes)
	}
	kept := j.Lines(1<<30, slog.LevelDebug)
	if c.Info != 5000 || c.Warn != 1 || c.Forgotten == 0 || int(c.Forgotten)+len(kept) != 5001 {
		t.Errorf("%+v, kept %d", c, len(kept))
	}
	if kept[0].Message != "the warning" || kept[len(kept)-1].Attrs[0].Value != "4999" {
		t.Errorf("the first is %s, the last %s", kept[0], kept[len(kept)-1])
	}
	many := make([]any, 0, 2000)
	for i := range 1000 {
		many = append(many, fmt.Sprint("k", i), "v")
	}
	log.Error(strings.Repeat("ü", 1<<20), many...)
	if e := j.Lines(1, slog.LevelError)[0]; len(e.Message) > 4<<10 || len(e.Attrs) > 100 || !strings.HasSuffix(e.Message, "ü…") {
		t.Errorf("a line of %d bytes and %d attributes", len(e.Message), len(e.Attrs))
	}
}

func TestPanickingValueIsNotTheEnd(t *testing.T) {
	log, j := logger(journal.DefaultBytes)
	log.Info("m", "v", bad{})
	if got := j.Lines(1, slog.LevelInfo)[0].Attrs[0].Value; !strings.Contains(got, "oh no") {
		t.Error(got)
	}
}

type bad struct{}

func (bad) MarshalText() ([]byte, error) { panic("oh no") }

// A reader gets what is kept and then what comes, in order, each line once; interrupted, it goes on where it was.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, j := logger(journal.DefaultBytes)
		log.Info("1")
		log.Debug("not enabled")
		log.Warn("2")
		ctx, cancel := context.WithCancel(t.Context())
		var got []journal.Line
		done := make(chan struct{})
		go func() {
			defer close(done)
			for l := range j.Follow(ctx, 0, slog.LevelInfo) {
				got = append(got, l)
			}
		}()
		synctest.Wait()
		if s := fmt.Sprint(messages(got)); s != "[1 2]" {
			t.Errorf("kept: %s", s)
		}
		log.With("a", 1).Info("3")
		synctest.Wait()
		if s := fmt.Sprint(messages(got)); s != "[1 2 3]" {
			t.Errorf("with what came: %s", s)
		}
		cancel()
		<-done
		log.Info("4")
		log.Error("5")
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		for l := range j.Follow(ctx, got[len(got)-1].Seq, slog.LevelWarn) {
			if l.Message != "5" || l.Missed != 0 || l.Seq != 5 {
				t.Errorf("after the interruption: %+v", l)
			}
			break
		}
	})
}

// A reader that does nothing keeps nobody from logging, and is told afterwards how many lines it has missed.
func TestSlowReaderIsToldWhatItMissed(t *testing.T) {
	log, j := logger(16 << 10)
	log.Info("first")
	var seen, missed uint64
	for l := range j.Follow(t.Context(), 0, slog.LevelDebug) {
		if l.Message == "first" {
			for range 10_000 {
				log.Info("flood")
			}
			log.Warn("last")
		}
		seen++
		missed += l.Missed
		if l.Message == "last" {
			break
		}
	}
	if missed == 0 || seen+missed != 10_002 || j.Counts().Missed != missed {
		t.Errorf("%d seen, %d missed, counted %d", seen, missed, j.Counts().Missed)
	}
}

func TestManyAtOnce(t *testing.T) {
	log, j := logger(32 << 10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			var at uint64
			for l := range j.Follow(ctx, 0, slog.LevelDebug) {
				if l.Seq != at+l.Missed+1 {
					t.Errorf("line %d after %d, missed %d", l.Seq, at, l.Missed)
					return
				}
				if at = l.Seq; l.Seq == 4000 {
					return
				}
			}
		})
	}
	for i := range 4 {
		writers.Go(func() {
			for n := range 1000 {
				log.Log(ctx, slog.Level(4*i), "m", "n", n)
				j.Lines(3, slog.LevelWarn)
			}
		})
	}
	writers.Wait()
	readers.Wait()
	if j.Last() != 4000 {
		t.Errorf("%d lines", j.Last())
	}
}

func TestWrapKeepsAJournalThatIsThere(t *testing.T) {
	log, j := journal.Wrap(slog.New(slog.DiscardHandler))
	again, same := journal.Wrap(log.With("a", 1))
	again.Warn("x")
	if same != j || len(j.Lines(9, slog.LevelDebug)) != 1 {
		t.Error("it has another one")
	}
}

func BenchmarkLog(b *testing.B) {
	log, _ := logger(journal.DefaultBytes)
	b.ReportAllocs()
	for b.Loop() {
		log.Info("a line", "addr", "198.18.0.1:6881", "n", 42)
	}
}
