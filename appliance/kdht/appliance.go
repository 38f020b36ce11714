package main

import (
	"path/filepath"

	"kdht/appliance/admin"
	"kdht/appliance/admin/change"
	"kdht/appliance/box"
	"kdht/appliance/journal"
	"kdht/appliance/update"
	"kdht/config"
)

// beAppliance runs the node as the appliance: what the machine needs at boot comes before and around it.
func (c *serveCmd) beAppliance(s *system) error {
	if c.Config != "" {
		return usage("put the file on the boot partition as kdht.hujson, or leave --appliance out", "--config and --appliance exclude each other")
	}
	if _, err := c.applianceConfig("", nil, ""); err != nil { // the flags alone
		return err
	}
	kept := journal.New(journal.DefaultBytes) // what is logged at boot, too
	b, err := s.boot(s.ctx, newLogger(s.stderr, config.Log{}, kept))
	if err != nil {
		return failed(err, "leave --appliance out, or boot an image (\"make image\")", "--appliance")
	}
	defaults, err := c.applianceConfig("", nil, b.State())
	if err != nil {
		return err
	}
	name, file := b.Configuration()
	h := change.Open(filepath.Join(b.State(), historyDir), filepath.Join(b.State(), name))
	said, errStart := h.Start()
	if said != "" { // the file may be another one now
		if file, err = h.Text(); err != nil {
			return err
		}
	}
	read := func(text []byte) (config.Config, error) { return c.applianceConfig(name, text, b.State()) }
	cfg, err := read(file)
	if err != nil { // the file and the flags do not go together
		b.Reject(err)
		cfg = defaults
	}
	log := newLogger(s.stderr, cfg.Log, kept)
	if errStart != nil {
		log.Warn("changes of the configuration", "err", errStart)
	}
	b.Name(cfg.Hostname)
	serve := trying(s.serve, h, func() (config.Config, error) {
		text, err := h.Text()
		if err != nil {
			return config.Config{}, err
		}
		return read(text)
	})
	s.again = nil // who started it does that, as after a crash
	plane := admin.Extension(admin.Options{History: h, Check: read, Appliance: true})
	return s.served(cfg, log, b.Serve(s.ctx, cfg, defaults, log, serve, append(extensions, update.Extension, plane)...))
}

// applianceLinger lets the kernel half answer until gokrazy has started the program again.
const applianceLinger = "30s"

// applianceConfig is the configuration that a file, the flags and the appliance's own defaults give.
func (c *serveCmd) applianceConfig(name string, file []byte, state string) (config.Config, error) {
	b := config.New()
	if err := b.Parse(name, file); err != nil {
		return config.Config{}, err
	}
	if err := c.override(b); err != nil {
		return config.Config{}, err
	}
	for key, value := range map[string]string{"http": box.DefaultWeb, "state": state, "xdp.linger": applianceLinger} {
		if b.Origin(key) == "" && value != "" {
			if err := b.Set("--appliance", key, value); err != nil {
				return config.Config{}, err
			}
		}
	}
	return b.Config()
}
