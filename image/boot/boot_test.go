package boot

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"kdht/image/vm"
)

func TestBoot(t *testing.T) {
	for _, m := range []vm.Machine{vm.BIOS(), vm.UEFI(), vm.ARM64(), vm.Pi()} {
		t.Run(m.Name, func(t *testing.T) {
			need(t, m)
			dir := t.TempDir()
			disk, err := vm.NewDisk(filepath.Join(dir, "disk.img"), image(t, m.Instance).Path, 2<<30)
			if err != nil {
				t.Fatal(err)
			}
			lan, err := vm.NewLAN("boot", dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { lan.Close() })
			const mac = "52:54:00:00:00:01"
			nic, err := lan.NIC(mac)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			box, err := vm.Start(ctx, vm.Config{Machine: m, Disk: disk, NICs: []vm.NIC{nic}, Log: logFile(t, "1")})
			if err != nil {
				t.Fatal(err)
			}
			addr, err := lan.Lease(ctx, mac)
			if err != nil {
				t.Error(lan.Log())
				t.Fatal(err)
			}
			t.Logf("%v: lease %v", time.Since(box.Started()), addr)
			body, err := vm.WaitHTTP(ctx, box, lan.HTTP(), "http://"+addr.String()+"/status", func(code int, _ []byte) bool { return code == 200 })
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v: %s", time.Since(box.Started()), body[:3000])
			if err := box.PowerCut(vm.LoseAll()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
