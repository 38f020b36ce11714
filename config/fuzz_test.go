package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"kdht/config"
)

// FuzzParse checks that no file makes the parser panic, and that what it accepts survives being printed and read.
func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(`{"listen": ":1", "bootstrap": "none", "store": {"maxBytes": "1.5GiB"}}`))
	f.Add([]byte(`{"http": "[::1%eth0]:80", "listen": "[fe80::1%eth0]:1"}`))
	f.Add([]byte("\ufeff{'a': #}"))
	f.Add([]byte(`{"xdp": {"lease": "0.5h"}, "limits": {"queriesPerNode": 1e-1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("f", data)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("empty error")
			}
			return
		}
		shown := c.HuJSON(nil)
		again, err := config.Parse("shown", shown)
		if err != nil {
			t.Fatalf("%v\n%s", err, shown)
		}
		c.Tailnet.AuthKey = "" // nobody is shown
		if diff := cmp.Diff(c, again, equate); diff != "" {
			t.Fatal(diff)
		}
	})
}
