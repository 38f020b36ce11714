package discover

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

var errNotMDNS = errors.New("not a message of multicast DNS")

// parseQuery reads the questions and the known answers of a query.
func parseQuery(p *dnsmessage.Parser, id uint16) (*query, error) {
	q := &query{id: id}
	for range maxQuestions {
		d, err := p.Question()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return nil, err
		}
		q.questions = append(q.questions, d)
		any, ptr := d.Type == dnsmessage.TypeALL, d.Type == dnsmessage.TypePTR
		switch name := d.Name.String(); {
		case d.Class&^flush != dnsmessage.ClassINET && d.Class&^flush != dnsmessage.ClassANY:
		case strings.EqualFold(name, serviceName):
			q.browse = q.browse || any || ptr
		case strings.EqualFold(name, enumerationName):
			q.enumerate = q.enumerate || any || ptr
		default:
			q.specific = append(q.specific, d)
		}
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, err
	}
	for range maxRecords {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return nil, err
		}
		if h.Type != dnsmessage.TypePTR || !strings.EqualFold(h.Name.String(), serviceName) {
			err = p.SkipAnswer()
		} else {
			var r dnsmessage.PTRResource
			if r, err = p.PTRResource(); err == nil {
				if label, ok := instanceOf(r.PTR); ok {
					q.have = append(q.have, known{label, h.TTL})
				}
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return q, nil
}

// records are those of one response that may be of use.
type records struct {
	found []instance
	texts map[string][]string     // by instance, in lower case
	addrs map[string][]netip.Addr // by host, in lower case
}

// parseResponse reads the records of a response, whatever their section, and puts instances together.
func parseResponse(p *dnsmessage.Parser) ([]instance, error) {
	r := records{texts: make(map[string][]string), addrs: make(map[string][]netip.Addr)}
	left := maxRecords
	sections := []struct {
		head func() (dnsmessage.ResourceHeader, error)
		skip func() error
		all  func() error
	}{
		{p.AnswerHeader, p.SkipAnswer, p.SkipAllAnswers},
		{p.AuthorityHeader, p.SkipAuthority, p.SkipAllAuthorities},
		{p.AdditionalHeader, p.SkipAdditional, p.SkipAllAdditionals},
	}
	for _, s := range sections {
		for ; left > 0; left-- {
			h, err := s.head()
			if errors.Is(err, dnsmessage.ErrSectionDone) {
				break
			}
			if err == nil {
				var taken bool
				if taken, err = r.take(p, h); !taken && err == nil {
					err = s.skip()
				}
			}
			if err != nil {
				return nil, err
			}
		}
		if left == 0 {
			break
		}
	}
	return r.assemble(), nil
}

// take reads a record if it is of use.
func (r *records) take(p *dnsmessage.Parser, h dnsmessage.ResourceHeader) (taken bool, err error) {
	if h.Class&^flush != dnsmessage.ClassINET {
		return false, nil
	}
	host := strings.ToLower(h.Name.String())
	switch h.Type {
	case dnsmessage.TypePTR:
		if !strings.EqualFold(host, serviceName) || h.TTL != 0 {
			return false, nil
		}
		b, err := p.PTRResource()
		if err != nil {
			return false, err
		}
		if label, ok := instanceOf(b.PTR); ok && len(r.found) < maxInstances {
			r.found = append(r.found, instance{Name: label})
		}
		return true, nil
	case dnsmessage.TypeSRV:
		label, ok := instanceOf(h.Name)
		if !ok {
			return false, nil
		}
		b, err := p.SRVResource()
		if err != nil {
			return false, err
		}
		if len(r.found) < maxInstances {
			r.found = append(r.found, instance{Name: label, Host: b.Target.String(), Port: b.Port, TTL: h.TTL})
		}
		return true, nil
	case dnsmessage.TypeTXT:
		label, ok := instanceOf(h.Name)
		if !ok || len(r.texts) == maxInstances {
			return false, nil
		}
		b, err := p.TXTResource()
		r.texts[strings.ToLower(label)] = b.TXT
		return true, err
	case dnsmessage.TypeA:
		b, err := p.AResource()
		r.addrs[host] = append(r.addrs[host], netip.AddrFrom4(b.A))
		return true, err
	case dnsmessage.TypeAAAA:
		b, err := p.AAAAResource()
		r.addrs[host] = append(r.addrs[host], netip.AddrFrom16(b.AAAA))
		return true, err
	}
	return false, nil
}

// assemble returns the instances that have all that they need, and those that say goodbye, each once.
func (r *records) assemble() (whole []instance) {
	for _, s := range r.found {
		if slices.ContainsFunc(whole, func(w instance) bool { return strings.EqualFold(w.Name, s.Name) }) {
			continue
		}
		if s.TTL > 0 {
			text, ok := parseText(r.texts[strings.ToLower(s.Name)])
			s.Text, s.Addrs = text, r.addrs[strings.ToLower(s.Host)]
			if !ok || s.Port == 0 || len(s.Addrs) == 0 {
				continue
			}
		}
		whole = append(whole, s)
	}
	return whole
}
