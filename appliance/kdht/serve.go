package main

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"

	"kdht/appliance"
	"kdht/appliance/admin"
	"kdht/appliance/admin/change"
	"kdht/appliance/bundle"
	"kdht/appliance/discover"
	"kdht/appliance/gateway"
	"kdht/appliance/journal"
	"kdht/appliance/tools"
	"kdht/appliance/update"
	"kdht/config"
	"kdht/store"
)

// configFlags are the flags that make a configuration: a file, and what overrides it.
type configFlags struct {
	Config    string   `placeholder:"FILE" help:"Configuration file (HuJSON). Without one everything has its default."`
	State     *string  `placeholder:"DIR" help:"Directory of the database."`
	Listen    []string `placeholder:"ADDR:PORT" help:"UDP address to serve on, IPv4 or IPv6; repeatable."`
	HTTP      *string  `name:"http" placeholder:"ADDR:PORT" help:"TCP address of the status page; \"off\" for none."`
	Bootstrap []string `placeholder:"HOST:PORT" env:"KDHT_BOOTSTRAP" help:"Node to join through; repeatable; \"none\" for the first node of a network."`
	Network   string   `placeholder:"public|private" env:"KDHT_NETWORK" help:"Which DHT the node belongs to."`
	Interface []string `placeholder:"NAME" help:"Interface at which the kernel half answers; repeatable; all suitable ones if not given."`
	XDP       *string  `name:"xdp" placeholder:"auto|native|generic|off" help:"Where the kernel half is attached."`
	LogLevel  *string  `placeholder:"LEVEL" help:"Least severity that is logged: debug, info, warn or error."`
	LogFormat *string  `placeholder:"text|json" help:"Format of log lines."`
	Set       []string `sep:"none" placeholder:"KEY=VALUE" help:"Any other key of the configuration, as in store.maxBytes=1GiB; repeatable."`
}

// builder gathers the configuration from file and flags.
func (f *configFlags) builder() (*config.Builder, error) {
	b := config.New()
	if f.Config != "" {
		if err := b.File(f.Config); err != nil {
			return nil, err
		}
	}
	return b, f.override(b)
}

// override sets what flags say.
func (f *configFlags) override(b *config.Builder) error {
	var faults config.Errors
	set := func(flag, key string, values ...string) {
		if len(values) == 0 || len(values) == 1 && values[0] == "" {
			return // empty in the environment is as good as not there
		}
		var e config.Errors
		if err := b.Set(flag, key, values...); errors.As(err, &e) {
			faults = append(faults, e...)
		}
	}
	set1 := func(flag, key string, value *string) {
		switch {
		case value == nil:
		case *value == "":
			faults = append(faults, &config.Error{Origin: flag, Key: key, Msg: "there is no value", Hint: "leave the flag out for the default"})
		default:
			set(flag, key, *value)
		}
	}
	set1("--state", "state", f.State)
	set("--listen", "listen", f.Listen...)
	set1("--http", "http", f.HTTP)
	set("--bootstrap", "bootstrap", f.Bootstrap...)
	set("--network", "network", f.Network)
	set("--interface", "interfaces", f.Interface...)
	set1("--xdp", "xdp.mode", f.XDP)
	set1("--log-level", "log.level", f.LogLevel)
	set1("--log-format", "log.format", f.LogFormat)
	for _, s := range f.Set {
		key, value, ok := strings.Cut(s, "=")
		if !ok || value == "" {
			return usage("write KEY=VALUE, as in --set store.maxBytes=1GiB; \"kdht config show\" lists the keys", "--set %s: there is no value", s)
		}
		set("--set "+key, key, strings.Split(value, ",")...)
	}
	if faults != nil {
		return faults
	}
	return nil
}

type serveCmd struct {
	configFlags
	Appliance bool `help:"Be the appliance: state in /perm, configuration from the boot partition, page on port 80, console."`
}

func (serveCmd) Help() string {
	return `Runs a node of the public DHT on UDP port 6881, unless told otherwise, with a status page on port 8080.

Examples:

  kdht serve
  kdht serve --state ./var --listen 0.0.0.0:7000 --http off
  kdht serve --network private                             # nodes on one LAN find each other
  kdht serve --network private --bootstrap 10.0.0.1:6881   # one elsewhere
  kdht serve --config /etc/kdht.hujson --xdp off

With --appliance, as the image runs it under gokrazy, the program also does what a machine without keyboard needs. Files
in the root of its boot partition, which any computer can write, tell it what to do at the next start:
  kdht.hujson             the configuration; "kdht config check" finds its faults beforehand
  tailnet.key             an auth key to join the tailnet with; it is removed once it is kept
  gokr-pw.txt             the password for updates over the network; it is removed once it is kept
  factory-reset           forgets everything but the node's identity
  factory-reset-identity  forgets that, too
The status page is then on port 80, the state in /perm/kdht, or in memory while /perm cannot be used; the name of the
machine is made from its MAC address, unless the key "hostname" says another; addresses, node IDs and problems appear on
the console.

SIGTERM or SIGINT stop it cleanly; a second one stops it at once.`
}

