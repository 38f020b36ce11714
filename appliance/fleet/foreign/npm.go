package foreign

import (
	"context"
	"crypto/sha256"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed webtorrent/package.json webtorrent/package-lock.json webtorrent/client.mjs
//go:embed pkarr/package.json pkarr/package-lock.json pkarr/client.mjs
var npmFiles embed.FS

// installNPM installs what a folder of npmFiles names from npm into the user's cache, once for each version of its files, and
// returns the script there.
func installNPM(ctx context.Context, folder string) (script string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	files := make(map[string][]byte)
	sum := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json", "client.mjs"} {
		if files[name], err = npmFiles.ReadFile(folder + "/" + name); err != nil {
			return "", err
		}
		sum.Write(files[name])
	}
	dir := filepath.Join(cache, "kdht", fmt.Sprintf("%s-%x", folder, sum.Sum(nil)[:8]))
	script = filepath.Join(dir, "client.mjs")
	if _, err := os.Stat(script); err == nil {
		return script, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "install-") // complete or not there at all
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(tmp, name), b, 0o644); err != nil {
			return "", err
		}
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("foreign: npm ci: %w\n%s", err, out)
	}
	if err := os.Rename(tmp, dir); err != nil {
		if _, statErr := os.Stat(script); statErr != nil { // else another process was faster
			return "", err
		}
	}
	return script, nil
}

// InstallPkarr installs pkarr's own client from npm and returns the script to start with the URLs of relays.
func InstallPkarr(ctx context.Context) (script string, err error) { return installNPM(ctx, "pkarr") }
