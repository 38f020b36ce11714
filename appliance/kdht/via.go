package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"kdht/config"
	"kdht/router/krpc"
)

// viaPort is the port of a node that --via names without one.
const viaPort = "6881"

// viaPatience is how long to wait for an answer before the query counts as lost: a node answers within 5 seconds.
const viaPatience = 5500 * time.Millisecond

// viaNode gives the HOST:PORT of --via.
func viaNode(s string) (string, error) {
	if _, _, err := net.SplitHostPort(s); err != nil {
		host := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
		if a, err := netip.ParseAddr(host); err == nil || !strings.Contains(host, ":") {
			if err == nil {
				host = a.String()
			}
			s = net.JoinHostPort(host, viaPort)
		}
	}
	if e := config.CheckHostPort(s); e != nil {
		return "", fmt.Errorf("--via: %s; %s", e.Msg, e.Hint)
	}
	return s, nil
}

// viaAnswer is what a node answers a recursive query with.
type viaAnswer struct {
	krpc.Message
	from netip.AddrPort
	took time.Duration
}

// viaJSON says who answered, as JSON.
type viaJSON struct {
	Via     string  `json:"via"`
	Seconds float64 `json:"seconds"`
}

func (a *viaAnswer) json() viaJSON {
	return viaJSON{Via: a.from.String(), Seconds: a.took.Seconds()}
}

// ask has the node that --via names carry out a query. It sends one datagram, again only when the answer is overdue, and
// takes one as the answer.
func (f *clientFlags) ask(s *system, m krpc.Message) (*viaAnswer, error) {
	node, err := viaNode(f.Via)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, f.Timeout)
	defer cancel()
	addrs, err := resolve(ctx, node)
	if err != nil {
		return nil, err
	}
	m.Type, m.TID, m.Version = krpc.TypeQuery, make([]byte, 4), []byte(krpc.Version)
	m.HasID, m.Recursive, m.ReadOnly = true, true, true
	_, _ = rand.Read(m.ID[:]) // never fails
	_, _ = rand.Read(m.TID)
	query, err := m.Append(nil)
	if err != nil {
		return nil, err
	}
	waited := s.newProgress(m.Method.String(), "").wait(node, f.Timeout)
	defer waited()
	answer, err := f.askAt(ctx, node, addrs, query, m.TID, m.HasCAS)
	if s.ctx.Err() != nil {
		return nil, s.ctx.Err()
	}
	return answer, err
}

// askAt sends a query to the addresses of a node in turn, until somebody answers. Of a name with several addresses, as of both families,
// nobody may be at the first. once says that what is asked must not be done twice: then only an error leads to the next one, and silence,
// of which nobody knows whether the query or the answer was lost, does not.
func (f *clientFlags) askAt(ctx context.Context, node string, addrs []netip.AddrPort, query, tid []byte, once bool) (*viaAnswer, error) {
	all := make([]string, len(addrs))
	for i, a := range addrs {
		all[i] = a.String()
	}
	whom := strings.Join(all, ", ")
	if len(all) > 1 {
		whom = fmt.Sprintf("%s (%s)", node, whom)
	}
	for i, a := range addrs {
		turn, patience, end := ctx, viaPatience, func() {}
		if left := len(addrs) - i; left > 1 && !once {
			until, _ := ctx.Deadline()
			patience = min(viaPatience, time.Until(until)/time.Duration(left))
			turn, end = context.WithTimeout(ctx, patience)
			patience *= 2 // one datagram: the turn ends before
		}
		answer, err := exchange(turn, a, query, tid, patience)
		end()
		switch {
		case err == nil:
			return answer, f.refusal(answer)
		case ctx.Err() != nil:
			return nil, &failure{code: exitUnreachable, msg: fmt.Sprintf("%s did not answer within %s", whom, f.Timeout), hint: "check address and port, and firewalls between"}
		case i == len(addrs)-1:
			hint := "is it on, and does \"kdht serve\" run there? --via takes HOST:PORT, and the port is " + viaPort + " unless its configuration says otherwise"
			return nil, &failure{code: exitUnreachable, msg: "no node at " + whom, err: cause(err), hint: hint}
		}
	}
	return nil, failed(nil, "name a node by its IP address", "%s has no address", node)
}

