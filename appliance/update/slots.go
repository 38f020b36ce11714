package update

import "kdht/appliance/update/bootdisk"

// slotsFile is the name of the record of the slots.
const slotsFile = "slots.json"

// slotRecord is what is known of a slot's content.
type slotRecord struct {
	Version string `json:"version"`
	Serial  uint64 `json:"serial"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`
	// Boot is where the boot file system lies that it ran with last, as the number of sectors reserved before it.
	Boot int `json:"boot"`
}

type slots struct {
	Serial uint64 `json:"serial"` // highest that was ever committed
	// Rejected is the serial of the last release that was tried and did not prove well. It is not pulled again.
	Rejected uint64 `json:"rejected,omitempty"`
	// CutOff is the serial of the last release whose trial ended without a word, once: by a crash, or by the power, which
	// says nothing about the release. It is pulled once more.
	CutOff uint64                        `json:"cutOff,omitempty"`
	Slots  map[bootdisk.Slot]*slotRecord `json:"slots"`
}