// secretFiles are those that no support bundle may tell of: passwords for updates, and the auth key of the tailnet.
var secretFiles = append([]string{"gokr-pw.txt", "tailnet.key"}, update.PasswordFiles...)

// extensions are what the program adds to a node.
var extensions = []appliance.Extension{discover.Extend, gateway.Extension(admin.Authority), bundle.Extension(bundle.Options{May: []func(*http.Request) bool{admin.MayLook}, SecretFiles: secretFiles}), tools.Extension()}

// Run runs the node.
func (c *serveCmd) Run(s *system) error {
	if c.Appliance {
		return c.beAppliance(s)
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	kept := journal.New(journal.DefaultBytes)
	if c.Config == "" {
		log := newLogger(s.stderr, cfg.Log, kept)
		return s.served(cfg, log, s.serve(s.ctx, cfg, log, append(extensions, admin.Extension(admin.Options{}))...))
	}
	h := change.Open(filepath.Join(cfg.State, historyDir), c.Config)
	said, err := h.Start()
	if said != "" { // the file may be another one now
		if cfg, err = c.config(); err != nil {
			return err
		}
	}
	log := newLogger(s.stderr, cfg.Log, kept)
	if err != nil {
		log.Warn("changes of the configuration", "err", err)
	}
	plane := admin.Extension(admin.Options{History: h, Check: func(text []byte) (config.Config, error) {
		return c.read(c.Config, text)
	}})
	return s.served(cfg, log, trying(s.serve, h, c.config)(s.ctx, cfg, log, append(extensions, plane)...))
}

// config is the configuration that the file and the flags give.
func (f *configFlags) config() (config.Config, error) {
	b, err := f.builder()
	if err != nil {
		return config.Config{}, err
	}
	return b.Config()
}

// read is the configuration that the text of a file and the flags give.
func (f *configFlags) read(name string, text []byte) (config.Config, error) {
	b := config.New()
	if err := b.Parse(name, text); err != nil {
		return config.Config{}, err
	}
	if err := f.override(b); err != nil {
		return config.Config{}, err
	}
	return b.Config()
}

// served is the error of the command after the node has stopped.
func (s *system) served(cfg config.Config, log *slog.Logger, err error) error {
	if s.ctx.Err() != nil && (err == nil || errors.Is(err, s.ctx.Err()) || errors.Is(err, appliance.ErrRestart)) {
		return nil // it was asked to stop
	}
	f := &failure{code: exitFailure, msg: "the node stopped", err: err, hint: serveHint(err)}
	switch {
	case errors.Is(err, appliance.ErrRestart) && s.again != nil:
		log.Info("the program starts anew")
		f.err, f.hint = s.again(), "start it again" // it returns only with an error
	case errors.Is(err, appliance.ErrRestart):
		f.hint = "who runs it starts it again" // gokrazy does, after any exit code but 0 and 125
	case err == nil:
		// Success would keep gokrazy from starting it again.
		f = failed(nil, "this is a fault of the program; its last log lines say more", "the node stopped without being told to")
	}
	if cfg.Log.Format == config.LogJSON { // whoever reads the log reads nothing else
		attrs := []any{"hint", f.hint}
		if err != nil {
			attrs = append([]any{"err", err}, attrs...)
		}
		log.Error(f.msg, attrs...)
		f.said = true
	}
	return f
}

// serveHint says what helps against an error that ended the node.
func serveHint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "\"ss -lnup\" and \"ss -lntp\" show which program has a port; \"kdht config show\" with the same flags shows what this one wants"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "listen on an address of this machine; \"ip address\" lists them, and 0.0.0.0 and [::] stand for all"
	case errors.Is(err, fs.ErrPermission):
		return "run it as a user that may do that, or choose another directory with --state, or a port above 1023"
	case errors.Is(err, syscall.ENOSPC):
		return "make room on the disk, or choose another directory with --state"
	case errors.Is(err, store.ErrLocked):
		return "stop the other one, or choose another directory with --state"
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EROFS):
		return "choose another directory with --state"
	}
	return "log lines before this one, if there are any, say more; --log-level debug says most"
}

// newLogger returns the logger that the configuration asks for, whose lines a journal keeps.
func newLogger(w io.Writer, c config.Log, kept *journal.Journal) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.Level}
	if c.Format == config.LogJSON {
		return slog.New(kept.Handler(slog.NewJSONHandler(w, opts)))
	}
	return slog.New(kept.Handler(slog.NewTextHandler(w, opts)))
}