// cause is what the operating system says.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// exchange sends a query, again whenever patience is over and once for a node that asks for a proof of the address, until there is an answer, or an error says that there will be none.
func exchange(ctx context.Context, to netip.AddrPort, query, tid []byte, patience time.Duration) (*viaAnswer, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	begun := time.Now()
	answer := &viaAnswer{from: to}
	in := make([]byte, 4096)
	proven := false
	for ctx.Err() == nil {
		if _, err := conn.Write(query); err != nil {
			return nil, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience)) // on an open socket it does not fail
		for ctx.Err() == nil {
			n, err := conn.Read(in)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, err
			}
			switch {
			case krpc.Decode(in[:n], &answer.Message) != nil:
			case answer.Type == krpc.TypeQuery && answer.Method == krpc.MethodPing && !proven:
				proven = true
				if err := prove(conn, &answer.Message, query); err != nil {
					return nil, err
				}
			case answer.Type != krpc.TypeQuery && string(answer.TID) == string(tid):
				answer.took = time.Since(begun)
				return answer, nil
			}
		}
	}
	return nil, ctx.Err()
}

// prove answers the ping that a node sends in place of an answer while it is flooded from addresses that may be forged, and asks again.
func prove(conn net.Conn, ping *krpc.Message, query []byte) error {
	pong := krpc.Message{Type: krpc.TypeResponse, TID: ping.TID, Version: []byte(krpc.Version), HasID: true}
	_, _ = rand.Read(pong.ID[:]) // never fails
	b, err := pong.Append(nil)
	if err != nil {
		return err
	}
	for _, b := range [][]byte{b, query} {
		if _, err := conn.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// refusal is the error of an answer that is one.
func (f *clientFlags) refusal(a *viaAnswer) error {
	if a.Type != krpc.TypeError {
		return nil
	}
	if a.Err.Code == krpc.ErrCodeProtocol && a.Err.Text == krpc.ErrArgToken.Text {
		return f.noRecursion(a) // so would any node answer that is asked without a token
	}
	hint := refusalHint(a.Err.Code)
	if a.Err.Code == krpc.ErrCodeProtocol {
		hint = "it did not accept the form of the message: is its version another one?"
	}
	return &failure{code: exitRejected, msg: fmt.Sprintf("%s answered with error %d (%q)", a.from, a.Err.Code, a.Err.Text), hint: hint}
}

// noRecursion says that a node answered as if it had not been asked for recursion.
func (f *clientFlags) noRecursion(a *viaAnswer) error {
	who := "this machine"
	if a.IP.IsValid() {
		who += ", which it sees as " + a.IP.Addr().String()
	}
	return &failure{code: exitRejected, msg: fmt.Sprintf("%s looked nothing up for %s", a.from, who),
		hint: "it does so for the addresses in its configuration key recursion.allow, if it is no other program than kdht and not too busy; without --via this machine asks the DHT itself"}
}

// missing is the error of an answer without what was asked for.
func (f *clientFlags) missing(a *viaAnswer, notFound *failure) error {
	switch {
	case !a.HasRecursive:
		return f.noRecursion(a)
	case !a.Recursive:
		return &failure{code: exitUnreachable, msg: a.from.String() + " does not have it, and could not ask all others that may: time ran out, or none answers it", hint: "try again; if that does not help, its status page says whether it reaches other nodes"}
	}
	return notFound
}

// stored gives how many nodes stored something.
func (f *clientFlags) stored(a *viaAnswer) (int64, error) {
	if !a.HasStored {
		return 0, f.noRecursion(a)
	}
	return a.Stored, nil
}
