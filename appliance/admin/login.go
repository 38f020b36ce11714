package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"tailscale.com/client/local"
	"tailscale.com/ipn"
	"tailscale.com/ipn/ipnstate"

	"kdht/appliance/journal"
)

// errForeign says that somebody has logged the box in to where it does not belong.
var errForeign = errors.New("it was logged in to where it does not belong")

const (
	// lookEvery is how often the node's state is looked at when nothing is heard of it, and a new auth key looked for.
	lookEvery = 5 * time.Second
	// soon is for how long before the node key expires the owner is told.
	soon = 14 * 24 * time.Hour
	// staleTime is how long after a login has begun what is heard of a refusal may be about the one before.
	staleTime = time.Second
	// leaveTime is what it may take to tell a control server that we leave.
	leaveTime = 5 * time.Second
)

// login follows the state of the node in the tailnet, and logs it in whenever that is needed.
type login struct {
	p      *plane
	client *local.Client
	secure func(domains []string) error // starts TLS

	tried   string    // the auth key that the login under way is made with; "" if somebody has to visit a URL
	why     string    // what the control server had against us last
	failed  string    // a key that the control server does not take
	asking  bool      // a login is under way
	begun   time.Time // it was begun here then
	url     string    // that was said
	said    bool      // that it is connected
	secured bool
}

