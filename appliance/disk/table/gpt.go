package table

import (
	"bytes"
	"fmt"
)

// The kernel uses the primary GPT or none (without the boot parameter "gpt" it never looks for
// the backup of a damaged one), so the primary must be valid after every sector written.
// A header carries the checksum of the entries: it cannot be changed together with them, but it
// can be switched from one array of entries to another, by one sector:
//
//  1. the backup, at the disk's new end: entries, then header;
//  2. the new entries to unused space before the first partition;
//  3. the primary header, naming that space (sector 1);
//  4. the new entries to their usual place, sector 2, where gokrazy's init reads the
//     partitions' GUIDs;
//  5. the primary header, naming sector 2; the space of step 2 is wiped.
//
// Each step ends with a flush. The first MBR sector is not touched: the hybrid MBR does
// not mention the partition that grows.

// arraySectors is what 128 entries fill.
const arraySectors = entries * entrySize / sector

func growGPT(d Device, sectors uint64, number int) (Growth, error) {
	old, err := readHeader(d, 1, sectors)
	if err != nil {
		return Growth{}, err
	}
	all := old.spans()
	end := sectors - 1 - arraySectors // exclusive
	if err := check(all, number-1, end); err != nil {
		return Growth{}, err
	}
	first := end
	for _, s := range all {
		if s != (span{}) {
			first = min(first, s.from)
		}
	}
	if first < 2+arraySectors {
		return Growth{}, fmt.Errorf("%w: a partition begins at sector %d", ErrDamaged, first)
	}
	p := all[number-1]
	to := max(target(end), p.to)
	next := old.grown(number-1, to, sectors)
	w := writer{d}
	spare, err := w.spare(next, first)
	if err != nil {
		return Growth{}, err
	}
	if err := w.backup(next, sectors); err != nil {
		return Growth{}, err
	}
	if err := w.primary(old, next, spare); err != nil {
		return Growth{}, err
	}
	return growth("GPT", p, to), nil
}

// grown gives the header and entries as they should be.
func (h *header) grown(n int, to, sectors uint64) *header {
	next := *h
	next.entries = bytes.Clone(h.entries)
	next.setLast(n, to-1)
	next.AlternateLBA = sectors - 1
	next.FirstUsable = 2 + arraySectors
	next.LastUsable = sectors - 2 - arraySectors
	next.EntriesLBA = 2
	return &next
}

// A writer writes what differs from what is there.
type writer struct{ d Device }

// backup brings the copy at the end of the disk up to date.
func (w writer) backup(next *header, sectors uint64) error {
	b := *next
	b.MyLBA, b.AlternateLBA = sectors-1, 1
	b.EntriesLBA = sectors - 1 - arraySectors
	if err := w.put(b.EntriesLBA, b.entries); err != nil {
		return err
	}
	return w.put(b.MyLBA, b.encode())
}

// primary brings the table at the beginning up to date, by way of the spare sectors;
// old is valid now.
func (w writer) primary(old, next *header, spare uint64) error {
	there := make([]byte, len(next.entries))
	if _, err := w.d.ReadAt(there, 2*sector); err != nil {
		return fmt.Errorf("read partition table: %w", err)
	}
	if bytes.Equal(there, next.entries) {
		return w.finish(old, next)
	}
	current := *old
	if old.EntriesLBA == 2 {
		if err := w.put(spare, next.entries); err != nil {
			return err
		}
		current = *next
		current.EntriesLBA, current.FirstUsable = spare, spare+arraySectors
		if err := w.put(1, current.encode()); err != nil {
			return err
		}
	}
	if err := w.put(2, next.entries); err != nil {
		return err
	}
	return w.finish(&current, next)
}

// finish names the usual place, and wipes the other one, if there was one.
func (w writer) finish(current, next *header) error {
	if err := w.put(1, next.encode()); err != nil {
		return err
	}
	if current.EntriesLBA == 2 {
		return nil
	}
	return w.put(current.EntriesLBA, make([]byte, len(next.entries)))
}

// spare finds sectors between the table and the first partition that are unused, or
// hold what an interrupted run wrote there.
func (w writer) spare(next *header, first uint64) (uint64, error) {
	b := make([]byte, arraySectors*sector)
	for at := uint64(2 + arraySectors); at+arraySectors <= first; at += arraySectors {
		if _, err := w.d.ReadAt(b, int64(at)*sector); err != nil {
			return 0, fmt.Errorf("read partition table: %w", err)
		}
		if unused(b, next.entries) {
			return at, nil
		}
	}
	return 0, ErrNoRoom
}

// unused says whether every sector of b is zero, or what is to be written there.
func unused(b, entries []byte) bool {
	zeros := make([]byte, sector)
	for at := 0; at < len(b); at += sector {
		if s := b[at : at+sector]; !bytes.Equal(s, zeros) && !bytes.Equal(s, entries[at:at+sector]) {
			return false
		}
	}
	return true
}

// put writes b to a sector and flushes, unless it is there already.
func (w writer) put(lba uint64, b []byte) error {
	there := make([]byte, len(b))
	if _, err := w.d.ReadAt(there, int64(lba)*sector); err == nil && bytes.Equal(there, b) {
		return nil
	}
	if _, err := w.d.WriteAt(b, int64(lba)*sector); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	if err := w.d.Sync(); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	return nil
}
