package boot

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"kdht/image/pack"
)

const (
	program = "kdht/appliance/kdht"
	spoiler = "kdht/image/boot/internal/spoiler"
)

// variants are built once, one after the other.
var variants struct {
	sync.Mutex
	built map[string]pack.Image
}

// variant builds an instance with another configuration. The name of the variant is its version, too.
func variant(t *testing.T, instance, name string, change func(config map[string]any)) pack.Image {
	t.Helper()
	variants.Lock()
	defer variants.Unlock()
	if img, ok := variants.built[instance+name]; ok {
		return img
	}
	src, err := pack.OpenSource(context.Background(), ".")
	must(t, err)
	img, err := pack.Build(t.Context(), src, instance, pack.Options{
		Dir: filepath.Join(src.Dir, "bin", "test-image", name), Version: name, Change: change,
	})
	must(t, err)
	if variants.built == nil {
		variants.built = make(map[string]pack.Image)
	}
	variants.built[instance+name] = img
	return img
}

// spoilt has the spoiler start in the place of our program. Where it does not end, it then runs our program.
func spoilt(way string) func(config map[string]any) {
	return func(config map[string]any) {
		packages := config["PackageConfig"].(map[string]any)
		ours := packages[program].(map[string]any)
		ours["DontStart"] = true
		config["Packages"] = append(config["Packages"].([]any), spoiler)
		packages[spoiler] = map[string]any{
			"CommandLineFlags": append([]any{way, "/user/kdht"}, ours["CommandLineFlags"].([]any)...),
		}
	}
}
