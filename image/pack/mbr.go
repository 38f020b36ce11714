package pack

import (
	"encoding/binary"
	"errors"
)

// moveMBR tells the loader in the MBR, which knows kernel and command line by their sectors, that they moved.
func moveMBR(mbr []byte, moved int) error {
	const kernel, cmdline = 432, 436 // see gokrazy's package internal/mbr
	for _, at := range []int{kernel, cmdline} {
		lba := binary.LittleEndian.Uint32(mbr[at:])
		if lba < BootOffset/512 || lba >= RootOffset/512 {
			return errors.New("not gokrazy's MBR")
		}
		binary.LittleEndian.PutUint32(mbr[at:], lba+uint32(moved))
	}
	return nil
}
