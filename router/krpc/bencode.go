package krpc

import (
	"bytes"
	"math"
	"strconv"
)

// kind is the kind of a bencoded value.
type kind uint8

const (
	kindString kind = iota
	kindInt
	kindBigInt // an integer beyond int64
	kindList
	kindDict
)

// Ends that stand for an error where a position is expected.
const (
	endSyntax = -1
	endDepth  = -2
)

// dropped turns a negative end into the error it stands for.
func dropped(end int) *DropError {
	if end == endDepth {
		return ErrDepth
	}
	return ErrSyntax
}

// stringAt reads the string that begins at b[i]: its bytes are b[start:end]. end is negative on bad syntax. Leading
// zeros in the length are tolerated, which is why the length is bounded before it can overflow.
func stringAt(b []byte, i int) (start, end int) {
	n, j := 0, i
	for ; j < len(b); j++ {
		c := b[j] - '0'
		if c > 9 {
			break
		}
		if n = n*10 + int(c); n > len(b) {
			return 0, endSyntax
		}
	}
	if j == i || j >= len(b) || b[j] != ':' || n > len(b)-j-1 {
		return 0, endSyntax
	}
	return j + 1, j + 1 + n
}

// intAt reads the integer that begins with the i at b[i]. Leading zeros and -0 are tolerated.
func intAt(b []byte, i int) (n int64, k kind, end int) {
	j := i + 1
	negative := j < len(b) && b[j] == '-'
	if negative {
		j++
	}
	var u uint64
	k = kindInt
	first := j
	for ; j < len(b); j++ {
		c := b[j] - '0'
		if c > 9 {
			break
		}
		if u > (math.MaxUint64-9)/10 {
			k = kindBigInt
		}
		u = u*10 + uint64(c)
	}
	if j == first || j >= len(b) || b[j] != 'e' {
		return 0, k, endSyntax
	}
	switch {
	case u <= math.MaxInt64:
		n = int64(u)
		if negative {
			n = -n
		}
	case negative && u == math.MaxInt64+1:
		n = math.MinInt64
	default:
		k = kindBigInt
	}
	if k == kindBigInt {
		n = 0
	}
	return n, k, j + 1
}

// valueAt reads the value that begins at b[i] and ends before b[end]. start is where the bytes of a string begin, n is
// an integer. depth is the depth that the value has if it is a container.
func valueAt(b []byte, i, depth int) (k kind, start int, n int64, end int) {
	if i >= len(b) {
		return 0, 0, 0, endSyntax
	}
	switch c := b[i]; {
	case c-'0' <= 9:
		start, end = stringAt(b, i)
		return kindString, start, 0, end
	case c == 'i':
		n, k, end = intAt(b, i)
		return k, 0, n, end
	case c == 'l':
		return kindList, 0, 0, skip(b, i, depth)
	case c == 'd':
		return kindDict, 0, 0, skip(b, i, depth)
	}
	return 0, 0, 0, endSyntax
}

// skip returns where the container that begins at b[i] ends. It does not recurse: its memory is two words.
func skip(b []byte, i, depth int) int {
	var dict, wantValue uint32 // per open container, the innermost in bit 0: it is a dictionary; its key was read
	open := 0
	for i < len(b) {
		c := b[i]
		isKey := dict&1 != 0 && wantValue&1 == 0
		switch {
		case c-'0' <= 9:
			if _, i = stringAt(b, i); i < 0 {
				return endSyntax
			}
		case c == 'e' && open > 0:
			if dict&wantValue&1 != 0 {
				return endSyntax // a key without a value
			}
			dict, wantValue, open = dict>>1, wantValue>>1, open-1
			i++
			if open == 0 {
				return i
			}
		case isKey:
			return endSyntax // keys are strings
		case c == 'i':
			if _, _, i = intAt(b, i); i < 0 {
				return endSyntax
			}
		case c == 'l' || c == 'd':
			if depth+open > MaxDepth {
				return endDepth
			}
			dict, wantValue, open = dict<<1, wantValue<<1, open+1
			if c == 'd' {
				dict |= 1
			}
			i++
			continue // it counts as its parent's value when it ends
		default:
			return endSyntax
		}
		// A whole item was read inside the innermost container.
		wantValue ^= dict & 1
	}
	return endSyntax
}

// checkKeys looks for duplicate keys in a dictionary whose keys are not sorted; its first key begins at b[i]. Callers
// find duplicates among sorted keys themselves: there they are neighbours.
func checkKeys(b []byte, i, depth int) *DropError {
	var keys [MaxUnsortedKeys][]byte
	n := 0
	for i < len(b) && b[i] != 'e' {
		start, end := stringAt(b, i)
		if end < 0 {
			return ErrSyntax
		}
		key := b[start:end]
		for _, k := range keys[:n] {
			if bytes.Equal(k, key) {
				return ErrDuplicateKey
			}
		}
		if n == len(keys) {
			return ErrTooManyKeys
		}
		keys[n] = key
		n++
		if _, _, _, i = valueAt(b, end, depth+1); i < 0 {
			return dropped(i)
		}
	}
	return nil
}

// canonical reports whether v is exactly one canonical bencoded value, nested no deeper than fits into a message: the
// message and its "a" or "r" are two levels of their own.
func canonical(v []byte) bool {
	return canonicalAt(v, 0, 3) == len(v)
}

// canonicalAt returns where the canonical value that begins at b[i] ends, or a negative number.
func canonicalAt(b []byte, i, depth int) int {
	if i >= len(b) {
		return endSyntax
	}
	switch c := b[i]; {
	case c-'0' <= 9:
		return canonicalString(b, i)
	case c == 'i':
		_, _, end := intAt(b, i)
		if end < 0 {
			return end
		}
		digits := b[i+1 : end-1]
		if digits[0] == '-' {
			digits = digits[1:]
			if digits[0] == '0' {
				return endSyntax
			}
		}
		if digits[0] == '0' && len(digits) > 1 {
			return endSyntax
		}
		return end
	case c == 'l' || c == 'd':
		if depth > MaxDepth {
			return endDepth
		}
		return canonicalContainer(b, i, depth)
	}
	return endSyntax
}

func canonicalString(b []byte, i int) int {
	start, end := stringAt(b, i)
	if end >= 0 && b[i] == '0' && start != i+2 {
		return endSyntax
	}
	return end
}

func canonicalContainer(b []byte, i, depth int) int {
	dict := b[i] == 'd'
	var last []byte
	for i++; i < len(b) && b[i] != 'e'; {
		if dict {
			end := canonicalString(b, i)
			if end < 0 {
				return end
			}
			start, _ := stringAt(b, i)
			if key := b[start:end]; last != nil && bytes.Compare(last, key) >= 0 {
				return endSyntax
			}
			last, i = b[start:end], end
		}
		if i = canonicalAt(b, i, depth+1); i < 0 {
			return i
		}
	}
	if i >= len(b) {
		return endSyntax
	}
	return i + 1
}

func appendString(b, s []byte) []byte {
	b = strconv.AppendUint(b, uint64(len(s)), 10)
	b = append(b, ':')
	return append(b, s...)
}

func appendInt(b []byte, n int64) []byte {
	b = append(b, 'i')
	b = strconv.AppendInt(b, n, 10)
	return append(b, 'e')
}
