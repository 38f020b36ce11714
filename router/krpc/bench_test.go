package krpc_test

import (
	"net/netip"
	"testing"

	"kdht/router/krpc"
)

// common are the queries that make up nearly all of a node's traffic.
var common = []string{
	"utorrent-ping", "rtorrent-find_node", "libtorrent-get_peers-bs", "anacrolix-get_peers-scrape-want", "mldht-find_node",
	"pubky-get-seq", "libtorrent-get", "webtorrent-announce_peer-implied_port", "libtorrent-put-k-salt-seq-sig-v",
	"libtorrent-sample_infohashes", "bootstrap-dht-find_node",
}

func TestNoAllocations(t *testing.T) {
	v := theVectors(t)
	var m krpc.Message
	for _, id := range append(common, "reply-libtorrent-find_node", "rqbit-fixture-find_node_response_1", "utorrent-punch") {
		b := v.find(t, id)
		if n := testing.AllocsPerRun(100, func() { _ = krpc.Decode(b, &m) }); n != 0 {
			t.Errorf("decoding %s allocates %v times", id, n)
		}
	}
	r := findNodeReply()
	buf := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() { _, _ = r.Append(buf) }); n != 0 {
		t.Errorf("appending a reply allocates %v times", n)
	}
	for _, id := range common {
		if err := krpc.Decode(v.find(t, id), &m); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = m.Append(buf) }); n != 0 {
			t.Errorf("appending %s allocates %v times", id, n)
		}
	}
	if err := krpc.Decode(v.find(t, "bep5-get_peers-reply-values"), &m); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		for range krpc.Peers(m.Values) {
		}
		for range krpc.Nodes(r.Nodes) {
		}
	}); n != 0 {
		t.Errorf("iterating over peers and contacts allocates %v times", n)
	}
}

func findNodeReply() *krpc.Message {
	m := &krpc.Message{
		Type: krpc.TypeResponse, TID: []byte("aa"), Version: []byte(krpc.Version), HasID: true,
		IP: netip.MustParseAddrPort("198.18.0.1:6881"), Token: make([]byte, 8),
	}
	for range 8 {
		m.Nodes = krpc.AppendNode(m.Nodes, m.ID, m.IP)
	}
	return m
}

func BenchmarkDecode(b *testing.B) {
	v := theVectors(b)
	for _, id := range append(common, "reply-libtorrent-find_node") {
		b.Run(id, func(b *testing.B) {
			in := v.find(b, id)
			var m krpc.Message
			b.ReportAllocs()
			for b.Loop() {
				if err := krpc.Decode(in, &m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	v := theVectors(b)
	buf := make([]byte, 0, 2048)
	run := func(name string, m *krpc.Message) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Append(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("reply", findNodeReply())
	for _, id := range common[:2] {
		m := new(krpc.Message)
		if err := krpc.Decode(v.find(b, id), m); err != nil {
			b.Fatal(err)
		}
		run(id, m)
	}
}
