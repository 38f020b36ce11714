package table_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strconv"
	"testing"

	"kdht/appliance/disk/disktest"
	"kdht/appliance/disk/table"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func poke(t testing.TB, m *disktest.Memory, off int64, b ...byte) {
	t.Helper()
	if _, err := m.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// reseal makes the checksums of a changed GPT right again.
func reseal(t testing.TB, m *disktest.Memory) {
	t.Helper()
	b := make([]byte, 34*512)
	if _, err := m.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	h := b[512:604]
	binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(b[1024:]))
	binary.LittleEndian.PutUint32(h[16:], 0)
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	poke(t, m, 512, h...)
}

func TestGrowRefuses(t *testing.T) {
	le := binary.LittleEndian
	cases := map[string]struct {
		disk   *disktest.Memory
		change func(*disktest.Memory)
		want   error
	}{
		"blank disk":          {disktest.NewMemory(gib), func(*disktest.Memory) {}, table.ErrUnknown},
		"tiny disk":           {disktest.NewMemory(512), func(*disktest.Memory) {}, table.ErrUnknown},
		"GPT header damaged":  {gpt(t, 2*gib), func(m *disktest.Memory) { poke(t, m, 512+24, 9) }, table.ErrDamaged},
		"GPT header gone":     {gpt(t, 2*gib), func(m *disktest.Memory) { poke(t, m, 512, 0) }, table.ErrDamaged},
		"GPT entries damaged": {gpt(t, 2*gib), func(m *disktest.Memory) { poke(t, m, 1024+50, 9) }, table.ErrDamaged},
		"GPT newer revision":  {gpt(t, 2*gib), func(m *disktest.Memory) { poke(t, m, 512+10, 2); reseal(t, m) }, table.ErrUnknown},
		"GPT entry beyond 64 bits": {gpt(t, 2*gib), func(m *disktest.Memory) {
			poke(t, m, 1024+3*128+40, le.AppendUint64(nil, 1<<64-1)...)
			reseal(t, m)
		}, table.ErrDamaged},
		"GPT without partition 4": {gpt(t, 2*gib), func(m *disktest.Memory) {
			poke(t, m, 1024+3*128, make([]byte, 128)...)
			reseal(t, m)
		}, table.ErrUnknown},
		"GPT with a partition behind": {gpt(t, 2*gib), func(m *disktest.Memory) {
			e := make([]byte, 128)
			e[0] = 1
			le.PutUint64(e[32:], 3<<20)
			le.PutUint64(e[40:], 3<<20+7)
			poke(t, m, 1024+4*128, e...)
			reseal(t, m)
		}, table.ErrNotLast},
		"GPT partitions overlap": {gpt(t, 2*gib), func(m *disktest.Memory) {
			poke(t, m, 1024+2*128+40, le.AppendUint64(nil, disktest.PermStart/512)...)
			reseal(t, m)
		}, table.ErrDamaged},
		"GPT on a smaller disk": {gpt(t, gib), func(*disktest.Memory) {}, table.ErrDiskTooSmall},
		"GPT and a boot loader in the gap": {gpt(t, 2*gib), func(m *disktest.Memory) {
			for lba := int64(34); lba < 8192; lba++ {
				poke(t, m, lba*512, 1)
			}
		}, table.ErrNoRoom},
		"MBR on a smaller disk":      {mbr(t, gib), func(*disktest.Memory) {}, table.ErrDiskTooSmall},
		"MBR without partition 4":    {mbr(t, 2*gib), func(m *disktest.Memory) { poke(t, m, 446+3*16+4, 0) }, table.ErrUnknown},
		"MBR partition 4 is first":   {mbr(t, 2*gib), func(m *disktest.Memory) { poke(t, m, 446+3*16+8, 1, 0, 0, 0, 1, 0, 0, 0) }, table.ErrNotLast},
		"a FAT boot sector, no MBR":  {mbr(t, 2*gib), func(m *disktest.Memory) { poke(t, m, 446, 0x41) }, table.ErrUnknown},
		"partition of the whole MBR": {mbr(t, 2*gib), func(m *disktest.Memory) { poke(t, m, 446+8, 0, 0, 0, 0) }, table.ErrDamaged},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.change(c.disk)
			m := c.disk.Clone()
			_, err := table.Grow(m, m.Size(), 4)
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if m.Writes() != 0 {
				t.Errorf("%d sectors written to a refused disk", m.Writes())
			}
		})
	}
}

// FuzzGrow gives Grow any first sectors: whatever it accepts, it must accept again and
// find nothing left to do.
func FuzzGrow(f *testing.F) {
	head := func(m *disktest.Memory) []byte {
		b := make([]byte, 3*512)
		if _, err := m.ReadAt(b, 0); err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(head(gpt(f, 2*gib)), int64(4), true)
	f.Add(head(mbr(f, 2*gib)), int64(4), false)
	f.Fuzz(func(t *testing.T, b []byte, number int64, seal bool) {
		m := disktest.NewMemory(2 * gib)
		poke(t, m, 0, b[:min(len(b), 34*512)]...)
		if seal {
			reseal(t, m)
		}
		g, err := table.Grow(m, m.Size(), int(number))
		if err != nil {
			return
		}
		if g.To < g.From || g.Start+g.To > m.Size() {
			t.Fatalf("%+v on a disk of %d bytes", g, m.Size())
		}
		if again, err := table.Grow(m, m.Size(), int(number)); err != nil || again.From != g.To || again.To != g.To {
			t.Fatalf("%+v, and then %+v, %v", g, again, err)
		}
	})
}
