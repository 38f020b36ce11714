package krpc_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"kdht/router/krpc"
)

const (
	id20     = "abcdefghij0123456789"
	target20 = "mnopqrstuvwxyz123456"
)

// recursive adds rd to a query.
func recursive(query, rd string) string {
	return strings.Replace(query, "1:t2:aa1:y1:qe", "2:rd"+rd+"1:t2:aa1:y1:qe", 1)
}

// query bencodes a query with these arguments after the ID.
func query(method, args string) string {
	return fmt.Sprintf("d1:ad2:id20:%s%se1:q%d:%s1:t2:aa1:y1:qe", id20, args, len(method), method)
}

func str(s string) string { return fmt.Sprintf("%d:%s", len(s), s) }

// refusal is a datagram and the error that Decode has for it.
type refusal struct {
	in   string
	want error
}

func refusals() map[string]refusal {
	ping := query("ping", "")
	hash := "9:info_hash20:" + target20
	mutable := "1:k32:" + strings.Repeat("k", 32)
	sig := "3:sig64:" + strings.Repeat("s", 64)
	many := func(n int) (keys string) {
		for i := range n {
			keys += fmt.Sprintf("3:z%02di0e", (i+1)%100)
		}
		return "1:zi0e" + keys + "1:bi0e"
	}
	return map[string]refusal{
		"empty":                        {"", krpc.ErrSyntax},
		"text":                         {"hello", krpc.ErrSyntax},
		"list":                         {"l" + ping + "e", krpc.ErrSyntax},
		"integer":                      {"i1e", krpc.ErrSyntax},
		"only d":                       {"d", krpc.ErrSyntax},
		"no value":                     {"d1:a", krpc.ErrSyntax},
		"key without value":            {"d1:t2:aa1:ye", krpc.ErrSyntax},
		"key without value inside":     {query("ping", "1:zd1:xe"), krpc.ErrSyntax},
		"integer as key":               {"di1e1:xe", krpc.ErrSyntax},
		"integer as key inside":        {query("ping", "1:zdi1e1:xe"), krpc.ErrSyntax},
		"list as key inside":           {query("ping", "1:zdle1:xe"), krpc.ErrSyntax},
		"truncated string":             {query("ping", "1:z99:x"), krpc.ErrSyntax},
		"length beyond int64":          {query("ping", "1:z99999999999999999999:x"), krpc.ErrSyntax},
		"length 2^64+1":                {query("ping", "1:z18446744073709551617:x"), krpc.ErrSyntax},
		"length 2^32":                  {query("ping", "1:z4294967296:x"), krpc.ErrSyntax},
		"negative length":              {query("ping", "1:z-1:x"), krpc.ErrSyntax},
		"length with plus":             {query("ping", "1:z+1:x"), krpc.ErrSyntax},
		"length with space":            {query("ping", "1:z 1:x"), krpc.ErrSyntax},
		"no length":                    {query("ping", "1:z:"), krpc.ErrSyntax},
		"no colon":                     {query("ping", "1:z1x"), krpc.ErrSyntax},
		"empty integer":                {query("ping", "1:zie"), krpc.ErrSyntax},
		"only a sign":                  {query("ping", "1:zi-e"), krpc.ErrSyntax},
		"two signs":                    {query("ping", "1:zi--1e"), krpc.ErrSyntax},
		"plus sign":                    {query("ping", "1:zi+1e"), krpc.ErrSyntax},
		"fraction":                     {query("ping", "1:zi1.0e"), krpc.ErrSyntax},
		"unknown kind":                 {query("ping", "1:zx"), krpc.ErrSyntax},
		"depth 11":                     {query("ping", "1:z"+strings.Repeat("l", 9)+strings.Repeat("e", 9)), krpc.ErrDepth},
		"depth 11 in dictionaries":     {query("ping", "1:z"+strings.Repeat("d1:z", 9)+strings.Repeat("e", 9)), krpc.ErrDepth},
		"depth 11 at the top":          {"d1:z" + strings.Repeat("l", 10) + strings.Repeat("e", 10) + ping[1:], krpc.ErrDepth},
		"depth without end":            {query("ping", "1:z"+strings.Repeat("l", 60000)), krpc.ErrDepth},
		"duplicate id":                 {query("ping", "2:id20:"+target20), krpc.ErrDuplicateKey},
		"duplicate unknown":            {query("ping", "1:zi0e1:zi0e"), krpc.ErrDuplicateKey},
		"duplicate apart":              {query("ping", "1:zi0e1:yi0e1:zi0e"), krpc.ErrDuplicateKey},
		"duplicate a":                  {"d1:ad2:id20:" + id20 + "e" + ping[1:], krpc.ErrDuplicateKey},
		"duplicate a apart":            {strings.TrimSuffix(ping, "e") + "1:ad2:id20:" + id20 + "ee", krpc.ErrDuplicateKey},
		"duplicate y":                  {strings.TrimSuffix(ping, "e") + "1:y1:re", krpc.ErrDuplicateKey},
		"duplicate spelt otherwise":    {query("ping", "1:zi0e01:zi0e"), krpc.ErrDuplicateKey},
		"65 unsorted keys":             {query("ping", many(62)), krpc.ErrTooManyKeys},
		"no t":                         {"d1:ad2:id20:" + id20 + "e1:q4:ping1:y1:qe", krpc.ErrNoTransaction},
		"long t":                       {"d1:ad2:id20:" + id20 + "e1:q4:ping1:t" + str(strings.Repeat("t", 257)) + "1:y1:qe", krpc.ErrNoTransaction},
		"no y":                         {"d1:ad2:id20:" + id20 + "e1:q4:ping1:t2:aae", krpc.ErrNoType},
		"other y":                      {"d1:t2:aa1:y1:xe", krpc.ErrNoType},
		"unknown kind in a list":       {query("ping", "1:zlxe"), krpc.ErrSyntax},
		"r not sound, after an a":      {"d1:ade1:rd2:id20:" + id20 + "2:id20:" + id20 + "e1:t2:aa1:y1:re", krpc.ErrDuplicateKey},
		"r not sound, in an error":     {"d1:ade1:ele1:rd2:id20:" + id20 + "2:id20:" + id20 + "e1:t2:aa1:y1:ee", krpc.ErrDuplicateKey},
		"a not sound, after an r":      {"d1:rde1:ad2:id20:" + id20 + "2:id20:" + id20 + "e1:q4:ping1:t2:aa1:y1:qe", krpc.ErrDuplicateKey},
		"response without r":           {"d1:t2:aa1:y1:re", krpc.ErrNoID},
		"response without id":          {"d1:rd5:nodes0:e1:t2:aa1:y1:re", krpc.ErrNoID},
		"response with short id":       {"d1:rd2:id3:abce1:t2:aa1:y1:re", krpc.ErrNoID},
		"response with id in a":        {"d1:ad2:id20:" + id20 + "e1:t2:aa1:y1:re", krpc.ErrNoID},
		"error with an a gone bad":     {"d1:ad1:x1:eli201e1:xe1:t2:aa1:y1:ee", krpc.ErrSyntax},
		"no q":                         {"d1:ad2:id20:" + id20 + "e1:t2:aa1:y1:qe", krpc.ErrArgMethod},
		"q is a number":                {"d1:ad2:id20:" + id20 + "e1:qi4e1:t2:aa1:y1:qe", krpc.ErrArgMethod},
		"no a":                         {"d1:q4:ping1:t2:aa1:y1:qe", krpc.ErrArgs},
		"a is a list":                  {"d1:ale1:q4:ping1:t2:aa1:y1:qe", krpc.ErrArgs},
		"id in r":                      {"d1:q4:ping1:rd2:id20:" + id20 + "e1:t2:aa1:y1:qe", krpc.ErrArgs},
		"id is a number":               {"d1:ad2:idi1ee1:q4:ping1:t2:aa1:y1:qe", krpc.ErrArgID},
		"unknown method":               {query("frobnicate", ""), krpc.ErrMethod},
		"unknown method, short target": {query("frobnicate", "6:target3:abc"), krpc.ErrMethod},
		"find_node without target":     {query("find_node", ""), krpc.ErrArgTarget},
		"find_node, target a number":   {query("find_node", "6:targeti1e"), krpc.ErrArgTarget},
		"get without target":           {query("get", ""), krpc.ErrArgTarget},
		"sample without target":        {query("sample_infohashes", ""), krpc.ErrArgTarget},
		"get_peers without hash":       {query("get_peers", ""), krpc.ErrArgInfoHash},
		"get_peers, 21-byte hash":      {query("get_peers", "9:info_hash21:"+target20+"x"), krpc.ErrArgInfoHash},
		"announce without hash":        {query("announce_peer", "4:porti1e5:token1:x"), krpc.ErrArgInfoHash},
		"announce without port":        {query("announce_peer", hash+"5:token1:x"), krpc.ErrArgPort},
		"announce of port 0":           {query("announce_peer", hash+"4:porti0e5:token1:x"), krpc.ErrArgPort},
		"announce of port 65536":       {query("announce_peer", hash+"4:porti65536e5:token1:x"), krpc.ErrArgPort},
		"announce of port -1":          {query("announce_peer", hash+"4:porti-1e5:token1:x"), krpc.ErrArgPort},
		"announce of port 2^64+1":      {query("announce_peer", hash+"4:porti18446744073709551617e5:token1:x"), krpc.ErrArgPort},
		"announce, port a string":      {query("announce_peer", hash+"4:port4:68815:token1:x"), krpc.ErrArgPort},
		"announce without token":       {query("announce_peer", hash+"4:porti1e"), krpc.ErrArgToken},
		"announce, rd 0, no token":     {recursive(query("announce_peer", hash+"4:porti1e"), "i0e"), krpc.ErrArgToken},
		"put, rd no number, no token":  {recursive(query("put", "1:v1:x"), "1:1"), krpc.ErrArgToken},
		"put, rd, no token, no sig":    {recursive(query("put", mutable+"3:seqi1e1:v1:x"), "i1e"), krpc.ErrArgSig},
		"announce, token a number":     {query("announce_peer", hash+"4:porti1e5:tokeni1e"), krpc.ErrArgToken},
		"put without token":            {query("put", "1:v1:x"), krpc.ErrArgToken},
		"put without v":                {query("put", "5:token1:x"), krpc.ErrArgV},
		"put of 1001 bytes":            {query("put", "5:token1:x1:v"+str(strings.Repeat("v", 997))), krpc.ErrValueSize},
		"put, v not canonical":         {query("put", "5:token1:x1:v01:x"), krpc.ErrValueForm},
		"put, v with duplicate keys":   {query("put", "5:token1:x1:vd1:a0:1:a0:e"), krpc.ErrValueForm},
		"put, short k":                 {query("put", "1:k3:abc3:seqi1e"+sig+"5:token1:x1:v1:x"), krpc.ErrArgK},
		"put, k a number":              {query("put", "1:ki1e3:seqi1e"+sig+"5:token1:x1:v1:x"), krpc.ErrArgK},
		"put without sig":              {query("put", mutable+"3:seqi1e5:token1:x1:v1:x"), krpc.ErrArgSig},
		"put, short sig":               {query("put", mutable+"3:seqi1e3:sig3:abc5:token1:x1:v1:x"), krpc.ErrArgSig},
		"put without seq":              {query("put", mutable+sig+"5:token1:x1:v1:x"), krpc.ErrArgSeq},
		"put, seq negative":            {query("put", mutable+"3:seqi-1e"+sig+"5:token1:x1:v1:x"), krpc.ErrArgSeq},
		"put, seq 2^63":                {query("put", mutable+"3:seqi9223372036854775808e"+sig+"5:token1:x1:v1:x"), krpc.ErrArgSeq},
		"put, seq a string":            {query("put", mutable+"3:seq1:1"+sig+"5:token1:x1:v1:x"), krpc.ErrArgSeq},
		"put, cas 2^64":                {query("put", "3:casi18446744073709551616e"+mutable+"3:seqi1e"+sig+"5:token1:x1:v1:x"), krpc.ErrArgCAS},
		"put, salt of 65 bytes":        {query("put", mutable+"4:salt"+str(strings.Repeat("s", 65))+"3:seqi1e"+sig+"5:token1:x1:v1:x"), krpc.ErrSaltSize},
		"put, salt a number":           {query("put", mutable+"4:salti1e3:seqi1e"+sig+"5:token1:x1:v1:x"), krpc.ErrArgSalt},
	}
}

