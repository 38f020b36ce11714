package config_test

import (
	"strings"
	"testing"

	"kdht/config"
)

// Every kind of fault, with the whole text that the user reads.
func TestFaultsInFiles(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"unknown key":            {"{\n\t// x\n\t\"listn\": \":1\",\n}", `f:3:2: unknown key "listn"; did you mean "listen"?`},
		"other case":             {`{"HTTP": ":80"}`, `f:1:2: unknown key "HTTP"; did you mean "http"?`},
		"snake case":             {`{"store": {"max_items": 1}}`, `f:1:12: unknown key "store.max_items"; did you mean "maxItems"?`},
		"key of a section":       {`{"linger": "1s"}`, `f:1:2: unknown key "linger"; did you mean "xdp": { "linger": … }?`},
		"dotted key":             {`{"xdp.mode": "off"}`, `f:1:2: unknown key "xdp.mode"; did you mean "xdp": { "mode": … }?`},
		"key of the top level":   {`{"xdp": {"bootstrap": []}}`, `f:1:10: unknown key "xdp.bootstrap"; did you mean "bootstrap" at the top level?`},
		"nothing like it":        {`{"xdp": {"frobnicate": 1}}`, `f:1:10: unknown key "xdp.frobnicate"; the keys here are mode, linger, lease, hotBytes, hotAfter`},
		"duplicate key":          {"{\"http\": \":1\",\n \"http\": \":2\"}", `f:2:2: http: the key appears twice, first at 1:2; leave one of them out`},
		"null":                   {`{"http": null}`, `f:1:10: http: null is not a value; leave the key out to have its default`},
		"section not an object":  {`{"xdp": "off"}`, `f:1:9: xdp: the string "off" is not an object; write "xdp": { "mode": "auto" }`},
		"not an object":          {`["x"]`, `f:1:1: the file is a list, not an object; write { "listen": ["0.0.0.0:6881"] } or the like`},
		"missing comma":          {"{\n\t\"http\": \":1\"\n\t\"state\": \"x\"\n}", `f:3:2: invalid character '"' after object value (expecting ',' or '}'); is a comma missing before it?`},
		"no quotes":              {"{ http: \":1\" }", `f:1:3: invalid literal: http; keys and texts stand in double quotes, as in "info"`},
		"hash comment":           {"# x\n{}", `f:1:1: invalid character '#' at start of value; comments begin with //`},
		"cut short":              {`{"http": ":1"`, `f:1:14: the file ends too early; is a closing } or ] or " missing?`},
		"column in characters":   {"{/* äöü */ \"htp\": \"\"}", `f:1:12: unknown key "htp"; did you mean "http"?`},
		"choice":                 {`{"xdp": {"mode": "nativ"}}`, `f:1:18: xdp.mode: "nativ" is not one of "auto", "native", "generic", "off"; did you mean "native"?`},
		"choice, no idea":        {`{"network": "lan"}`, `f:1:13: network: "lan" is not one of "public", "private"; write one of them`},
		"choice, too long":       {`{"log": {"level": "warning"}}`, `f:1:19: log.level: "warning" is not one of "debug", "info", "warn", "error"; did you mean "warn"?`},
		"choice, wrong type":     {`{"log": {"level": 3}}`, `f:1:19: log.level: the number 3 is not one of "debug", "info", "warn", "error"; write "debug"`},
		"number as text":         {`{"lookup": {"alpha": "3"}}`, `f:1:22: lookup.alpha: the string "3" is not a number; write 3 without quotes`},
		"number out of range":    {`{"lookup": {"alpha": 17}}`, `f:1:22: lookup.alpha: 17 is out of range; allowed are 1 to 16 queries`},
		"broken number":          {`{"lookup": {"alpha": 2.5}}`, `f:1:22: lookup.alpha: 2.5 is not a whole number; write a whole number`},
		"huge number":            {`{"lookup": {"alpha": 1e999}}`, `f:1:22: lookup.alpha: 1e999 is too large; write a smaller number`},
		"rate out of range":      {`{"limits": {"queriesPerNode": 1001}}`, `f:1:31: limits.queriesPerNode: 1001 is out of range; allowed are 0 to 1000 queries per second`},
		"duration without unit":  {`{"xdp": {"lease": 30}}`, `f:1:19: xdp.lease: the number 30 has no unit; write "30s" for seconds, or another of ms, s, m, h, d`},
		"duration in words":      {`{"xdp": {"lease": "5 min"}}`, `f:1:19: xdp.lease: "5 min" is not a duration; write numbers with ms, s, m, h or d, as in "90s" or "1h30m"`},
		"duration out of range":  {`{"xdp": {"lease": "1s"}}`, `f:1:19: xdp.lease: "1s" is out of range; allowed are 5s to 10m`},
		"negative duration":      {`{"xdp": {"linger": "-1s"}}`, `f:1:20: xdp.linger: "-1s" is out of range; allowed are 0s to 1h`},
		"size with unknown unit": {`{"store": {"maxBytes": "64 megs"}}`, `f:1:24: store.maxBytes: "64 megs" is not a size; write a number and one of B, KiB, MiB, GiB, TiB, kB, MB, GB, TB, as in "64MiB"`},
		"size out of range":      {`{"store": {"maxBytes": 100}}`, `f:1:24: store.maxBytes: 100 is out of range; allowed are 1MiB to 1TiB`},
		"size of another type":   {`{"store": {"maxBytes": true}}`, `f:1:24: store.maxBytes: the boolean true is not a size; write a number of bytes with its unit, as in "64MiB"`},
		"listen without port":    {`{"listen": ["0.0.0.0"]}`, `f:1:13: listen: "0.0.0.0" has no port; write "0.0.0.0:6881"`},
		"listen v6 without port": {`{"listen": ["::1"]}`, `f:1:13: listen: "::1" has no port; write "[::1]:6881"`},
		"listen on a name":       {`{"listen": ["localhost:1"]}`, `f:1:13: listen: "localhost:1" is not an address of this machine; write an IP address, not a name, as in "0.0.0.0:6881" or "[::]:6881"`},
		"listen port":            {`{"listen": ["0.0.0.0:70000"]}`, `f:1:13: listen: "0.0.0.0:70000" has a port that is out of range; allowed are 1 to 65535, and 0 for any free port`},
		"listen empty":           {`{"listen": []}`, `f:1:12: listen: the list is empty; write at least one, as in ["0.0.0.0:6881", "[::]:6881"]`},
		"listen twice":           {`{"listen": [":1", "0.0.0.0:1"]}`, `f:1:19: listen: 0.0.0.0:1 is listed twice; leave one of them out`},
		"listen on a group":      {`{"listen": ["224.0.0.1:1"]}`, `f:1:13: listen: "224.0.0.1:1" is not a unicast address; write an address of this machine, or "0.0.0.0:6881" or "[::]:6881" for all of them`},
		"list of another type":   {`{"listen": 6881}`, `f:1:12: listen: the number 6881 is not a list; write ["0.0.0.0:6881", "[::]:6881"]`},
		"element of other type":  {`{"listen": [6881]}`, `f:1:13: listen: the number 6881 is not ADDR:PORT; write "0.0.0.0:6881" or "[::]:6881"`},
		"bootstrap without port": {`{"bootstrap": ["node.example.org"]}`, `f:1:16: bootstrap: "node.example.org" has no port; write "node.example.org:6881"`},
		"bootstrap with a URL":   {`{"bootstrap": ["udp://node.example.org:1"]}`, `f:1:16: bootstrap: "udp://node.example.org:1" is not HOST:PORT; write for example "router.bittorrent.com:6881", "192.0.2.1:6881" or "[2001:db8::1]:6881"`},
		"bootstrap port 0":       {`{"bootstrap": ["a.example:0"]}`, `f:1:16: bootstrap: "a.example:0" has a port that is out of range; allowed are 1 to 65535`},
		"bootstrap, brackets":    {`{"bootstrap": ["2001:db8:0:0:0:0:0:7:6881"]}`, `f:1:16: bootstrap: "2001:db8:0:0:0:0:0:7:6881" has no brackets around the address; write "[2001:db8::7]:6881"`},
		"bootstrap, ambiguous":   {`{"bootstrap": ["::1:7701"]}`, `f:1:16: bootstrap: "::1:7701" has no port; write "[::1:7701]:6881", or "[::1]:7701" if the port is in it already`},
		"several elements":       {"{\"listen\": [\"a\",\n\":1\", \":1\",\n1]}", "f:1:13: listen: \"a\" is not ADDR:PORT; write for example \"0.0.0.0:6881\" or \"[::]:6881\"\nf:2:7: listen: 0.0.0.0:1 is listed twice; leave one of them out\nf:3:1: listen: the number 1 is not ADDR:PORT; write \"0.0.0.0:6881\" or \"[::]:6881\""},
		"none among others":      {`{"bootstrap": ["a.example:1", "none"]}`, `f:1:31: bootstrap: "none" stands among other nodes; write it alone, or leave it out`},
		"interface name":         {`{"interfaces": ["eth0/1"]}`, `f:1:17: interfaces: "eth0/1" cannot be the name of an interface; "ip link" lists the names, as in "eth0"`},
		"external":               {`{"external": ["127.0.0.1"]}`, `f:1:15: external: "127.0.0.1" is not a global unicast address; write the address that other nodes see, as in "198.51.100.7" or "2001:db8::7"`},
		"external, one family":   {`{"external": ["198.51.100.7", "198.51.100.8"]}`, `f:1:14: external: there are several addresses of one family; write at most one IPv4 and one IPv6 address`},
		"prefix":                 {`{"recursion": {"allow": ["10.0.0.0/33"]}}`, `f:1:26: recursion.allow: "10.0.0.0/33" is not ADDRESS/BITS; write for example "192.168.0.0/16" or "fd00::/8"`},
		"prefix, host bits":      {`{"recursion": {"allow": ["10.0.0.1/8"]}}`, `f:1:26: recursion.allow: "10.0.0.1/8" has more bits than its length says; write "10.0.0.0/8"`},
		"prefix, mapped":         {`{"recursion": {"allow": ["::ffff:10.0.0.0/104"]}}`, `f:1:26: recursion.allow: "::ffff:10.0.0.0/104" has IPv4 addresses in the form of IPv6 ones; write the IPv4 addresses as such, as in "192.168.0.0/16"`},
		"external, private":      {"{\n\"external\": [\"10.0.0.1\"]}", `f:2: external: 10.0.0.1 is a private address; write the public address, or set "network": "private"`},
		"http":                   {`{"http": "8080"}`, `f:1:10: http: "8080" is not ADDR:PORT; write for example ":8080", "127.0.0.1:8080" or "off"`},
		"hostname with domain":   {`{"hostname": "box.example.org"}`, `f:1:14: hostname: "box.example.org" is not a host name; write 1 to 63 letters, digits and hyphens, without a domain, as in "kdht-attic"`},
		"hostname, hyphen":       {`{"hostname": "box-"}`, `f:1:14: hostname: "box-" is not a host name; write 1 to 63 letters, digits and hyphens, without a domain, as in "kdht-attic"`},
		"carriage returns":       {"{\r\n\t\"http\": 1\r\n}", `f:2:10: http: the number 1 is not ADDR:PORT; write ":8080", "127.0.0.1:8080" or "off"`},
		"empty state":            {`{"state": ""}`, `f:1:11: state: "" is too short; leave the key out to have its default, or write a directory as in "/var/lib/kdht"`},
		"long seed":              {`{"nodeIDSeed": "` + strings.Repeat("x", 129) + `"}`, `f:1:16: nodeIDSeed: 129 bytes are too long; at most 128 bytes are allowed`},
		"quota of one and all":   {`{"store": {"maxBytesPerSource": "65MiB"}}`, `f:1: store.maxBytesPerSource: store.maxBytesPerSource (65MiB) exceeds store.maxBytes (64MiB); one source may have at most what all may have: lower the first or raise the second`},
		"token, too short":       {`{"gateway": {"tokens": ["backup:hush"]}}`, `f:1:25: gateway.tokens: this is no token; write NAME:SECRET, the name in lower case, the secret at least 16 letters and digits, as from "openssl rand -hex 16"`},
		"token twice":            {`{"gateway": {"tokens": ["a:0123456789abcdef", "a:0123456789abcdef"]}}`, `f:1:47: gateway.tokens: this is listed twice; leave one of them out`},
		"tokens of one name":     {`{"gateway": {"tokens": ["a:0123456789abcdef", "a:fedcba9876543210"]}}`, `f:1:24: gateway.tokens: two tokens have the name "a"; give each its own`},
		"token, reserved name":   {`{"gateway": {"tokens": ["loopback:0123456789abcdef"]}}`, `f:1:25: gateway.tokens: the name "loopback" stands for programs on the machine itself; choose another name`},
		"sign for nobody":        {`{"gateway": {"sign": ["backup"]}}`, `f:1: gateway.sign: no token has the name "backup"; name one of gateway.tokens, "loopback" or "operators"`},
		"origin with a path":     {`{"gateway": {"origins": ["https://app.example.org/"]}}`, `f:1:26: gateway.origins: "https://app.example.org/" is no origin; write scheme, host and, unless it is the usual one, port, as browsers do: "https://app.example.org" or "*"`},
		"host with a port":       {`{"gateway": {"hosts": ["box.example.org:80"]}}`, `f:1:24: gateway.hosts: "box.example.org:80" is no name; write a name without port, as in "box.example.org"`},
		"host, an address":       {`{"gateway": {"hosts": ["10.0.0.7"]}}`, `f:1:24: gateway.hosts: "10.0.0.7" is an address; leave it out: addresses may always be asked for`},
		"secret, neither":        {`{"names": {"secret": "0123"}}`, `f:1:22: names.secret: this is neither a file nor a secret key; write the path of a file that "kdht keygen" made, with a /, or the 64 hexadecimal digits in it`},
		"secret of another key":  {`{"names": {"key": "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548", "secret": "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"}}`, `f:1: names.key: names.secret belongs to another public key; write "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", or leave names.key out`},
		"several":                {"{\"a\": 1,\n\"http\": 2}", "f:1:2: unknown key \"a\"; the keys here are network, listen, bootstrap, discovery, networkName, interfaces, external, nodeIDSeed, state, http, hostname, xdp, store, token, table, lookup, recursion, limits, gateway, names, update, tailnet, log\nf:2:9: http: the number 2 is not ADDR:PORT; write \":8080\", \"127.0.0.1:8080\" or \"off\""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("f", []byte(c.file))
			if err == nil {
				t.Fatal("no error")
			}
			if err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
		})
	}
}

