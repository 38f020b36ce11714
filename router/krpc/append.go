package krpc

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrInvalid is the class of errors of Append: a message that must not be sent.
var ErrInvalid = errors.New("invalid message")

func invalid(what string) error { return fmt.Errorf("%w: %s", ErrInvalid, what) }

// Append appends the message to b in canonical bencoding: keys sorted, no leading zeros. It fails with an ErrInvalid,
// and returns b unchanged, when a query or a response has no ID (HasID), the message has no valid Type or Method, or
// a field has a size or form that its BEP does not allow. An error message carries "r" with the ID if HasID is set.
func (m *Message) Append(b []byte) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, err
	}
	b = append(b, 'd')
	switch m.Type {
	case TypeQuery:
		b = append(b, "1:ad"...)
		b = m.appendArguments(b)
		b = append(b, 'e')
	case TypeError:
		b = append(b, "1:el"...)
		b = appendInt(b, int64(m.Err.Code))
		b = appendString(b, []byte(m.Err.Text))
		b = append(b, 'e')
	}
	b = appendIP(b, m.IP)
	switch {
	case m.Type == TypeQuery && m.Method != MethodUnknown:
		b = append(b, "1:q"...)
		b = appendString(b, []byte(m.Method.String()))
	case m.Type == TypeQuery:
		b = append(b, "1:q"...)
		b = appendString(b, m.Name)
	case m.Type == TypeResponse:
		b = append(b, "1:rd"...)
		b = m.appendResults(b)
		b = append(b, 'e')
	case m.HasID:
		b = append(b, "1:rd2:id20:"...)
		b = append(b, m.ID[:]...)
		b = append(b, 'e')
	}
	b = appendFlag(b, "2:rd", m.HasRecursive, m.Recursive)
	b = appendFlag(b, "2:ro", m.HasReadOnly, m.ReadOnly)
	b = append(b, "1:t"...)
	b = appendString(b, m.TID)
	if m.Version != nil {
		b = append(b, "1:v"...)
		b = appendString(b, m.Version)
	}
	return append(b, '1', ':', 'y', '1', ':', byte(m.Type), 'e'), nil
}

// check returns what forbids to send the message, or nil.
func (m *Message) check() error {
	switch m.Type {
	case TypeError:
		return nil
	case TypeQuery:
		if m.Method == MethodNone || m.Method > MethodUnknown || m.Method == MethodUnknown && m.Name == nil {
			return invalid("no method")
		}
	case TypeResponse:
		if err := m.checkResults(); err != nil {
			return err
		}
	default:
		return invalid("no type")
	}
	switch {
	case !m.HasID:
		return invalid("no id")
	case m.K != nil && len(m.K) != KeyLen:
		return invalid("size of k")
	case m.Sig != nil && len(m.Sig) != SigLen:
		return invalid("size of sig")
	case m.V != nil && !canonical(m.V):
		return invalid("v is not canonical")
	}
	return nil
}

func (m *Message) checkResults() error {
	switch {
	case len(m.Nodes)%Node4Len != 0:
		return invalid("size of nodes")
	case len(m.Nodes6)%Node6Len != 0:
		return invalid("size of nodes6")
	case len(m.Samples)%IDLen != 0:
		return invalid("size of samples")
	case m.BFSeeds != nil && len(m.BFSeeds) != len(BloomFilter{}):
		return invalid("size of BFsd")
	case m.BFPeers != nil && len(m.BFPeers) != len(BloomFilter{}):
		return invalid("size of BFpe")
	case m.HasInterval && (m.Interval < 0 || m.Interval > MaxInterval):
		return invalid("range of interval")
	case m.HasNum && m.Num < 0:
		return invalid("range of num")
	case m.HasStored && m.Stored < 0:
		return invalid("range of stored")
	}
	return nil
}

