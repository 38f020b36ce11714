package boot

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"kdht/image/vm"
	"kdht/router/krpc"
)

// ask sends a query from an address of the LAN until there is an answer, for at most the given time.
func ask(lan *vm.LAN, from netip.Addr, to netip.AddrPort, q krpc.Message, patience time.Duration) (*krpc.Message, error) {
	conn, err := lan.ListenUDP(netip.AddrPortFrom(from, 0))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	q.Type, q.TID, q.HasID, q.ReadOnly, q.HasReadOnly = krpc.TypeQuery, []byte("aa"), true, true, true
	q.ID = sha1.Sum([]byte(from.String()))
	b, err := q.Append(nil)
	if err != nil {
		return nil, err
	}
	var buf [2048]byte
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := conn.WriteToUDPAddrPort(b, to); err != nil {
			return nil, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			return nil, err
		}
		n, _, err := conn.ReadFromUDPAddrPort(buf[:])
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return nil, err
		}
		m := new(krpc.Message)
		if err := krpc.Decode(append([]byte(nil), buf[:n]...), m); err != nil {
			return nil, fmt.Errorf("answer %q: %w", buf[:n], err)
		}
		if m.Type != krpc.TypeQuery {
			return m, nil
		}
	}
	return nil, fmt.Errorf("no answer from %v within %v", to, patience)
}
