package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/net/ipv4"

	"kdht/router/krpc"
)

// swarm plays the nodes that fill a subject's routing table: one socket
// answers for all their addresses.
type swarm struct {
	conn  *ipv4.PacketConn
	nodes []swarmNode
	index map[netip.Addr]int
	done  chan struct{}
}

type swarmNode struct {
	id   krpc.ID
	addr netip.AddrPort
}

// newSwarm starts n nodes from [firstNeighbor] on, with IDs valid for their
// addresses (BEP 42).
func (r *rig) newSwarm(n int) (*swarm, error) {
	s := &swarm{index: make(map[netip.Addr]int, n), done: make(chan struct{})}
	rng := rand.New(rand.NewPCG(2, 2))
	for i, a := 0, firstNeighbor; i < n; i, a = i+1, a.Next() {
		var random krpc.ID
		for j := range random {
			random[j] = byte(rng.Uint32())
		}
		s.index[a] = i
		s.nodes = append(s.nodes, swarmNode{krpc.NodeIDFor(a, byte(rng.Uint32()), random), netip.AddrPortFrom(a, nodeAddr.Port())})
	}
	err := r.gen.Do(func() error {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(nodeAddr.Port())})
		if err != nil {
			return err
		}
		s.conn = ipv4.NewPacketConn(conn)
		return s.conn.SetControlMessage(ipv4.FlagDst, true)
	})
	if err != nil {
		return nil, fmt.Errorf("swarm: %w", err)
	}
	go s.serve()
	return s, nil
}

func (s *swarm) serve() {
	defer close(s.done)
	buf := make([]byte, 2048)
	var m krpc.Message
	for {
		n, cm, from, err := s.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || cm == nil || krpc.Decode(buf[:n], &m) != nil || m.Type != krpc.TypeQuery {
			continue
		}
		dst, _ := netip.AddrFromSlice(cm.Dst.To4())
		i, ok := s.index[dst]
		if !ok {
			continue
		}
		asker := from.(*net.UDPAddr).AddrPort()
		reply := krpc.Message{Type: krpc.TypeResponse, TID: m.TID, ID: s.nodes[i].id, HasID: true,
			IP: netip.AddrPortFrom(asker.Addr().Unmap(), asker.Port())}
		switch {
		case m.HasTarget:
			reply.Nodes = s.closest(m.Target)
		case m.HasInfoHash:
			reply.Nodes = s.closest(m.InfoHash)
		}
		if m.Method == krpc.MethodGetPeers || m.Method == krpc.MethodGet {
			reply.Token = []byte("benchtok")
		}
		out, err := reply.Append(nil)
		if err != nil {
			continue
		}
		// A reply that is lost is asked for again.
		_, _ = s.conn.WriteTo(out, &ipv4.ControlMessage{Src: cm.Dst}, from)
	}
}

// closest is the eight nodes closest to target, in compact form.
func (s *swarm) closest(target krpc.ID) []byte {
	order := make([]int, len(s.nodes))
	for i := range order {
		order[i] = i
	}
	distance := func(i int) (d krpc.ID) {
		for j, b := range s.nodes[i].id {
			d[j] = b ^ target[j]
		}
		return d
	}
	slices.SortFunc(order, func(a, b int) int {
		da, db := distance(a), distance(b)
		return bytes.Compare(da[:], db[:])
	})
	var nodes []byte
	for _, i := range order[:min(8, len(order))] {
		nodes = krpc.AppendNode(nodes, s.nodes[i].id, s.nodes[i].addr)
	}
	return nodes
}

func (s *swarm) close() error {
	err := s.conn.Close()
	<-s.done
	return err
}
