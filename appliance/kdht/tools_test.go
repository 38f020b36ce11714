package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

func TestKeygen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "my.key")
	made := kdht(t, "keygen", path)
	if made.code != exitOK || len(made.stdout) != 65 {
		t.Fatalf("%+v", made)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if shown := kdht(t, "keygen", "--show", path); shown.code != exitOK || shown.stdout != made.stdout {
		t.Errorf("%+v", shown)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again := kdht(t, "keygen", path)
	after, err := os.ReadFile(path)
	if err != nil || again.code != exitFailure || !strings.Contains(again.stderr, "exists, and is not overwritten") || !bytes.Equal(before, after) {
		t.Errorf("%+v, %v", again, err)
	}
	if r := kdht(t, "keygen", "--json", "--show", path); !json.Valid([]byte(r.stdout)) {
		t.Errorf("%+v", r)
	}
	for name, text := range map[string]string{"empty": "", "short": "abcd\n", "words": "hello world"} {
		bad := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := kdht(t, "put", "x", "--key-file", bad)
		if r.code != exitFailure || !strings.Contains(r.stderr, "is not a key file") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := kdht(t, "put", "x", "--key-file", path+"x"); r.code != exitFailure || !strings.Contains(r.stderr, "make one with: kdht keygen "+path+"x") {
		t.Errorf("%+v", r)
	}
	if r := kdht(t, "put", "x", "--key-file", t.TempDir()); r.code != exitFailure || !strings.Contains(r.stderr, "name a file that you may read") {
		t.Errorf("%+v", r)
	}
	if r := kdht(t, "put", "x", "--key-file", "/dev/zero"); r.code != exitFailure || !strings.Contains(r.stderr, "is not a key file") {
		t.Errorf("%+v", r)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	want := "kdht: warning: other users may use the key in " + path + ", its mode is 0644; change that with: chmod 600 " + path + "\n"
	if r := kdht(t, "keygen", "--show", path); r.code != exitOK || r.stdout != made.stdout || r.stderr != want {
		t.Errorf("%+v", r)
	}
}

func TestVersion(t *testing.T) {
	if r := kdht(t, "version"); r.code != exitOK || !strings.HasPrefix(r.stdout, "kdht ") || !strings.Contains(r.stdout, "v=4b440001") {
		t.Errorf("%+v", r)
	}
	if r := kdht(t, "version", "--json"); r.code != exitOK || !json.Valid([]byte(r.stdout)) {
		t.Errorf("%+v", r)
	}
}

const (
	pingHex  = "64313a6164323a696432303a6162636465666768696a3031323334353637383965313a71343a70696e67313a74313a07313a79313a7165"
	pingJSON = `{"a":{"id":"6162636465666768696a30313233343536373839"},"q":"ping","t":"07","y":"q"}`
)

func TestDecodeHex(t *testing.T) {
	raw, err := hex.DecodeString(pingHex)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "d")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	want := `{"bytes":55,"message":` + pingJSON + "}\n"
	for name, s := range map[string]*system{
		"argument":      {args: []string{"decode", pingHex}},
		"with 0x":       {args: []string{"decode", "0x" + pingHex}},
		"stdin":         {args: []string{"decode", "-"}, stdin: strings.NewReader(pingHex + "\n\n")},
		"stdin, raw":    {args: []string{"decode", "-"}, stdin: bytes.NewReader(raw)},
		"file, raw":     {args: []string{"decode", file}},
		"stdin, spaced": {args: []string{"decode", "-"}, stdin: strings.NewReader("64 " + pingHex[2:])},
		"stdin, colons": {args: []string{"decode", "-"}, stdin: strings.NewReader("64:" + pingHex[2:])},
	} {
		if r := kdhtWith(t, s); r.code != exitOK || r.stdout != want {
			t.Errorf("%s: %+v", name, r)
		}
	}
	two := kdhtWith(t, &system{args: []string{"decode", "-"}, stdin: strings.NewReader(pingHex + "\n" + pingHex + "\n")})
	if two.stdout != want+want {
		t.Errorf("%+v", two)
	}
}

func TestDecodeFaults(t *testing.T) {
	for in, want := range map[string]result{
		hex.EncodeToString([]byte("d1:ad2:id3:abce1:q4:ping1:t1:a1:y1:qe")): {exitOK,
			`{"bytes":37,"message":{"a":{"id":"616263"},"q":"ping","t":"61","y":"q"},"error":{"code":203,"text":"invalid id"}}` + "\n", ""},
		hex.EncodeToString([]byte("de")): {exitOK, `{"bytes":2,"message":{},"drop":"no transaction"}` + "\n", ""},
		"ffff": {exitFailure, `{"bytes":2,"hex":"ffff","drop":"syntax"}` + "\n",
			"kdht: this is no KRPC message: byte 0: syntax\n  a datagram is one bencoded dictionary, d…e\n"},
	} {
		if diff := cmp.Diff(want, kdht(t, "decode", in), cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
	for name, s := range map[string]*system{
		"nothing":  {args: []string{"decode", "-"}},
		"blank":    {args: []string{"decode", "-"}, stdin: strings.NewReader("\n \n")},
		"endless":  {args: []string{"decode", "-"}, stdin: strings.NewReader(strings.Repeat("0", 1<<20))},
		"no hex":   {args: []string{"decode", "-"}, stdin: strings.NewReader("hello\n")},
		"cut pcap": {args: []string{"decode", "-"}, stdin: strings.NewReader("\xd4\xc3\xb2\xa1xx")},
		"cut ng":   {args: []string{"decode", "-"}, stdin: strings.NewReader("\x0a\x0d\x0d\x0axxxxxxxxxxxxxxxx")},
	} {
		if r := kdhtWith(t, s); r.code != exitFailure || r.stdout != "" || strings.Count(r.stderr, "\n") != 2 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// captured builds the packets of a capture: a ping over IPv4, IPv6, with a VLAN tag, and what is to be left out.
func captured(t *testing.T) [][]byte {
	t.Helper()
	payload, err := hex.DecodeString(pingHex)
	if err != nil {
		t.Fatal(err)
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	eth := func(next layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: next}
	}
	ip4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{198, 18, 0, 1}, DstIP: net.IP{198, 18, 0, 2}}
	ip6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: net.ParseIP("2001:db8::1"), DstIP: net.ParseIP("2001:db8::2")}
	udp := &layers.UDP{SrcPort: 1234, DstPort: 6881}
	tcp := *ip4
	tcp.Protocol = layers.IPProtocolTCP
	tag := &layers.Dot1Q{VLANIdentifier: 7, Type: layers.EthernetTypeIPv6}
	var out [][]byte
	for _, ls := range [][]gopacket.SerializableLayer{
		{eth(layers.EthernetTypeIPv4), ip4, udp, gopacket.Payload(payload)},
		{eth(layers.EthernetTypeIPv6), ip6, udp, gopacket.Payload(payload)},
		{eth(layers.EthernetTypeDot1Q), tag, ip6, udp, gopacket.Payload(payload)},
		{eth(layers.EthernetTypeIPv4), ip4, udp, gopacket.Payload("no bencoding")},
		{eth(layers.EthernetTypeIPv4), &tcp, &layers.TCP{SrcPort: 1, DstPort: 2}},
		{eth(layers.EthernetTypeARP), &layers.ARP{AddrType: 1, Protocol: 0x800, HwAddressSize: 6, ProtAddressSize: 4, SourceHwAddress: mac, SourceProtAddress: []byte{1, 2, 3, 4}, DstHwAddress: mac, DstProtAddress: []byte{1, 2, 3, 4}}},
	} {
		b := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, ls...); err != nil {
			t.Fatal(err)
		}
		out = append(out, bytes.Clone(b.Bytes()))
	}
	return append(out, []byte{1, 2, 3})
}

func TestDecodeCaptures(t *testing.T) {
	packets := captured(t)
	at := time.Date(2024, 5, 6, 7, 8, 9, 123000, time.UTC)
	info := func(p []byte, i int) gopacket.CaptureInfo {
		return gopacket.CaptureInfo{Timestamp: at.Add(time.Duration(i) * time.Second), CaptureLength: len(p), Length: len(p)}
	}
	files := make(map[string][]byte)
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for i, p := range packets {
		if err := w.WritePacket(info(p, i), p); err != nil {
			t.Fatal(err)
		}
	}
	files["pcap"] = bytes.Clone(b.Bytes())
	b.Reset()
	ng, err := pcapgo.NewNgWriter(&b, layers.LinkTypeEthernet)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range packets {
		if err := ng.WritePacket(info(p, i), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := ng.Flush(); err != nil {
		t.Fatal(err)
	}
	files["pcapng"] = bytes.Clone(b.Bytes())

	const want = `{"time":"2024-05-06T07:08:09.000123Z","src":"198.18.0.1:1234","dst":"198.18.0.2:6881","bytes":55,"message":` + pingJSON + `}
{"time":"2024-05-06T07:08:10.000123Z","src":"[2001:db8::1]:1234","dst":"[2001:db8::2]:6881","bytes":55,"message":` + pingJSON + `}
{"time":"2024-05-06T07:08:11.000123Z","src":"[2001:db8::1]:1234","dst":"[2001:db8::2]:6881","bytes":55,"message":` + pingJSON + `}
`
	for name, file := range files {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		r := kdht(t, "decode", path)
		if r.code != exitOK || r.stdout != want || r.stderr != "kdht: 1 UDP datagram left out, being no bencoding; --all shows them\n" {
			t.Errorf("%s: %+v", name, r)
		}
		if r := kdhtWith(t, &system{args: []string{"decode", "-"}, stdin: bytes.NewReader(file)}); r.stdout != want {
			t.Errorf("%s from standard input: %+v", name, r)
		}
		all := kdht(t, "decode", "--all", path)
		if !strings.Contains(all.stdout, `"hex":"`+hex.EncodeToString([]byte("no bencoding"))+`","drop":"syntax"}`) || strings.Count(all.stdout, "\n") != 4 {
			t.Errorf("%s: %+v", name, all)
		}
		// Whatever was cut off or damaged, there is no panic.
		ignore := func(d datagram) error { _, err := decoded(d.payload); return err }
		for cut := range file {
			_ = readCapture(bufio.NewReader(bytes.NewReader(file[:cut])), ignore)
		}
		for i := range file {
			bad := bytes.Clone(file)
			bad[i] ^= 0xff
			_ = readCapture(bufio.NewReader(bytes.NewReader(bad)), ignore)
		}
	}
}

func TestStatusDocument(t *testing.T) {
	doc := `{"ready":true,"uptime":"3s","families":[{"family":"IPv4","contacts":8,"listen":["a:1","b:2"]},{"family":"IPv6","contacts":0,"listen":[]}],
		"time":"2026-11-23T01:39:19.859842921Z","rtt":0.00153,
		"xdp":{"mode":"off","reason":"asked\nfor\u009b1m","links":[],"lease":60},"store":{"bytes":353,"maxBytes":67108864,"fileBytes":1077248,"commitTime":2.5},"node":[{"name":"a","value":0},{"name":"b","value":7}],"mixed":[{"a":1},{"b":{"c":null}}],
		"counters":[{"reason":"answered","query":"ping","packets":3},{"reason":"answered","query":"get","packets":0},{"reason":"not_ip","packets":1}],
		"events":[{"event":"sighting","count":0}],"nics":[{"name":"eth0","reason":"a sentence that is too long for a cell of a table","id":1}]}`
	var code int
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status" || r.Header.Get("Accept") != "application/json" {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, doc)
	}))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	for _, code = range []int{200, 503} {
		r := kdht(t, "status", "--all", "--http", addr)
		if r.code != exitOK {
			t.Fatalf("%+v", r)
		}
		golden(t, "status-all.txt", r.stdout)
		if r := kdht(t, "status", "--json", "--http", srv.URL+"/"); r.code != exitOK || r.stdout != doc+"\n" {
			t.Errorf("%+v", r)
		}
	}
	code = 404
	if r := kdht(t, "status", "--http", addr); r.code != exitFailure || !strings.Contains(r.stderr, "404 Not Found\n  is it the status page of kdht?") {
		t.Errorf("%+v", r)
	}
	code, doc = 200, "<html>"
	if r := kdht(t, "status", "--http", addr); r.code != exitFailure || !strings.Contains(r.stderr, "is no JSON") {
		t.Errorf("%+v", r)
	}
	srv.Close()
	want := "kdht: no node has its status page at " + addr + "\n  start one with \"kdht serve\", or give the address that its --http has\n"
	if r := kdht(t, "status", "--http", addr); r.code != exitUnreachable || r.stderr != want {
		t.Errorf("%+v", r)
	}
}
