package krpc

import "strconv"

func appendString(b, s []byte) []byte {
	b = strconv.AppendUint(b, uint64(len(s)), 10)
	b = append(b, ':')
	return append(b, s...)
}

func canonical(v []byte) bool { return false }
