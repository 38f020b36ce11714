package ext4

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"testing"
	"time"
)

// sparse is a device in memory for the fuzzer: blocks that were never written are zeros.
type sparse struct {
	size   int64
	blocks map[int64][]byte
}

func (s *sparse) access(b []byte, off int64, fn func(block, part []byte)) (int, error) {
	done := 0
	for done < len(b) && off+int64(done) < s.size {
		n, at := (off+int64(done))/blockSize, (off+int64(done))%blockSize
		part := b[done:min(len(b), done+int(blockSize-at), int(s.size-off))]
		block := s.blocks[n]
		if block == nil {
			block = make([]byte, blockSize)
		} else {
			block = append([]byte(nil), block...)
		}
		fn(block[at:], part)
		s.blocks[n] = block
		done += len(part)
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}

func (s *sparse) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, ErrGeometry
	}
	for done := 0; done < len(b); {
		if off+int64(done) >= s.size {
			return done, io.EOF
		}
		n, at := (off+int64(done))/blockSize, int((off+int64(done))%blockSize)
		part := b[done:min(len(b), done+blockSize-at)]
		clear(part)
		if block := s.blocks[n]; block != nil {
			copy(part, block[at:])
		}
		done += len(part)
	}
	return len(b), nil
}

func (s *sparse) WriteAt(b []byte, off int64) (int, error) {
	return s.access(b, off, func(block, part []byte) { copy(block, part) })
}

func (s *sparse) Sync() error { return nil }

// seal makes the checksums of a changed superblock, its descriptors and the first inodes right, so
// that the fuzzer reaches what is behind them.
func (s *sparse) seal() {
	b := make([]byte, superSize)
	if _, err := s.ReadAt(b, superOffset); err != nil {
		return
	}
	var raw superblock
	_, _ = binary.Decode(b, binary.LittleEndian, &raw)
	_, _ = s.WriteAt(raw.encode(), superOffset)
	seed := raw.seed()
	var d groupDesc
	b = make([]byte, descSize)
	_, _ = s.ReadAt(b, blockSize)
	_, _ = binary.Decode(b, binary.LittleEndian, &d)
	_, _ = s.WriteAt(d.encode(seed, 0), blockSize)
	for _, number := range []uint32{inoRoot, inoResize, inoJournal, inoLostFound} {
		var i inode
		off := int64(d.inodeTable())*blockSize + int64(number-1)*inodeSize
		b := make([]byte, inodeSize)
		if _, err := s.ReadAt(b, off); err != nil {
			return
		}
		_, _ = binary.Decode(b, binary.LittleEndian, &i)
		_, _ = s.WriteAt(i.encode(seed, number), off)
	}
}

// FuzzCheck changes bytes of a file system, as places and values, and has every reader of
// this package look at it. What RebuildGroups accepts must be sound afterwards.
func FuzzCheck(f *testing.F) {
	base := &sparse{size: 32 << 20, blocks: map[int64][]byte{}}
	if err := Format(base, Options{Size: base.size, Label: "fuzz", Time: time.Unix(1, 0)}); err != nil {
		f.Fatal(err)
	}
	edit := func(off uint32, b ...byte) (list []byte) {
		for n, x := range b {
			list = append(binary.LittleEndian.AppendUint32(list, off+uint32(n)), x)
		}
		return list
	}
	table := uint32(1+1+reservedBlocks+2) * blockSize
	f.Add([]byte(nil), false)
	f.Add(edit(superOffset+0x28, 0, 0, 0, 0), true)            // no inodes in a group
	f.Add(edit(superOffset+0x4, 0xff, 0xff, 0xff, 0xff), true) // 16 TiB
	f.Add(edit(superOffset+0x150, 0xff, 0xff), true)
	f.Add(edit(superOffset+0xce, 0xff, 0xff), true)
	f.Add(edit(blockSize, 1, 0, 0, 0), true)                     // a bitmap in the descriptors
	f.Add(edit(table+inodeSize+0x28+2, 9, 0, 9, 0, 4), true)     // a deep extent tree
	f.Add(edit(table+inodeSize+0x28+16, 0xff, 0xff, 0xff), true) // a long extent
	f.Add(edit(table+7*inodeSize+0x28+20, 1, 0, 0, 0), true)     // the journal over the descriptors
	f.Add(edit(table+64*blockSize+4, 0, 0), false)               // a directory entry of length 0
	f.Fuzz(func(t *testing.T, edits []byte, seal bool) {
		d := &sparse{size: base.size, blocks: maps.Clone(base.blocks)}
		for ; len(edits) >= 5; edits = edits[5:] {
			off := int64(binary.LittleEndian.Uint32(edits)) % d.size
			if _, err := d.WriteAt(edits[4:5], off); err != nil {
				t.Fatal(err)
			}
		}
		if seal {
			d.seal()
		}
		_, _ = FindSuperblock(d, d.size)
		_, _ = ReadSuperblock(d, 0)
		_, _ = Walk(t.Context(), d, func(x *File) error {
			_, err := io.Copy(io.Discard, io.NewSectionReader(x, 0, min(x.Size, 1<<20)))
			return err
		})
		problems, err := Check(context.Background(), d)
		if err != nil {
			return
		}
		err = RebuildGroups(t.Context(), d)
		if damaged := (*DamagedError)(nil); errors.As(err, &damaged) {
			return
		} else if err != nil {
			t.Fatalf("%v, though the check found %v", err, problems)
		}
		if again, err := Check(t.Context(), d); err != nil || len(again) > 0 {
			t.Fatalf("after rebuilding for %v: %v, %v", problems, again, err)
		}
	})
}
