package boot

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"kdht/bpf/testenv"
	"kdht/image/pack"
)

const (
	program = "kdht/appliance/kdht"
	spoiler = "kdht/image/boot/internal/spoiler"
)

// spoilt is an image in which the spoiler starts in the place of our program. Where it does not end, it then runs our program. It is
// built once; what it does, the box has been told by spoils.
func spoilt(t *testing.T) release {
	t.Helper()
	img, err := buildSpoilt()
	must(t, err)
	return releaseOf(t, img)
}

var buildSpoilt = sync.OnceValues(func() (pack.Image, error) {
	src, err := pack.OpenSource(context.Background(), ".")
	if err != nil {
		return pack.Image{}, err
	}
	return pack.Build(context.Background(), src, "amd64", pack.Options{
		Dir: filepath.Join(src.Dir, "bin", "test-image", "spoilt"), Version: "spoilt", Change: func(config map[string]any) {
			packages := config["PackageConfig"].(map[string]any)
			ours := packages[program].(map[string]any)
			ours["DontStart"] = true
			config["Packages"] = append(config["Packages"].([]any), spoiler)
			packages[spoiler] = map[string]any{"CommandLineFlags": append([]any{"/user/kdht"}, ours["CommandLineFlags"].([]any)...)}
		},
	})
})

// spoils tells a new box in what ways its trials of the spoilt image will fail, one after the other.
func (b *box) spoils(ways ...string) *box {
	b.t.Helper()
	testenv.NeedTool(b.t, "e2fsck")
	b.perm(func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "spoil"), []byte(strings.Join(ways, "\n")+"\n"), 0o600)
	})
	return b
}
