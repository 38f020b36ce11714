package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// platform is what the default of the state directory depends on.
type platform struct {
	getenv func(string) string
	isDir  func(string) bool
	home   func() (string, error)
	uid    int
}

// thisPlatform is the machine that the program runs on.
func thisPlatform() platform {
	return platform{
		getenv: os.Getenv,
		isDir:  func(path string) bool { fi, err := os.Stat(path); return err == nil && fi.IsDir() },
		home:   os.UserHomeDir,
		uid:    os.Getuid(),
	}
}

// stateDir is the platform's place for state: what systemd assigned (StateDirectory=, several are separated by
// colons), gokrazy's persistent partition, the file hierarchy standard's for root, the XDG base directory's for users.
func (p platform) stateDir() (string, error) {
	if dir, _, _ := strings.Cut(p.getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir, nil
	}
	if p.isDir("/gokrazy") && p.isDir("/perm") {
		return "/perm/kdht", nil
	}
	if p.uid == 0 {
		return "/var/lib/kdht", nil
	}
	// The specification says that relative paths are to be ignored.
	if dir := p.getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "kdht"), nil
	}
	home, err := p.home()
	if err != nil || home == "" {
		return "", errors.New("there is no home directory to keep state in")
	}
	return filepath.Join(home, ".local", "state", "kdht"), nil
}
