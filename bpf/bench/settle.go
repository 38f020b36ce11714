package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"kdht/router/krpc"
)

const (
	// probes is how many random targets are asked for to see how full a table is.
	probes = 200
	// probePort is the port they come from: one that is not the generator's.
	probePort = 6880
	// settleTime bounds how long a table may take to fill.
	settleTime = 2 * time.Minute
)

// errNotReady says that the node's answers do not hold eight contacts yet.
var errNotReady = errors.New("not ready")

// settle waits until every find_node is answered with eight contacts and the
// contacts handed out become no more.
func (r *rig) settle(exited <-chan struct{}) error {
	conn, err := r.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline := time.Now().Add(settleTime)
	best, since := 0, time.Now()
	for {
		n, err := probe(conn)
		switch {
		case err != nil && !errors.Is(err, errNotReady):
			return err
		case err == nil && n > best:
			best, since = n, time.Now()
		case err == nil && time.Since(since) > 6*time.Second:
			r.log("  table settled: %d contacts seen in %d answers\n", best, probes)
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("its table did not fill within %v: %w (best %d contacts)", settleTime, err, best)
		}
		select {
		case <-exited:
			return errors.New("it exited")
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// dial opens a socket to the node, from the generator's side.
func (r *rig) dial() (conn net.Conn, err error) {
	err = r.gen.Do(func() (err error) {
		local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(genAddr.Addr(), probePort))
		conn, err = net.DialUDP("udp4", local, net.UDPAddrFromAddrPort(nodeAddr))
		return err
	})
	return conn, err
}

// probe counts the different contacts in the answers to random find_node queries.
func probe(conn net.Conn) (int, error) {
	seen := make(map[netip.AddrPort]bool)
	buf := make([]byte, 2048)
	for i := range probes {
		q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodFindNode, TID: []byte{byte(i), 'p'},
			HasID: true, HasTarget: true, ReadOnly: true}
		for j := range q.Target {
			q.ID[j], q.Target[j] = byte(rand.Uint32()), byte(rand.Uint32())
		}
		out, err := q.Append(nil)
		if err != nil {
			return 0, err
		}
		if _, err := conn.Write(out); err != nil {
			return 0, fmt.Errorf("%w: %w", errNotReady, err) // refused: the port is not open yet
		}
		if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return 0, err
		}
		n, err := conn.Read(buf)
		var m krpc.Message
		if err == nil {
			err = krpc.Decode(buf[:n], &m)
		}
		if err != nil {
			return 0, fmt.Errorf("%w: answer %d: %w", errNotReady, i, err)
		}
		if len(m.Nodes) != 8*26 {
			return 0, fmt.Errorf("%w: %d bytes of contacts", errNotReady, len(m.Nodes))
		}
		for _, a := range krpc.Nodes(m.Nodes) {
			seen[a] = true
		}
	}
	return len(seen), nil
}
