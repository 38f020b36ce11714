package config

import (
	"net/netip"

	"github.com/tailscale/hujson"
)

// prefix is a range of addresses. An address alone stands for itself.
type prefix struct{}

func (prefix) decode(v hujson.Value) (netip.Prefix, *fault) {
	const example = `"192.168.0.0/16" or "fd00::/8"`
	s, f := str(v, "ADDRESS/BITS", example)
	if f != nil {
		return netip.Prefix{}, f
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, faultf(v.StartOffset, "write for example "+example, "%s is not ADDRESS/BITS", literal(v))
	case p.Addr().Is4In6():
		return netip.Prefix{}, faultf(v.StartOffset, "write the IPv4 addresses as such, as in \"192.168.0.0/16\"", "%s has IPv4 addresses in the form of IPv6 ones", literal(v))
	case p != p.Masked():
		return netip.Prefix{}, faultf(v.StartOffset, "write "+quote(p.Masked().String()), "%s has more bits than its length says", literal(v))
	}
	return p, nil
}

func (prefix) encode(x netip.Prefix) string     { return quote(x.String()) }
func (prefix) about() string                    { return "ADDRESS/BITS" }
func (prefix) text(words []string) hujson.Value { return stringValue(words) }
