package krpc

// Append appends the message to b in canonical bencoding: keys sorted, no leading zeros. It fails, and returns b
// unchanged, when the message has no valid Type, or a field with a size that BEP 5, 32, 33, 44 or 51 do not allow, or
// a V that is not canonical. An error message carries "r" with the ID if HasID is set.
func (m *Message) Append(b []byte) ([]byte, error) {
	return b, ErrSyntax
}
