package table

import (
	"encoding/binary"
	"fmt"
	"math"
)

// growMBR changes one number in the first sector: a sector is written whole or not at all.
func growMBR(d Device, sectors uint64, number int, mbr []byte) (Growth, error) {
	le := binary.LittleEndian
	all := make([]span, 4)
	for n := range all {
		e := mbr[446+16*n:]
		if e[4] == 0 {
			continue
		}
		if flag := e[0]; flag != 0 && flag != 0x80 {
			return Growth{}, fmt.Errorf("%w: partition %d is neither active nor inactive", ErrUnknown, n+1)
		}
		from := uint64(le.Uint32(e[8:]))
		all[n] = span{from, from + uint64(le.Uint32(e[12:]))}
	}
	if err := check(all, number-1, sectors); err != nil {
		return Growth{}, err
	}
	p := all[number-1]
	to := min(target(sectors), p.from+math.MaxUint32) // 2 TiB is all that an MBR can say
	if to <= p.to {
		return growth("MBR", p, p.to), nil
	}
	le.PutUint32(mbr[446+16*(number-1)+12:], uint32(to-p.from))
	if _, err := d.WriteAt(mbr, 0); err != nil {
		return Growth{}, fmt.Errorf("write partition table: %w", err)
	}
	if err := d.Sync(); err != nil {
		return Growth{}, fmt.Errorf("write partition table: %w", err)
	}
	return growth("MBR", p, to), nil
}
