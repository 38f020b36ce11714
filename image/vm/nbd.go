package vm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// The part of the NBD protocol (fixed newstyle handshake, simple replies) that QEMU needs for one export of a disk.
const (
	nbdMagic        = 0x4e42444d41474943 // "NBDMAGIC"
	nbdOption       = 0x49484156454f5054 // "IHAVEOPT"
	nbdOptionReply  = 0x0003e889045565a9
	nbdRequest      = 0x25609513
	nbdReply        = 0x67446698
	nbdFixed        = 1 << 0
	nbdNoZeroes     = 1 << 1
	nbdOptAbort     = 2
	nbdOptGo        = 7
	nbdRepAck       = 1
	nbdRepInfo      = 3
	nbdRepUnsup     = 1<<31 + 1
	nbdExportFlags  = 1<<0 | 1<<2 | 1<<3 // has flags, flush, FUA
	nbdMaxTransfer  = 32 << 20
	nbdCmdRead      = 0
	nbdCmdWrite     = 1
	nbdCmdDisc      = 2
	nbdCmdFlush     = 3
	nbdCmdFlagFUA   = 1
	nbdInfoExport   = 0
	nbdInfoBlock    = 3
	nbdMinimumBlock = sectorSize
)

// blockDevice is what an NBD connection serves. A method that returns errCut ends the connection without an answer.
type blockDevice interface {
	Size() int64
	read(p []byte, off int64) error
	write(p []byte, off int64, fua bool) error
	flush() error
}

// serveNBD answers one client until it goes.
func serveNBD(conn net.Conn, dev blockDevice) error {
	defer conn.Close()
	c := &nbdConn{r: bufio.NewReaderSize(conn, 1<<20), w: bufio.NewWriterSize(conn, 1<<20), dev: dev}
	if err := c.handshake(); err != nil {
		return fmt.Errorf("nbd: handshake: %w", err)
	}
	for {
		if err := c.command(); errors.Is(err, io.EOF) || errors.Is(err, errCut) {
			return nil
		} else if err != nil {
			return fmt.Errorf("nbd: %w", err)
		}
	}
}

type nbdConn struct {
	r   *bufio.Reader
	w   *bufio.Writer
	dev blockDevice
	buf []byte
}

// send writes values in the protocol's byte order.
func (c *nbdConn) send(values ...any) error {
	for _, v := range values {
		if err := binary.Write(c.w, binary.BigEndian, v); err != nil {
			return err
		}
	}
	return c.w.Flush()
}

// handshake agrees on the one export there is, whatever name the client asks for.
func (c *nbdConn) handshake() error {
	var clientFlags uint32
	if err := c.send(uint64(nbdMagic), uint64(nbdOption), uint16(nbdFixed|nbdNoZeroes)); err != nil {
		return err
	}
	if err := binary.Read(c.r, binary.BigEndian, &clientFlags); err != nil {
		return err
	}
	for {
		var head struct {
			Magic       uint64
			Option, Len uint32
		}
		if err := binary.Read(c.r, binary.BigEndian, &head); err != nil {
			return err
		}
		if head.Magic != nbdOption || head.Len > 1<<16 {
			return errors.New("not an option")
		}
		if _, err := c.r.Discard(int(head.Len)); err != nil {
			return err
		}
		reply := func(kind uint32, data ...any) error {
			n := 0
			for _, d := range data {
				n += binary.Size(d)
			}
			return c.send(append([]any{uint64(nbdOptionReply), head.Option, kind, uint32(n)}, data...)...)
		}
		switch head.Option {
		case nbdOptGo:
			return errors.Join(
				reply(nbdRepInfo, uint16(nbdInfoExport), uint64(c.dev.Size()), uint16(nbdExportFlags)),
				reply(nbdRepInfo, uint16(nbdInfoBlock), uint32(nbdMinimumBlock), uint32(4096), uint32(nbdMaxTransfer)),
				reply(nbdRepAck))
		case nbdOptAbort:
			return errors.Join(reply(nbdRepAck), io.EOF)
		default:
			if err := reply(nbdRepUnsup); err != nil {
				return err
			}
		}
	}
}

// command carries out one command.
func (c *nbdConn) command() error {
	var head struct {
		Magic       uint32
		Flags, Type uint16
		Handle      uint64
		Offset      uint64
		Length      uint32
	}
	if err := binary.Read(c.r, binary.BigEndian, &head); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
			return io.EOF // the client was killed
		}
		return err
	}
	if head.Magic != nbdRequest || head.Length > nbdMaxTransfer {
		return errors.New("not a request")
	}
	if cap(c.buf) < int(head.Length) {
		c.buf = make([]byte, head.Length)
	}
	var data []byte
	var err error
	switch buf := c.buf[:head.Length]; head.Type {
	case nbdCmdRead:
		data, err = buf, c.dev.read(buf, int64(head.Offset))
	case nbdCmdWrite:
		if _, err := io.ReadFull(c.r, buf); err != nil {
			return io.EOF
		}
		err = c.dev.write(buf, int64(head.Offset), head.Flags&nbdCmdFlagFUA != 0)
	case nbdCmdFlush:
		err = c.dev.flush()
	case nbdCmdDisc:
		return io.EOF
	default:
		err = syscall.EINVAL
	}
	if errors.Is(err, errCut) {
		return err
	}
	code := uint32(0)
	if err != nil {
		data, code = nil, uint32(syscall.EIO)
	}
	return c.send(uint32(nbdReply), code, head.Handle, data)
}
