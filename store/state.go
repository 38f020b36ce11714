package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"time"

	"go.etcd.io/bbolt"
)

// Keys of bucketState. Each value ends in its CRC-32C.
var (
	keyIdentity4 = []byte("identity4")
	keyIdentity6 = []byte("identity6")
	keySecrets   = []byte("secrets")
	keyNodes     = []byte("nodes")
	keyClock     = []byte("clock")
)

// Identity is the node's ID in one address family.
type Identity struct {
	ID [20]byte
	// External is the address that the ID was derived from (BEP 42), the zero Addr if
	// none was known.
	External netip.Addr
}

// Secrets are what write tokens are made with (BEP 5).
type Secrets struct {
	Current, Previous [16]byte
	// Rotated is when Current replaced Previous. Resolution 1 s.
	Rotated time.Time
}

// state is what the file says of the node itself. nil is unknown.
type state struct {
	identity4, identity6 *Identity
	secrets              *Secrets
}

// Identity returns what SetIdentity stored for an address family, or ErrNotFound.
func (s *Store) Identity(ipv6 bool) (Identity, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.index.state.identity4
	if ipv6 {
		p = s.index.state.identity6
	}
	return deref(s, p)
}

// SetIdentity stores the identity of an address family.
func (s *Store) SetIdentity(ipv6 bool, id Identity) error {
	if ipv6 {
		return s.setState(state{identity6: &id})
	}
	return s.setState(state{identity4: &id})
}

// Secrets returns what SetSecrets stored, or ErrNotFound.
func (s *Store) Secrets() (Secrets, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return deref(s, s.index.state.secrets)
}

// SetSecrets stores the token secrets.
func (s *Store) SetSecrets(x Secrets) error {
	x.Rotated = time.Unix(x.Rotated.Unix(), 0)
	return s.setState(state{secrets: &x})
}

func deref[T any](s *Store, p *T) (v T, err error) {
	switch {
	case s.db.Load() == nil && s.queue.isClosed():
		return v, ErrClosed
	case p == nil:
		return v, ErrNotFound
	}
	return *p, nil
}

func (s *Store) setState(st state) error {
	return s.submit(func(b *batch) error {
		b.putState(st)
		return nil
	}, false)
}

// putState stores what is known of st.
func (b *batch) putState(st state) {
	put := func(key, v []byte) { b.put(bucketState, key, seal(v)) }
	if st.identity4 != nil {
		put(keyIdentity4, st.identity4.encode())
	}
	if st.identity6 != nil {
		put(keyIdentity6, st.identity6.encode())
	}
	if st.secrets != nil {
		put(keySecrets, st.secrets.encode())
	}
	b.change(func(x *index) {
		x.state.identity4 = either(st.identity4, x.state.identity4)
		x.state.identity6 = either(st.identity6, x.state.identity6)
		x.state.secrets = either(st.secrets, x.state.secrets)
	})
}

func either[T any](p, q *T) *T {
	if p != nil {
		return p
	}
	return q
}

// loadState reads what is known; a value that fails its checksum is not.
func loadState(b *bbolt.Bucket) (st state) {
	if v, ok := unseal(b.Get(keyIdentity4)); ok {
		st.identity4 = parseIdentity(v)
	}
	if v, ok := unseal(b.Get(keyIdentity6)); ok {
		st.identity6 = parseIdentity(v)
	}
	if v, ok := unseal(b.Get(keySecrets)); ok && len(v) == 40 {
		st.secrets = &Secrets{
			Current: [16]byte(v), Previous: [16]byte(v[16:]),
			Rotated: time.Unix(int64(binary.BigEndian.Uint64(v[32:])), 0),
		}
	}
	return st
}

func (id *Identity) encode() []byte {
	return append(append(make([]byte, 0, 40), id.ID[:]...), id.External.AsSlice()...)
}

func parseIdentity(v []byte) *Identity {
	if len(v) < 20 {
		return nil
	}
	ip, ok := netip.AddrFromSlice(v[20:])
	if !ok && len(v) != 20 {
		return nil
	}
	return &Identity{Key(v), ip}
}

func (x *Secrets) encode() []byte {
	v := append(append(make([]byte, 0, 44), x.Current[:]...), x.Previous[:]...)
	return binary.BigEndian.AppendUint64(v, uint64(x.Rotated.Unix()))
}

// Node is a node of the routing table.
type Node struct {
	ID       [20]byte
	Addr     netip.AddrPort
	LastSeen time.Time // when it last answered; resolution 1 s
}

const (
	nodeSize = 20 + 16 + 2 + 4
	// maxNodes is far more than two full routing tables have.
	maxNodes = 100_000
)

// SaveNodes replaces the stored nodes. Their order is kept.
func (s *Store) SaveNodes(nodes []Node) error {
	if len(nodes) > maxNodes {
		return fmt.Errorf("%w: %d nodes", ErrInvalid, len(nodes))
	}
	v := make([]byte, 0, nodeSize*len(nodes)+crcSize)
	for _, n := range nodes {
		if !n.Addr.IsValid() {
			return fmt.Errorf("%w: node address %v", ErrInvalid, n.Addr)
		}
		ip := n.Addr.Addr().As16()
		v = append(append(v, n.ID[:]...), ip[:]...)
		v = binary.BigEndian.AppendUint16(v, n.Addr.Port())
		v = binary.BigEndian.AppendUint32(v, clamp(n.LastSeen.Unix()))
	}
	v = seal(v)
	return s.submit(func(b *batch) error {
		b.put(bucketState, keyNodes, v)
		return nil
	}, false)
}

// Nodes returns what SaveNodes stored last, nothing if that was never called.
func (s *Store) Nodes() ([]Node, error) {
	var nodes []Node
	err := s.view(func(tx *bbolt.Tx) error {
		v, ok := unseal(tx.Bucket(bucketState).Get(keyNodes))
		if !ok || len(v)%nodeSize != 0 {
			return nil
		}
		nodes = make([]Node, 0, len(v)/nodeSize)
		for ; len(v) > 0; v = v[nodeSize:] {
			ip := netip.AddrFrom16([16]byte(v[20:])).Unmap()
			nodes = append(nodes, Node{
				ID:       Key(v),
				Addr:     netip.AddrPortFrom(ip, binary.BigEndian.Uint16(v[36:])),
				LastSeen: time.Unix(int64(binary.BigEndian.Uint32(v[38:])), 0),
			})
		}
		return nil
	})
	return nodes, err
}

// seal appends a checksum, which unseal takes off again.
func seal(v []byte) []byte {
	return binary.BigEndian.AppendUint32(v, crc32.Checksum(v, castagnoli))
}

func unseal(v []byte) ([]byte, bool) {
	n := len(v) - crcSize
	if n < 0 || binary.BigEndian.Uint32(v[n:]) != crc32.Checksum(v[:n], castagnoli) {
		return nil, false
	}
	return v[:n], true
}
