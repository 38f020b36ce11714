package update

import "kdht/appliance/update/bootdisk"

// slotsFile is the name of the record of the slots.
const slotsFile = "slots.json"

// slotRecord is what is known of a slot's content.
type slotRecord struct {
	Version string `json:"version"`
	Serial  uint64 `json:"serial"`
	Floor   uint64 `json:"floor,omitempty"` // that its manifest names
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`
	// Boot is where the boot file system lies that it ran with last, as the number of sectors reserved before it.
	Boot int `json:"boot"`
	// Reverted says that its trial was not committed: it is nothing to go back to.
	Reverted bool `json:"reverted,omitempty"`
}

type slots struct {
	Serial uint64 `json:"serial"`          // highest that was ever committed
	Floor  uint64 `json:"floor,omitempty"` // highest of those that were
	// Rejected is the serial of the last release that was tried and did not prove well. It is not pulled again.
	Rejected uint64                        `json:"rejected,omitempty"`
	Doubt    doubt                         `json:"doubt,omitzero"` // about the last one that is not proven to be bad
	Slots    map[bootdisk.Slot]*slotRecord `json:"slots"`
}
