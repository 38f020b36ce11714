package vm

import (
	"testing"
	"time"

	"kdht/bpf/testenv"
)

// TestAccel starts a machine with the accelerator that is said to work here.
func TestAccel(t *testing.T) {
	m := BIOS()
	testenv.NeedTool(t, m.QEMU())
	accel := m.Accel(t.Context())
	v, err := Start(t.Context(), Config{Machine: m, Disk: newTestDisk(t), Accel: accel, Log: t.Output()})
	must(t, err)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for v.PowerButton(t.Context()) != nil { // until QEMU listens
		select {
		case <-tick.C:
		case <-v.Done():
			t.Fatalf("QEMU ended with %s: %v", accel, v.Wait(t.Context()))
		}
	}
	must(t, v.PowerCut(LoseAll()))
}