func TestRefused(t *testing.T) {
	for name, c := range refusals() {
		t.Run(name, func(t *testing.T) {
			var m krpc.Message
			err := krpc.Decode([]byte(c.in), &m)
			if err != c.want { //nolint:errorlint // the very value is promised
				t.Fatalf("error %v, want %v", err, c.want)
			}
			answer, isAnswer := errors.AsType[*krpc.Error](err)
			if isAnswer == errors.Is(err, krpc.ErrMalformed) {
				t.Errorf("error %v is both an answer and a drop, or neither", err)
			}
			if !isAnswer {
				return
			}
			if m.Type != krpc.TypeQuery || string(m.TID) != "aa" {
				t.Errorf("type %v, transaction %q: not enough to answer", m.Type, m.TID)
			}
			// An answer to a bad query must not be an amplifier, not even with our address and version in it.
			e := krpc.Message{Type: krpc.TypeError, TID: m.TID, Version: []byte(krpc.Version), Err: *answer}
			if out, err := e.Append(nil); err != nil || len(out) > len(c.in)+48 {
				t.Errorf("the answer to %d bytes has %d: %v", len(c.in), len(out), err)
			}
		})
	}
}

// Every datagram cut short anywhere is dropped: no prefix of a message is a message.
func TestTruncated(t *testing.T) {
	v := theVectors(t)
	for _, d := range append(v.Datagrams, v.Replies...) {
		for n := range len(d.Hex) {
			var m krpc.Message
			if err := krpc.Decode(d.Hex[:n:n], &m); err != krpc.ErrSyntax { //nolint:errorlint // the very value is promised
				t.Fatalf("%s cut to %d bytes: %v", d.ID, n, err)
			}
		}
	}
}

