package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"kdht/appliance/update"
	"kdht/appliance/update/manifest"
)

// updateCmd is the command for updates of a box.
type updateCmd struct {
	Status   updateStatusCmd   `cmd:"" help:"Show what runs, what is on trial, and the history of updates."`
	Check    updateCheckCmd    `cmd:"" help:"Let the box look for a newer release."`
	Apply    updateApplyCmd    `cmd:"" help:"Update the box."`
	Rollback updateRollbackCmd `cmd:"" help:"Go back to the version before."`
}

func (updateCmd) Help() string {
	return `Updates a box that runs the appliance. A new version is tried first: it stays when it has proved well, and otherwise
the box goes back by itself to the one before. "gok update" works, too.`
}

// trialFlags are for commands that restart the box into a trial.
type trialFlags struct {
	boxFlags
	NoWait  bool          `help:"Do not wait for the result of the trial."`
	Timeout time.Duration `default:"15m" help:"Give up waiting after this time. The trial goes on."`
}

type updateStatusCmd struct {
	boxFlags
	JSON bool `name:"json" help:"Print the JSON document as the box gave it."`
}

func (updateStatusCmd) Help() string {
	return `Prints the versions in both slots of the box, what is under way, and the history: from, to, when, by whom, the result of
the trial, and why it was taken back.

Examples:

  kdht update status --host kdht-a1b2c3.local
  kdht update status --host 10.0.0.7 --json | jq .history`
}

// Run shows the status.
func (c *updateStatusCmd) Run(s *system) error {
	return c.with(func(b *remoteBox) error {
		st, doc, err := b.status(s.ctx)
		if err != nil {
			return err
		}
		text := updateText(st)
		if c.JSON {
			text = strings.TrimSpace(string(doc)) + "\n"
		}
		_, err = io.WriteString(s.stdout, text)
		return err
	})
}

// updateText is the status of updates for people.
func updateText(st update.Status) string {
	var t strings.Builder
	state := "committed"
	if st.Trial {
		state = "on trial"
	}
	fmt.Fprintf(&t, "running      %s, slot %d, %s\n", st.Version, st.Slot, state)
	for _, x := range st.Slots {
		if x.Slot != st.Slot && x.Version != "" {
			fmt.Fprintf(&t, "other slot   %s, slot %d\n", x.Version, x.Slot)
		}
	}
	if st.Armed != "" {
		fmt.Fprintf(&t, "next restart tries %s\n", st.Armed)
	}
	if st.Busy != nil {
		fmt.Fprintf(&t, "under way    %s\n", busyText(*st.Busy))
	}
	if st.Offered != "" {
		fmt.Fprintf(&t, "offered      %s\n", st.Offered)
	}
	for _, x := range [][2]string{{"not taken", st.Held}, {"unavailable", st.Unavailable}, {"problem", st.Problem}, {"last check", st.CheckError}} {
		if x[1] != "" {
			fmt.Fprintf(&t, "%-12s %s\n", x[0], x[1])
		}
	}
	if len(st.History) > 0 {
		t.WriteString("\nhistory, the newest first:\n")
	}
	for _, u := range slices.Backward(st.History) {
		fmt.Fprintf(&t, "  %s  %-9s  %s -> %s, by %s\n", u.Time.UTC().Format(time.DateTime), u.Result, u.From, u.To, u.By)
		if u.Reason != "" {
			fmt.Fprintf(&t, "  %19s  %s\n", "", u.Reason)
		}
	}
	return t.String()
}

// busyText is how far something is.
func busyText(p update.Progress) string {
	if p.Total > 0 {
		return fmt.Sprintf("%s, %d of %d MiB", p.What, p.Done>>20, p.Total>>20)
	}
	return fmt.Sprintf("%s, %d MiB", p.What, p.Done>>20)
}

type updateCheckCmd struct {
	boxFlags
}

func (updateCheckCmd) Help() string {
	return `Lets the box look at the place of releases that its configuration has (update.url), and prints the version that is
newer than what it runs, if there is one.

Examples:

  kdht update check --host kdht-a1b2c3.local`
}

// Run lets the box look.
func (c *updateCheckCmd) Run(s *system) error {
	return c.with(func(b *remoteBox) error {
		text, err := b.do(s.ctx, http.MethodPost, "update/check", nil, 0)
		if err != nil {
			return err
		}
		if v := strings.TrimSpace(string(text)); v != "" {
			_, err = fmt.Fprintln(s.stdout, v)
			return err
		}
		s.say("there is no newer release")
		return nil
	})
}

type updateApplyCmd struct {
	Release string `arg:"" optional:"" placeholder:"RELEASE" help:"Directory or URL of a release. Without one the box gets it by itself, from its update.url."`
	trialFlags
	Downgrade string `placeholder:"VERSION" help:"Take the release although the box has had it, or newer ones: it must be this version."`
}

func (updateApplyCmd) Help() string {
	return `Updates the box and waits until the new version was committed or taken back. A release is a directory, or what is below
a URL, with a manifest.json, as "make release" makes it.

Examples:

  kdht update apply --host kdht-a1b2c3.local ./release
  kdht update apply --host 10.0.0.7                       # the box gets it by itself
  kdht update apply --host 10.0.0.7 --downgrade v0.3.1 https://releases.example.org/kdht/v0.3.1`
}

// Run updates the box.
func (c *updateApplyCmd) Run(s *system) error {
	return c.try(s, func(b *remoteBox, before update.Status) error {
		query := ""
		if c.Downgrade != "" {
			query = "?" + url.Values{"downgrade": {c.Downgrade}}.Encode()
		}
		if c.Release == "" {
			return b.post(s.ctx, "update/apply"+query)
		}
		return b.send(s, c.Release, before.Instance, query)
	})
}