// appendArguments appends what belongs into "a", in the order of the keys.
func (m *Message) appendArguments(b []byte) []byte {
	if m.HasCAS {
		b = append(b, "3:cas"...)
		b = appendInt(b, m.CAS)
	}
	b = append(b, "2:id20:"...)
	b = append(b, m.ID[:]...)
	b = appendFlag(b, "12:implied_port", m.HasImpliedPort, m.ImpliedPort)
	if m.HasInfoHash {
		b = append(b, "9:info_hash20:"...)
		b = append(b, m.InfoHash[:]...)
	}
	b = appendField(b, "1:k", m.K)
	b = appendFlag(b, "6:noseed", m.HasNoSeed, m.NoSeed)
	if m.HasPort || m.Port != 0 {
		b = append(b, "4:port"...)
		b = appendInt(b, int64(m.Port))
	}
	b = appendField(b, "4:salt", m.Salt)
	b = appendFlag(b, "6:scrape", m.HasScrape, m.Scrape)
	b = appendFlag(b, "4:seed", m.HasSeed, m.Seed)
	if m.HasSeq {
		b = append(b, "3:seq"...)
		b = appendInt(b, m.Seq)
	}
	b = appendField(b, "3:sig", m.Sig)
	if m.HasTarget {
		b = append(b, "6:target20:"...)
		b = append(b, m.Target[:]...)
	}
	b = appendField(b, "5:token", m.Token)
	if m.V != nil {
		b = append(b, "1:v"...)
		b = append(b, m.V...)
	}
	if m.Want != 0 {
		b = append(b, "4:wantl"...)
		if m.Want&WantN4 != 0 {
			b = append(b, "2:n4"...)
		}
		if m.Want&WantN6 != 0 {
			b = append(b, "2:n6"...)
		}
		b = append(b, 'e')
	}
	return b
}

// appendResults appends what belongs into "r", in the order of the keys.
func (m *Message) appendResults(b []byte) []byte {
	b = appendField(b, "4:BFpe", m.BFPeers)
	b = appendField(b, "4:BFsd", m.BFSeeds)
	b = append(b, "2:id20:"...)
	b = append(b, m.ID[:]...)
	if m.HasInterval {
		b = append(b, "8:interval"...)
		b = appendInt(b, m.Interval)
	}
	b = appendField(b, "1:k", m.K)
	b = appendField(b, "5:nodes", m.Nodes)
	b = appendField(b, "6:nodes6", m.Nodes6)
	if m.HasNum {
		b = append(b, "3:num"...)
		b = appendInt(b, m.Num)
	}
	b = appendField(b, "7:samples", m.Samples)
	if m.HasSeq {
		b = append(b, "3:seq"...)
		b = appendInt(b, m.Seq)
	}
	b = appendField(b, "3:sig", m.Sig)
	if m.HasStored {
		b = append(b, "6:stored"...)
		b = appendInt(b, m.Stored)
	}
	b = appendField(b, "5:token", m.Token)
	if m.V != nil {
		b = append(b, "1:v"...)
		b = append(b, m.V...)
	}
	if m.Values != nil {
		b = append(b, "6:valuesl"...)
		for s := range peerStrings(m.Values) { // what was received may hold more than peers
			b = appendString(b, s)
		}
		b = append(b, 'e')
	}
	return b
}

// appendField appends a bencoded key and a string value, unless that is nil.
func appendField(b []byte, key string, s []byte) []byte {
	if s == nil {
		return b
	}
	b = append(b, key...)
	return appendString(b, s)
}

// appendFlag appends a bencoded key and 0 or 1 if the key is to be present.
func appendFlag(b []byte, key string, present, set bool) []byte {
	if !present && !set {
		return b
	}
	b = append(b, key...)
	if set {
		return append(b, "i1e"...)
	}
	return append(b, "i0e"...)
}

// appendIP appends "ip" if the address is valid.
func appendIP(b []byte, a netip.AddrPort) []byte {
	switch {
	case !a.IsValid():
		return b
	case a.Addr().Unmap().Is4():
		b = append(b, "2:ip6:"...)
	default:
		b = append(b, "2:ip18:"...)
	}
	return AppendAddr(b, a)
}