// watch follows the node until ctx ends.
func (l *login) watch(ctx context.Context) error {
	l.asking = true // tsnet has begun one, if there is need
	watcher, err := l.client.WatchIPNBus(ctx, ipn.NotifyInitialState)
	if err != nil {
		return err
	}
	defer watcher.Close()
	heard, failed := make(chan ipn.Notify), make(chan error, 1)
	go func() {
		for {
			n, err := watcher.Next()
			if err != nil {
				failed <- err
				return
			}
			select {
			case heard <- n:
			case <-ctx.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return err
		case n := <-heard:
			if n.ErrMessage != nil {
				l.refused(*n.ErrMessage)
			}
		case <-tick.C:
		}
		st, err := l.client.StatusWithoutPeers(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := l.look(ctx, st); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// refused takes down what the control server has against us.
func (l *login) refused(why string) {
	why = l.p.keys.redact(why)
	l.p.now.trouble(why)
	if why != l.why { // it is asked again and again
		l.why = why
		l.p.log.Warn("the control server of the tailnet refuses", "err", why)
	}
	// One that comes at once may be of the login before; the control client asks again after a key was refused.
	if l.asking && l.tried != "" && time.Since(l.begun) > staleTime {
		l.failed = l.tried
	}
}

// look acts on the state of the node.
func (l *login) look(ctx context.Context, st *ipnstate.Status) error {
	switch st.BackendState {
	case ipn.Running.String():
		return l.connected(ctx, st)
	case ipn.NeedsLogin.String():
		return l.needsLogin(ctx, st)
	case ipn.NeedsMachineAuth.String():
		l.p.now.set("needs approval", "")
	default:
		l.p.now.set("starting", l.p.now.error())
	}
	return nil
}

// needsLogin logs in: with an auth key that was not refused, else by somebody's visit to a URL.
func (l *login) needsLogin(ctx context.Context, st *ipnstate.Status) error {
	l.said = false
	key, from, err := l.p.keys.find()
	if err != nil {
		l.p.now.trouble(err.Error())
	}
	if key == l.failed {
		key = ""
	}
	if key == "" {
		if err := l.p.keys.trying(""); err != nil {
			return err // else who logs it in now might count as brought by the key
		}
	}
	if !l.asking || key != l.tried {
		// A control client takes or forgets a key only when it begins anew. One that has none goes on listening meanwhile, so
		// that it notices when the administrator extends a node key that has expired.
		anew := key != "" || l.tried != ""
		l.asking, l.tried, l.begun, l.url = true, key, time.Now(), ""
		how := "with the auth key of " + from
		if key == "" {
			how = "at a URL that the control server is asked for"
		}
		l.p.log.Info("the tailnet needs a login", "how", how)
		if key != "" {
			if err := l.p.keys.trying(key); err != nil {
				l.p.log.Warn("that a login with the auth key begins cannot be noted", "err", err)
			}
		}
		if anew {
			if err := l.client.Start(ctx, ipn.Options{AuthKey: key}); err != nil {
				return err
			}
		}
		return l.client.StartLoginInteractive(ctx)
	}
	l.p.now.needsLogin(st.AuthURL, joined(l.p.dir))
	if st.AuthURL != "" && st.AuthURL != l.url {
		l.url = st.AuthURL
		l.p.log.Warn("to have this box join the tailnet, somebody has to log in", "url", journal.Private(l.url))
	}
	return nil
}

// connected takes down where the box is reached.
func (l *login) connected(ctx context.Context, st *ipnstate.Status) error {
	if st.CurrentTailnet == nil || st.Self == nil || len(st.TailscaleIPs) == 0 {
		l.p.now.set("starting", "") // it has no network map yet
		return nil
	}
	here := pinOf(l.p.control, st)
	by := l.tried
	if by == "" {
		by = l.p.keys.underWay()
	}
	ok, was, err := here.check(l.p.dir, by != "", l.p.h.Config.Tailnet.Tags)
	if err != nil {
		return err
	}
	if !ok {
		return l.leave(ctx, here, was, Identity{Name: st.User[st.Self.UserID].LoginName, ID: userID(st.Self.UserID)})
	}
	if !l.said {
		if err := keepHome(l.p.dir); err != nil {
			l.p.log.Warn("the state of the tailnet cannot be copied", "err", err)
		}
	}
	l.asking, l.failed, l.why = false, "", ""
	if by != "" {
		l.tried = ""
		if err := l.p.keys.used(by); err != nil {
			l.p.log.Warn("that the auth key was used cannot be noted", "err", err)
		}
		// The control client has the key for as long as it lives, and would try it again at every login, in vain and instead of
		// asking for a URL. One that begins anew goes on with the node key.
		l.p.now.set("starting", "")
		return l.client.Start(ctx, ipn.Options{})
	}
	at := place{tailnet: st.CurrentTailnet.Name, name: strings.TrimSuffix(st.Self.DNSName, "."), addrs: st.TailscaleIPs, certs: st.CertDomains}
	if st.Self.KeyExpiry != nil {
		at.expiry = *st.Self.KeyExpiry
	}
	if len(st.CertDomains) > 0 && !l.secured {
		if err := l.secure(st.CertDomains); err != nil {
			return err
		}
		l.secured = true
	}
	l.p.now.connected(at)
	if !l.said {
		l.said, l.url = true, ""
		l.p.log.Info("the admin plane is in the tailnet", "name", at.name, "addresses", at.addrs, "tls", l.secured)
	}
	return nil
}

// leave takes the box out of a tailnet, or from a user, that it does not belong to.
func (l *login) leave(ctx context.Context, here, home pin, by Identity) error {
	if by.Name == "" {
		by.Name = "somebody"
	}
	why := fmt.Sprintf("This box belongs to the tailnet %s, and %s has logged it in to %s: nobody was served there, and it went back. Its owner has to log in, or extend its key. "+
		"If it is to move, give it an auth key from where it goes, in tailnet.authKeyFile.", home.where(), by.Name, here.where())
	l.p.now.refuse(why)
	l.p.log.Error("the box was logged in to where it does not belong, and goes back", "belongs", home.where(), "login", here.where(), "by", by.Name)
	l.p.gate.noteForeign(by, here.where())
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	if err := l.client.Logout(ctx); err != nil {
		l.p.log.Warn("the box could not log out from where it does not belong; its keys there are forgotten anyway", "err", l.p.keys.redact(err.Error()))
	}
	return errForeign
}

// place is where the box is in the tailnet.
type place struct {
	tailnet, name string
	addrs         []netip.Addr
	certs         []string
	expiry        time.Time // zero: never
}