// send sends a release to the box and lets it restart into the trial.
func (b *remoteBox) send(s *system, place, instance, query string) error {
	src, err := update.OpenSource(place, nil)
	if err != nil {
		return usage("name a directory or a URL with a manifest.json in it", "%s", err)
	}
	defer src.Close()
	doc, err := readRelease(s.ctx, src, manifest.Name)
	if err != nil {
		return failed(err, "name a directory or a URL with a manifest.json in it, as \"make release\" makes it", "cannot read the release")
	}
	m, err := manifest.Open(doc, nil) // the box checks who has signed it
	if err != nil {
		return failed(err, "name a release that \"make release\" has made", "%s", place)
	}
	image, ok := m.For(instance)
	if !ok {
		return failed(nil, "make the release for this kind of box, too", "the release %s has nothing for %s", m.Version, instance)
	}
	if _, err := b.do(s.ctx, http.MethodPut, "update/manifest"+query, strings.NewReader(string(doc)), int64(len(doc))); err != nil {
		return err
	}
	for _, part := range []struct {
		path string
		file manifest.File
	}{{"root", image.Root}, {"boot", image.Boot}, {"mbr", image.MBR}} {
		if err := b.sendFile(s, src, part.path, part.file); err != nil {
			return err
		}
	}
	return b.post(s.ctx, "update/switch", "reboot")
}

// sendFile sends one file.
func (b *remoteBox) sendFile(s *system, src *update.Source, path string, f manifest.File) error {
	r, err := src.Open(s.ctx, f.Name)
	if err != nil {
		return failed(err, "is the release complete?", "cannot read %s", f.Name)
	}
	defer r.Close()
	p := s.newProgress("send", "")
	defer p.end()
	var sent int64
	body := readerFunc(func(buf []byte) (int, error) {
		n, err := r.Read(buf)
		sent += int64(n)
		p.show(fmt.Sprintf("%s, %d of %d MiB", path, sent>>20, f.Size>>20))
		return n, err
	})
	sum, err := b.do(s.ctx, http.MethodPut, "update/"+path, io.LimitReader(body, f.Size), f.Size)
	if err == nil && string(sum) != f.SHA256 {
		err = failed(nil, "try again", "the box has read %s, and not %s, for %s", sum, f.SHA256, f.Name)
	}
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func readRelease(ctx context.Context, src *update.Source, name string) ([]byte, error) {
	r, err := src.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, manifest.MaxSize+1))
}

type updateRollbackCmd struct {
	trialFlags
}

func (updateRollbackCmd) Help() string {
	return `Goes back to the version that ran before the last update, with its kernel. It is tried like a new one. During a trial
there is nothing to go back from: restart the box, and it goes back by itself.

Examples:

  kdht update rollback --host kdht-a1b2c3.local`
}

// Run goes back.
func (c *updateRollbackCmd) Run(s *system) error {
	return c.try(s, func(b *remoteBox, _ update.Status) error { return b.post(s.ctx, "update/rollback", "reboot") })
}

// try has a box begin something that ends in a trial, and waits for the result.
func (f *trialFlags) try(s *system, begin func(b *remoteBox, before update.Status) error) error {
	return f.with(func(b *remoteBox) error {
		before, _, err := b.status(s.ctx)
		if err != nil {
			return err
		}
		if err := begin(b, before); err != nil {
			return err
		}
		return f.wait(s, b, before)
	})
}

// wait waits for the result of a trial.
func (f *trialFlags) wait(s *system, b *remoteBox, before update.Status) error {
	if f.NoWait {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, f.Timeout)
	defer cancel()
	p := s.newProgress("update", "")
	defer p.end()
	begun := time.Now()
	for {
		select {
		case <-ctx.Done():
			p.end()
			if s.ctx.Err() != nil {
				return s.ctx.Err()
			}
			return &failure{code: exitUnreachable, msg: "no result within " + f.Timeout.String(), hint: "look later with \"kdht update status\"; a box that does not come back by itself within its trial needs its power switched off and on"}
		case <-time.After(time.Second):
		}
		st, _, err := b.status(ctx)
		state := "waiting for the box"
		switch {
		case err != nil:
			var fail *failure
			if errors.As(err, &fail) && fail.code != exitUnreachable {
				return err
			}
		case newer(st, before):
			p.end()
			return trialResult(s, st)
		case st.Trial:
			state = st.Version + " is on trial"
		case st.Busy != nil:
			state = busyText(*st.Busy)
		case st.Problem != "" && st.Problem != before.Problem:
			return failed(nil, "\"kdht update status\" shows more", "%s", st.Problem)
		}
		p.show(fmt.Sprintf("%s, %s", time.Since(begun).Truncate(time.Second), state))
	}
}

// newer says whether the history has grown.
func newer(now, before update.Status) bool {
	if len(now.History) == 0 {
		return false
	}
	last := now.History[len(now.History)-1]
	return len(before.History) == 0 || !last.Time.Equal(before.History[len(before.History)-1].Time)
}

// trialResult tells how the trial ended.
func trialResult(s *system, st update.Status) error {
	u := st.History[len(st.History)-1]
	for i := len(st.History) - 1; i > 0 && u.Result == "excused"; i-- { // that is about the one before
		u = st.History[i-1]
	}
	if u.Result != "committed" {
		return failed(nil, "the box runs what it ran before; \"kdht update status\" shows more", "%s was %s: %s", u.To, u.Result, u.Reason)
	}
	_, err := fmt.Fprintf(s.stdout, "%s, %s\n", u.To, u.Result)
	return err
}