// acceptance is a datagram that Decode accepts and what it has to make of it.
type acceptance struct {
	in string
	ok func(m *krpc.Message) bool
}

func acceptances() map[string]acceptance {
	hash := "9:info_hash20:" + target20
	mutable := "1:k32:" + strings.Repeat("k", 32)
	sig := "3:sig64:" + strings.Repeat("s", 64)
	ids := func(key, s string) string { return str(key) + str(s) }
	response := func(r string) string { return "d1:rd2:id20:" + id20 + r + "e1:t2:aa1:y1:re" }
	filter := strings.Repeat("f", 256)
	return map[string]acceptance{
		"depth 10": {query("ping", "1:z"+strings.Repeat("l", 8)+strings.Repeat("e", 8)),
			func(m *krpc.Message) bool { return m.Method == krpc.MethodPing }},
		"unsorted with an integer too large": {query("ping", "1:zi99999999999999999999999e1:bi0e"),
			func(m *krpc.Message) bool { return m.HasID }},
		"r in a query": {"d1:ad2:id20:" + id20 + "e1:q4:ping1:rd2:id20:" + target20 + "e1:t2:aa1:y1:qe",
			func(m *krpc.Message) bool { return string(m.ID[:]) == id20 }},
		"r in a query, first": {"d1:rd2:id20:" + target20 + "5:nodes0:e1:ad2:id20:" + id20 + "e1:q4:ping1:t2:aa1:y1:qe",
			func(m *krpc.Message) bool {
				return string(m.ID[:]) == id20 && m.Nodes == nil && m.Method == krpc.MethodPing
			}},
		"a in a response": {"d1:ad2:id20:" + target20 + "4:porti5ee1:rd2:id20:" + id20 + "e1:t2:aa1:y1:re",
			func(m *krpc.Message) bool { return string(m.ID[:]) == id20 && !m.HasPort }},
		"e in a query": {"d1:ad2:id20:" + id20 + "e1:eli201e1:xe1:q4:ping1:t2:aa1:y1:qe",
			func(m *krpc.Message) bool { return m.Err == krpc.Error{} }},
		"many sorted keys": {query("ping", func() (s string) {
			for i := range 1000 {
				s += fmt.Sprintf("5:z%04di0e", i)
			}
			return s
		}()), func(m *krpc.Message) bool { return m.HasID }},
		"unknown method with info_hash": {query("frobnicate", hash),
			func(m *krpc.Message) bool {
				return m.Method == krpc.MethodUnknown && string(m.Name) == "frobnicate" && m.HasTarget && string(m.Target[:]) == target20
			}},
		"unknown method with both": {query("frobnicate", "9:info_hash20:"+id20+"6:target20:"+target20),
			func(m *krpc.Message) bool { return string(m.Target[:]) == target20 && string(m.InfoHash[:]) == id20 }},
		"want of unknown strings": {query("find_node", "6:target20:"+target20+"4:wantl2:n52:n7i4elee"),
			func(m *krpc.Message) bool { return m.Want == 0 }},
		"want of some unknown strings": {query("find_node", "6:target20:"+target20+"4:wantl2:n52:n6i4elee"),
			func(m *krpc.Message) bool { return m.Want == krpc.WantN6 }},
		"want twice n4": {query("find_node", "6:target20:"+target20+"4:wantl2:n42:n4e"),
			func(m *krpc.Message) bool { return m.Want == krpc.WantN4 }},
		"get with a bad seq": {query("get", "3:seq1:x6:target20:"+target20),
			func(m *krpc.Message) bool { return !m.HasSeq }},
		"get with seq min": {query("get", "3:seqi-9223372036854775808e6:target20:"+target20),
			func(m *krpc.Message) bool { return m.HasSeq && m.Seq == math.MinInt64 }},
		"get_peers with bad flags": {query("get_peers", hash+"6:noseed1:16:scrapele"),
			func(m *krpc.Message) bool { return !m.NoSeed && !m.HasNoSeed && !m.Scrape }},
		"implied port without port": {query("announce_peer", "12:implied_porti1e"+hash+"5:token1:x"),
			func(m *krpc.Message) bool { return m.ImpliedPort && !m.HasPort }},
		"implied port, port out of range": {query("announce_peer", "12:implied_porti2e"+hash+"4:porti70000e5:token1:x"),
			func(m *krpc.Message) bool { return m.ImpliedPort && !m.HasPort }},
		"recursive announce without token": {recursive(query("announce_peer", hash+"4:porti1e"), "i1e"),
			func(m *krpc.Message) bool {
				return m.Recursive && m.Token == nil && errors.Is(krpc.CheckToken(m), krpc.ErrArgToken)
			}},
		"recursive put without token": {recursive(query("put", "1:v1:x"), "i7e"),
			func(m *krpc.Message) bool {
				return m.Recursive && m.Token == nil && errors.Is(krpc.CheckToken(m), krpc.ErrArgToken)
			}},
		"recursive put with token": {recursive(query("put", "5:token0:1:v1:x"), "i1e"),
			func(m *krpc.Message) bool { return m.Recursive && m.Token != nil && krpc.CheckToken(m) == nil }},
		"recursive get": {recursive(query("get", "4:salt1:s6:target20:"+target20), "i1e"),
			func(m *krpc.Message) bool { return m.Recursive && string(m.Salt) == "s" && krpc.CheckToken(m) == nil }},
		"rd 0": {recursive(query("get", "6:target20:"+target20), "i0e"),
			func(m *krpc.Message) bool { return !m.Recursive && m.HasRecursive }},
		"rd beyond int64": {recursive(query("get", "6:target20:"+target20), "i99999999999999999999e"),
			func(m *krpc.Message) bool { return !m.Recursive && !m.HasRecursive }},
		"rd of a response, after an a": {"d1:ade1:rd2:id20:" + id20 + "6:storedi3ee2:rdi1e1:t2:aa1:y1:re",
			func(m *krpc.Message) bool { return m.Recursive && m.HasStored && m.Stored == 3 }},
		"stored negative": {response("6:storedi-3e"),
			func(m *krpc.Message) bool { return m.HasStored && m.Stored == 0 }},
		"empty token": {query("announce_peer", hash+"4:porti65535e5:token0:"),
			func(m *krpc.Message) bool { return m.Token != nil && len(m.Token) == 0 && m.Port == 65535 }},
		"immutable put with junk beside": {query("put", "3:cas1:x4:salti1e3:seq1:x3:sigi0e5:token1:x1:v1:x"),
			func(m *krpc.Message) bool { return m.K == nil && string(m.V) == "1:x" }},
		"put of a dictionary": {query("put", mutable+"3:seqi0e"+sig+"5:token1:x1:vd2:ih20:"+target20+"e"),
			func(m *krpc.Message) bool { return string(m.V) == "d2:ih20:"+target20+"e" && m.HasSeq }},
		"nodes and stray bytes": {response(ids("nodes", strings.Repeat("n", 26*2+5)) + ids("nodes6", strings.Repeat("6", 38+37))),
			func(m *krpc.Message) bool { return len(m.Nodes) == 52 && len(m.Nodes6) == 38 }},
		"empty nodes": {response("5:nodes0:"),
			func(m *krpc.Message) bool { return m.Nodes != nil && len(m.Nodes) == 0 && m.Nodes6 == nil }},
		"nodes not a string": {response("5:nodesi0e6:nodes6le"),
			func(m *krpc.Message) bool { return m.Nodes == nil && m.Nodes6 == nil }},
		"sizes wrong": {response("4:BFpe1:x4:BFsd1:x1:k1:x7:samples21:" + target20 + "x3:seqi99999999999999999999e3:sig1:x"),
			func(m *krpc.Message) bool {
				return m.BFPeers == nil && m.BFSeeds == nil && m.K == nil && len(m.Samples) == 20 && !m.HasSeq && m.Sig == nil
			}},
		"filters": {response(ids("BFpe", filter) + ids("BFsd", filter)),
			func(m *krpc.Message) bool { return string(m.BFPeers) == filter && string(m.BFSeeds) == filter }},
		"filter of mldht": {response(ids("BFse", filter)),
			func(m *krpc.Message) bool { return string(m.BFSeeds) == filter }},
		"interval too long": {response("8:intervali999999e3:numi-5e7:samples0:"),
			func(m *krpc.Message) bool { return m.Interval == 21600 && m.Num == 0 && m.Samples != nil }},
		"interval negative": {response("8:intervali-1e"),
			func(m *krpc.Message) bool { return m.HasInterval && m.Interval == 0 }},
		"odd v, ip, ro": {"d1:rd2:id20:" + id20 + "e2:ip4:abcd2:ro1:x1:t2:aa1:vi5e1:y1:re",
			func(m *krpc.Message) bool { return !m.IP.IsValid() && !m.HasReadOnly && m.Version == nil }},
		"mapped ip": {"d2:ip18:\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04\x00\x051:rd2:id20:" + id20 + "e1:t2:aa1:y1:re",
			func(m *krpc.Message) bool { return m.IP.String() == "1.2.3.4:5" }},
		"error": {"d1:eli203e5:oh noe1:t2:aa1:y1:ee",
			func(m *krpc.Message) bool { return m.Err == krpc.Error{Code: 203, Text: "oh no"} && !m.HasID }},
		"error with r": {"d1:eli203e5:oh noe1:rd2:id20:" + id20 + "5:nodes0:e1:t2:aa1:y1:ee",
			func(m *krpc.Message) bool { return m.HasID && m.Nodes == nil }},
		"error with a":       {"d1:ad2:id20:" + id20 + "e1:ele1:t2:aa1:y1:ee", func(m *krpc.Message) bool { return !m.HasID }},
		"error of no list":   {"d1:e3:foo1:t2:aa1:y1:ee", func(m *krpc.Message) bool { return m.Err == krpc.Error{} }},
		"error without code": {"d1:el3:fooe1:t2:aa1:y1:ee", func(m *krpc.Message) bool { return m.Err == krpc.Error{Text: "foo"} }},
		"error, huge code": {"d1:eli9999999999ei5e3:fooe1:t2:aa1:y1:ee",
			func(m *krpc.Message) bool { return m.Err == krpc.Error{Code: 5, Text: "foo"} }},
	}
}

func TestAccepted(t *testing.T) {
	for name, c := range acceptances() {
		t.Run(name, func(t *testing.T) {
			var m krpc.Message
			if err := krpc.Decode([]byte(c.in), &m); err != nil {
				t.Fatal(err)
			}
			if !c.ok(&m) {
				t.Errorf("decoded as %+v", m)
			}
		})
	}
}

func TestPeers(t *testing.T) {
	in := "d1:rd2:id20:" + id20 + "6:valuesl6:abcdef3:abci6ele18:\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe106:ghijkle" +
		"e1:t2:aa1:y1:re"
	var m krpc.Message
	if err := krpc.Decode([]byte(in), &m); err != nil {
		t.Fatal(err)
	}
	want := "97.98.99.100:25958 [fe80::1]:6881 103.104.105.106:27500"
	var got []string
	for a := range krpc.Peers(m.Values) {
		got = append(got, a.String())
	}
	if s := strings.Join(got, " "); s != want {
		t.Errorf("peers %s, want %s", s, want)
	}
	for range krpc.Peers(m.Values) {
		break // an iterator must survive that
	}
	for range krpc.Peers([]byte("6:abc")) {
		t.Error("a peer out of a truncated string")
	}
}
