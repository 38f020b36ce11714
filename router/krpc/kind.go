package krpc

// Type is the kind of a message, the value of the top-level key "y" (BEP 5).
type Type byte

// The three message types of BEP 5.
const (
	TypeQuery    Type = 'q'
	TypeResponse Type = 'r'
	TypeError    Type = 'e'
)

// String returns "query", "response", "error" or "unknown".
func (t Type) String() string {
	switch t {
	case TypeQuery:
		return "query"
	case TypeResponse:
		return "response"
	case TypeError:
		return "error"
	}
	return "unknown"
}

// Method is the method of a query, the value of the top-level key "q".
type Method uint8

// Methods this package knows.
const (
	MethodNone             Method = iota // not a query, or a query without "q"
	MethodPing                           // BEP 5
	MethodFindNode                       // BEP 5
	MethodGetPeers                       // BEP 5, 33
	MethodAnnouncePeer                   // BEP 5, 33
	MethodGet                            // BEP 44
	MethodPut                            // BEP 44
	MethodSampleInfohashes               // BEP 51
	MethodUnknown                        // any other name; see Decode for when it is answered like find_node
)

// Methods is the number of Method values, for arrays indexed by Method.
const Methods = int(MethodUnknown) + 1

var methodNames = [Methods]string{
	MethodNone:             "none",
	MethodPing:             "ping",
	MethodFindNode:         "find_node",
	MethodGetPeers:         "get_peers",
	MethodAnnouncePeer:     "announce_peer",
	MethodGet:              "get",
	MethodPut:              "put",
	MethodSampleInfohashes: "sample_infohashes",
	MethodUnknown:          "unknown",
}

// String returns the name on the wire, or "none" or "unknown".
func (m Method) String() string {
	if int(m) < len(methodNames) {
		return methodNames[m]
	}
	return methodNames[MethodUnknown]
}

func methodOf(name []byte) Method {
	switch string(name) {
	case "ping":
		return MethodPing
	case "find_node":
		return MethodFindNode
	case "get_peers":
		return MethodGetPeers
	case "announce_peer":
		return MethodAnnouncePeer
	case "get":
		return MethodGet
	case "put":
		return MethodPut
	case "sample_infohashes":
		return MethodSampleInfohashes
	}
	return MethodUnknown
}

// Want is the set of contact families a query asks for with "want" (BEP 32).
// 0 means that the key is absent, and so the family of the transport is meant; a list that is empty or holds only
// unknown strings counts as absent too, and so does a value that is no list.
type Want uint8

// Members of a Want.
const (
	WantN4 Want = 1 << iota // "n4": IPv4 contacts, in "nodes"
	WantN6                  // "n6": IPv6 contacts, in "nodes6"
)
