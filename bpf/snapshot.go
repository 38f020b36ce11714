package bpf

// Snapshot is all that the kernel half knows of the routing tables. It is immutable once published.
type Snapshot struct {
	// Bits is Kademlia's b, at most [MaxBits]: level i of a table, the contacts that share exactly i leading bits with our
	// ID, is divided into 2^(b-1) buckets by the b-1 bits that follow bit i in their IDs. Zero means 1: a level is a bucket.
	Bits int
	// ID4 and ID6 are our node IDs in the IPv4 and the IPv6 network (BEP 5, 32).
	ID4, ID6 [20]byte
	// Nodes4 holds contacts as compact node info (BEP 5: ID, address, port), at most [BucketSize] for each bucket, and in at
	// most [MaxBuckets] buckets. The order within one bucket is the order in replies; the order of buckets does not
	// matter. No ID occurs twice, and none is ID4.
	Nodes4 [][26]byte
	// Nodes6 holds contacts as compact node info of BEP 32, likewise with ID6.
	Nodes6 [][38]byte
	// ReadOnly4 and ReadOnly6 say that our own queries in that network are those of who is no node (BEP 43): as long as
	// our ID may change.
	ReadOnly4, ReadOnly6 bool
	// Secret is the current write-token secret: the token is SipHash-2-4 of the asker's address under this key.
	Secret [16]byte
}

// Check says what is wrong with s, as an error that is [ErrSnapshot], or nil.
func (s *Snapshot) Check() error {
	return encodeSnapshot(new(kdhtSnapshot), s, DefaultVersion)
}
