package main

import (
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
	cfg, err := c.applianceConfig(name, file, b.State())
	if err != nil { // the file and the flags do not go together
		b.Reject(err)
		cfg = defaults
	}
	log := newLogger(s.stderr, cfg.Log, kept)
	b.Name(cfg.Hostname)
	return s.served(cfg, log, b.Serve(s.ctx, cfg, defaults, log, s.serve, append(extensions, update.Extension)...))
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
	for key, value := range map[string]string{"http": ":80", "state": state, "xdp.linger": applianceLinger} {
		if b.Origin(key) == "" && value != "" {
			if err := b.Set("--appliance", key, value); err != nil {
				return config.Config{}, err
			}
		}
	}
	return b.Config()
}
