package main

import (
	"errors"

	"kdht/config"
)

type configCmd struct {
	Show  configShowCmd  `cmd:"" help:"Print the effective configuration, every key with its description."`
	Check configCheckCmd `cmd:"" help:"Check configuration files."`
}

type configShowCmd struct {
	configFlags
}

func (configShowCmd) Help() string {
	return `Prints what "kdht serve" with the same flags would use, as a commented configuration file.

Examples:

  kdht config show > kdht.hujson            # a file to begin with
  kdht config show --config kdht.hujson --xdp off`
}

// Run prints the configuration.
func (c *configShowCmd) Run(s *system) error {
	b, err := c.builder()
	if err != nil {
		return err
	}
	text, err := b.Show()
	if err != nil {
		return err
	}
	_, err = s.stdout.Write(text)
	return err
}

type configCheckCmd struct {
	Files []string `arg:"" name:"file" help:"Configuration files (HuJSON)."`
}

func (configCheckCmd) Help() string {
	return `Prints one line FILE:LINE:COLUMN: FAULT; HINT for every fault. Nothing is started or changed.

Examples:

  kdht config check kdht.hujson`
}

// Run checks the files.
func (c *configCheckCmd) Run(s *system) error {
	var faults config.Errors
	for _, path := range c.Files {
		b := config.New()
		err := b.File(path)
		if err == nil {
			_, err = b.Config()
		}
		var e config.Errors
		switch {
		case err == nil:
			s.say("%s: no fault", path)
		case errors.As(err, &e):
			faults = append(faults, e...)
		default:
			return err
		}
	}
	if faults != nil {
		return faults
	}
	return nil
}
