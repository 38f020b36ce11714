package appliance

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kdht/appliance/status"
)

func TestTemperaturesAreThoseOfTheKernelElseOfChips(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  []status.Temperature
	}{
		"a Raspberry Pi": {map[string]string{
			"thermal/thermal_zone0/type": "cpu-thermal\n", "thermal/thermal_zone0/temp": "47712\n",
			"hwmon/hwmon0/name": "cpu_thermal\n", "hwmon/hwmon0/temp1_input": "47712\n",
		}, []status.Temperature{{Name: "cpu-thermal", Celsius: 47.712}}},
		"a PC whose firmware watches nothing": {map[string]string{
			"hwmon/hwmon1/name": "k10temp\n", "hwmon/hwmon1/temp1_input": "39500\n", "hwmon/hwmon1/temp1_label": "Tctl\n",
			"hwmon/hwmon1/temp2_input": "-274000\n", "hwmon/hwmon1/temp3_input": "no\n",
		}, []status.Temperature{{Name: "k10temp Tctl", Celsius: 39.5}}},
		"a virtual machine": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			sys := t.TempDir()
			for path, text := range c.files {
				path = filepath.Join(sys, "class", path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(c.want, temperatures(sys)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDiskAndMemoryAreKnownHere(t *testing.T) {
	d := diskOf(t.TempDir())
	if d.Size <= 0 || d.Free < 0 || d.Free > d.Size {
		t.Errorf("%+v", d)
	}
	if d := diskOf(filepath.Join(t.TempDir(), "missing")); d.Size != 0 {
		t.Errorf("%+v", d)
	}
	if up := Uptime(); up < time.Second {
		t.Errorf("the machine runs for %s", up)
	}
	if r := resident(); r < 1<<20 {
		t.Errorf("%d bytes", r)
	}
}
