package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"kdht/appliance/update/manifest"
	"kdht/config"
)

// ErrNoURL says that the configuration has no place of releases.
var ErrNoURL = errors.New("the configuration has no update.url")

// offer reads the manifest of the release at the update URL.
func (m *Manager) offer(ctx context.Context) (*Source, []byte, *manifest.Manifest, error) {
	if m.o.Config.Update.URL == "" {
		return nil, nil, nil, ErrNoURL
	}
	if m.key == nil {
		return nil, nil, nil, ErrUnsigned
	}
	s, err := OpenSource(m.o.Config.Update.URL, m.o.Dial)
	if err != nil {
		return nil, nil, nil, err
	}
	doc, err := readFile(ctx, s, manifest.Name, manifest.MaxSize)
	if err != nil {
		s.Close()
		return nil, nil, nil, err
	}
	man, err := manifest.Open(doc, m.key)
	if err != nil {
		s.Close()
		return nil, nil, nil, err
	}
	return s, doc, man, nil
}

func readFile(ctx context.Context, s *Source, name string, most int64) ([]byte, error) {
	r, err := s.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, most+1))
}

// Check looks for a newer release at the update URL. It gives its version, "" if there is none.
func (m *Manager) Check(ctx context.Context) (version string, err error) {
	s, _, man, err := m.offer(ctx)
	if err == nil {
		s.Close()
	}
	serial := m.serial()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checked, m.checkErr, m.offered = time.Now(), err, nil
	if err == nil && man.Serial > serial {
		m.offered, version = man, man.Version
	}
	return version, err
}

// Pull takes the release at the update URL and restarts into its trial. It may be an old one if
// downgrade is its version.
func (m *Manager) Pull(ctx context.Context, downgrade string, by client) error {
	if !m.pulling.TryLock() {
		return fmt.Errorf("%w (a release is being pulled)", ErrBusy)
	}
	defer m.pulling.Unlock()
	s, doc, man, err := m.offer(ctx)
	if err != nil {
		return m.refuse(by, "unknown", err)
	}
	defer s.Close()
	if err := m.Announce(doc, downgrade, by); err != nil {
		return err
	}
	image, _ := man.For(instance()) // Announce has found it
	for _, part := range []struct {
		file manifest.File
		take func(io.Reader, int64, client) (sums, error)
	}{
		{image.Root, m.Root},
		{image.Boot, m.Boot},
		{image.MBR, func(r io.Reader, _ int64, by client) (sums, error) { return m.BootCode(r, by) }},
	} {
		r, err := s.Open(ctx, part.file.Name)
		if err != nil {
			return m.refuse(by, man.Version, err)
		}
		_, err = part.take(io.LimitReader(r, part.file.Size+1), part.file.Size, by)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	if err := m.Switch(by); err != nil {
		return err
	}
	m.Depart(false, by.name)
	return nil
}

// polls says whether releases are taken without being asked to.
func (m *Manager) polls() bool { return m.o.Config.Update.URL != "" && m.key != nil }

// held says why the release that is offered is not taken without being asked to, "" if it is.
func (m *Manager) held(now time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.offered == nil {
		return "it is not offered any more"
	}
	why, wait := m.slots.hold(m.offered.Serial, now)
	if wait > 0 {
		why += fmt.Sprintf("; it is tried again in %s", wait.Round(time.Minute))
	}
	return why
}

// poll looks for releases now and then, and takes them within the window of the configuration.
func (m *Manager) poll(ctx context.Context) {
	u := m.o.Config.Update
	if !m.polls() {
		<-ctx.Done()
		return
	}
	for wait := time.Minute + rand.N(u.Every/4); ; wait = u.Every*3/4 + rand.N(u.Every/2) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		version, err := m.Check(ctx)
		if err != nil {
			m.o.Log.Warn("no release can be read", "url", config.WithoutSecrets(u.URL), "err", err)
			continue
		}
		if version == "" {
			continue
		}
		now := time.Now().UTC()
		if pause := u.Window.Wait(now); pause > 0 {
			m.o.Log.Info("a release waits for its hours", "version", version, "window", u.Window.String(), "wait", pause)
			pause += rand.N(u.Window.Length() / 2)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
		if why := m.held(time.Now()); why != "" {
			m.o.Log.Info("the release is not taken", "version", version, "reason", why)
			continue
		}
		if err := m.Pull(ctx, "", client{name: "the box itself"}); err != nil {
			m.o.Log.Warn("release not taken", "version", version, "err", err)
		}
	}
}

func (m *Manager) postCheck(w http.ResponseWriter, r *http.Request) {
	if !method(w, r, http.MethodPost) {
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * stall))
	version, err := m.Check(r.Context())
	switch {
	case errors.Is(err, ErrNoURL):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadGateway)
	default:
		_, _ = fmt.Fprintln(w, version)
	}
}

// postApply begins to pull. The status tells how that goes.
func (m *Manager) postApply(w http.ResponseWriter, r *http.Request) {
	if !method(w, r, http.MethodPost) {
		return
	}
	by := client{name: who(r) + ", from its update.url"} // not the one that may upload at the same time
	m.mu.Lock()
	tried, busy, taken := m.tried != nil, m.busy, m.taken(by, time.Now())
	m.mu.Unlock()
	switch {
	case m.noDisk != nil:
		m.failed(w, r, m.noDisk)
	case tried:
		m.failed(w, r, ErrTrial)
	case busy != "":
		m.failed(w, r, fmt.Errorf("%w (%s)", ErrBusy, busy))
	case taken != nil:
		m.failed(w, r, taken)
	case m.o.Config.Update.URL == "":
		m.failed(w, r, ErrNoURL)
	default:
		m.note(r, begun)
		downgrade := r.URL.Query().Get("downgrade")
		go func() { _ = m.Pull(context.WithoutCancel(r.Context()), downgrade, by) }() // the status has its error
		w.WriteHeader(http.StatusAccepted)
	}
}