func TestFaultsInFlags(t *testing.T) {
	for _, c := range []struct {
		key   string
		words []string
		want  string
	}{
		{"listen", []string{"127.0.0.1"}, `--x: listen: "127.0.0.1" has no port; write "127.0.0.1:6881"`},
		{"xdp.mode", []string{"of"}, `--x: xdp.mode: "of" is not one of "auto", "native", "generic", "off"; did you mean "off"?`},
		{"xdp.lease", []string{"30"}, `--x: xdp.lease: the number 30 has no unit; write "30s" for seconds, or another of ms, s, m, h, d`},
		{"lookup.alpha", []string{"many"}, `--x: lookup.alpha: the string "many" is not a number; write a number, 1 to 16 queries`},
		{"limits.perSource", []string{"many"}, `--x: limits.perSource: the string "many" is not a number; write a number, 0 to 1000000 datagrams per second`},
		{"xdp.mod", []string{"off"}, `--x: unknown key "xdp.mod"; did you mean "xdp.mode"?`},
		{"listen", []string{"x", "127.0.0.1:1", "127.0.0.1"}, "--x: listen: \"x\" is not ADDR:PORT; write for example \"0.0.0.0:6881\" or \"[::]:6881\"\n--x: listen: \"127.0.0.1\" has no port; write \"127.0.0.1:6881\""},
		{"bootstrap", []string{"none", "a.example:1", "none"}, `--x: bootstrap: "none" stands among other nodes; write it alone, or leave it out`},
		{"quux", []string{"off"}, `--x: unknown key "quux"; "kdht config show" lists them all`},
	} {
		err := config.New().Set("--x", c.key, c.words...)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s=%v:\ngot  %v\nwant %s", c.key, c.words, err, c.want)
		}
	}
}

func TestByteOrderMark(t *testing.T) {
	if _, err := config.Parse("f", []byte("\ufeff{\"http\": \"off\"}")); err != nil {
		t.Error(err)
	}
}

func TestTooManyFaultsAreCutOff(t *testing.T) {
	var b strings.Builder
	for i := range 100 {
		b.WriteString(`"k` + strings.Repeat("x", i) + `": 1,`)
	}
	_, err := config.Parse("f", []byte("{"+b.String()+"}"))
	if n := len(strings.Split(err.Error(), "\n")); n != 20 {
		t.Errorf("%d errors", n)
	}
}

func TestNearest(t *testing.T) {
	words := []string{"listen", "http", "linger"}
	for in, want := range map[string]string{
		"lsiten": "listen", "Listen": "listen", "li-sten": "listen", "listening": "listen", "htpp": "http", "zzz": "", "": "",
		strings.Repeat("listen", 20): "",
	} {
		if got := config.Nearest(in, words); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
