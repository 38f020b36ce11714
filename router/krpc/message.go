package krpc

import "net/netip"

// Version identifies this program in the top-level key "v": two letters for the client and a 16-bit version.
// It is 4 bytes because some clients drop messages with any other length.
const Version = "KD\x00\x01"

// Limits of what Decode accepts and what nodes send.
const (
	MaxDepth        = 10          // nesting of containers in a datagram, the message itself being the first
	MaxTID          = 256         // bytes of a transaction ID that is echoed
	MaxUnsortedKeys = 64          // keys in a dictionary whose keys are not sorted
	MaxPayload      = 1024        // bytes of a reply, BEP 44 values excepted (BEP 32)
	MaxValue        = 1000        // bytes of a bencoded BEP 44 value
	MaxSalt         = 64          // bytes of a BEP 44 salt
	MaxInterval     = 6 * 60 * 60 // seconds; the largest "interval" of BEP 51
)

// Message is one KRPC message: a query, a response or an error (BEP 5 and its extensions).
//
// The same struct is used to decode and to encode. After Decode all byte slices alias the datagram; nil means that a
// key was absent, an empty slice that is not nil means it was present and empty. Append writes every key that is
// set and that belongs to the message's type, whatever the method.
type Message struct {
	Type    Type           // y
	TID     []byte         // t: transaction ID, echoed verbatim
	Method  Method         // q, classified. When encoding, MethodUnknown takes Name
	Name    []byte         // q as sent; used to encode when Method is MethodUnknown
	Version []byte         // v: client and version, normally 4 bytes
	IP      netip.AddrPort // ip: in a reply the address of the asker (BEP 42); zero = absent

	ReadOnly    bool // ro: the sender is no server and must not enter routing tables (BEP 43)
	HasReadOnly bool // "ro" is present; lets Append write ro = 0

	// Recursive is rd ≠ 0, which is ours: in a query, recursion desired; in a response, that the recursion is
	// complete. See the package documentation.
	Recursive    bool
	HasRecursive bool // "rd" is present; lets Append write rd = 0

	// Arguments "a" of a query and results "r" of a response.

	ID          ID // id: the sender's node ID
	HasID       bool
	Target      ID // target: find_node, get, sample_infohashes
	HasTarget   bool
	InfoHash    ID // info_hash: get_peers, announce_peer
	HasInfoHash bool
	Want        Want // want (BEP 32)

	Port           uint16 // port of announce_peer
	HasPort        bool   // "port" is present and from 0 to 65535
	ImpliedPort    bool   // implied_port ≠ 0: announce the UDP source port
	HasImpliedPort bool   // lets Append write implied_port = 0
	Seed           bool   // seed ≠ 0: the announcing peer has all pieces (BEP 33)
	HasSeed        bool   // lets Append write seed = 0
	NoSeed         bool   // noseed ≠ 0: the asker wants no seeds (BEP 33)
	HasNoSeed      bool   // lets Append write noseed = 0
	Scrape         bool   // scrape ≠ 0: the asker wants bloom filters (BEP 33)
	HasScrape      bool   // lets Append write scrape = 0

	Token  []byte // token: write token, opaque
	Nodes  []byte // nodes: compact IPv4 contacts, whole ones only (26·n bytes); see the function Nodes
	Nodes6 []byte // nodes6: compact IPv6 contacts, whole ones only (38·n bytes; BEP 32); see the function Nodes6
	Values []byte // values: bencoded compact peers one after the other, without the list's l and e; see Peers

	// BEP 44.

	K      []byte // k: Ed25519 public key, 32 bytes
	Sig    []byte // sig: Ed25519 signature, 64 bytes
	Salt   []byte // salt: at most 64 bytes; empty means the same as absent
	V      []byte // v: the value in its bencoded form
	Seq    int64  // seq: sequence number
	HasSeq bool
	CAS    int64 // cas: expected sequence number
	HasCAS bool

	BFSeeds []byte // BFsd: bloom filter of seeds, 256 bytes (BEP 33)
	BFPeers []byte // BFpe: bloom filter of downloading peers, 256 bytes (BEP 33)

	Interval    int64 // interval: seconds during which Samples stays the same, 0 to 21600 (BEP 51)
	HasInterval bool
	Num         int64 // num: infohashes in the sender's store (BEP 51)
	HasNum      bool
	Samples     []byte // samples: infohashes, 20·n bytes (BEP 51); see the function Samples

	Stored    int64 // stored: in the response to a recursive put or announce_peer, how many nodes stored it; not negative
	HasStored bool

	Err Error // e, when Type is TypeError
}
