package config

import (
	"log/slog"
	"net/netip"
	"strings"
	"time"
)

// Defaults that depend on where the program runs are chosen by fill; in the table they are these words.
const (
	defaultState     = `the platform's place for state`
	defaultBootstrap = `["router.bittorrent.com:6881", "dht.transmissionbt.com:6881", "dht.libtorrent.org:25401", "router.utorrent.com:6881"]`
)

// defaultAllow are the addresses that cannot be those of strangers: loopback, private (RFC 1918, RFC 4193), link-local, and IPv6 ones of
// tailnets, which are private as well. The IPv4 addresses of tailnets are from the range that providers' customers behind NAT share
// (RFC 6598), so who may ask from there package tailnet says.
const defaultAllow = `["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "169.254.0.0/16", "fe80::/10", ` +
	`"fd7a:115c:a1e0::/48"]`

// sections describes the objects inside the configuration, in the order in which they are printed.
var sections = []struct{ name, doc string }{
	{"xdp", "The kernel half, which answers most queries at the network interface."},
	{"store", "What is kept for others, and for how long. What would exceed a bound is refused."},
	{"token", "Write tokens: whoever wants to store something must show one that we gave to its address."},
	{"table", "The routing tables, and their maintenance."},
	{"lookup", "The queries we send to find nodes, peers and items."},
	{"recursion", "Lookups for clients that have no DHT logic: queries with a top-level rd = 1 (recursion desired)."},
	{"limits", "Rates of our own queries, so that we are a burden to nobody, and of what others ask, so that nobody is a burden to us or, with forged addresses, through us to others."},
	{"gateway", "Items, names and peers over HTTP, for programs: /v1/ at the address of the status page, described by /v1/openapi.yaml. Programs on this machine and holders of a token may read and write; others as said here."},
	{"names", "Plain names of a fleet: mutable items signed with one key, which every box of the fleet keeps. Over HTTP /v1/names/, on the command line \"kdht name\"."},
	{"update", "Updates of the appliance. Elsewhere these keys mean nothing."},
	{"tailnet", "The admin plane: the program joins a tailnet, of Tailscale or Headscale, and serves there, to those who may, the status page, profiles, the log, configuration, backups and updates. " +
		"What users and tags may do, the tailnet's policy says with the capability kdht.internal/cap/admin; for those whom it gives none, the lists here do. Nobody else may do anything."},
	{"log", "The log, on standard error."},
}

// keys is the table of keys: name, kind with unit and range, default, field, description.
var keys = []*key{
	entry("network", choice[Network]{Public, Private}, `"public"`,
		func(c *Config) *Network { return &c.Network },
		"Which DHT the node belongs to: the public Mainline DHT, or a private one of your own machines. "+
			"In a private network, private and shared addresses are nodes like any other, and there are no public bootstrap nodes."),
	entry("listen", list[netip.AddrPort]{elem: endpoint{}, what: "addresses", example: `["0.0.0.0:6881", "[::]:6881"]`, max: 64, more: bothFamilies},
		`["0.0.0.0:6881", "[::]:6881"]`,
		func(c *Config) *[]netip.AddrPort { return &c.Listen },
		"UDP addresses to serve on. 0.0.0.0 is every IPv4 address of the machine, [::] every IPv6 address; \":6881\" stands for both."),
	entry("bootstrap", list[string]{elem: remote{}, what: "nodes", example: `["router.bittorrent.com:6881"]`, none: "none", max: 64},
		defaultBootstrap,
		func(c *Config) *[]string { return &c.Bootstrap },
		"Nodes to join through when the saved routing table is empty or stale. The first node of a new network has none. "+
			"[] is none, and the default in a private network."),
	entry("discovery", choice[Discovery]{DiscoveryAuto, DiscoveryOn, DiscoveryOff}, `"auto"`,
		func(c *Config) *Discovery { return &c.Discovery },
		"Whether nodes on the same LAN find each other with no configuration, by DNS-SD (multicast DNS, _kdht._udp). auto is on in a private "+
			"network and off in the public one. On in the public one it finds those nodes nearby that have public addresses, as with IPv6; "+
			"others are of no use there."),
	entry("networkName", text{what: "a name", min: 1, max: 63, example: "shelf 3"}, `"kdht"`,
		func(c *Config) *string { return &c.NetworkName },
		"Of the private network: nodes on the same LAN find only those that have the same name. It keeps fleets apart, not intruders out: "+
			"nodes of different names that come to know each other otherwise form one network."),
	entry("interfaces", list[string]{elem: iface{}, what: "interfaces", example: `["eth0"]`, none: "all", max: 64}, `[]`,
		func(c *Config) *[]string { return &c.Interfaces },
		"Network interfaces at which the kernel half answers. [] is all: every suitable one, those that appear later too."),
	entry("external", list[netip.Addr]{elem: unicast{}, what: "addresses", example: `["198.51.100.7"]`, none: "auto", max: 2, also: onePerFamily}, `[]`,
		func(c *Config) *[]netip.Addr { return &c.External },
		"The addresses under which other nodes see this one, at most one per family; node IDs are derived from them (BEP 42). "+
			"[] is auto: the public address of this host, or what other nodes report."),
	entry("nodeIDSeed", text{what: "any text", max: 128, example: "shelf 3, box 7"}, `""`,
		func(c *Config) *string { return &c.NodeIDSeed },
		"The same seed at the same external address gives the same node ID, even after the state was lost. "+
			"It must differ between nodes. Empty: random, and kept in the state directory."),
	entry("state", text{what: "a directory", min: 1, max: 4096, example: "/var/lib/kdht"}, defaultState,
		func(c *Config) *string { return &c.State },
		"Directory of the database; it is made when missing. The default is $STATE_DIRECTORY if systemd sets it, /perm/kdht on gokrazy, "+
			"/var/lib/kdht for root, else $XDG_STATE_HOME/kdht or ~/.local/state/kdht."),
	entry("http", web{}, `":8080"`,
		func(c *Config) *string { return &c.HTTP },
		"TCP address of the status page, its JSON twin /status and the metrics, which show and change nothing, and of HTTP for programs (gateway). On the appliance the default is \":80\", and with that all this is at port 8080 as well."),

	entry("hostname", hostLabel{}, `""`,
		func(c *Config) *string { return &c.Hostname },
		"On the appliance, the name of the machine, for DHCP and on the LAN. Empty: kdht- and the end of its MAC address, as in kdht-a1b2c3. "+
			"Elsewhere it means nothing."),

	entry("xdp.mode", choice[XDPMode]{XDPAuto, XDPNative, XDPGeneric, XDPOff}, `"auto"`,
		func(c *Config) *XDPMode { return &c.XDP.Mode },
		"Where the kernel half is attached: in the NIC's driver (native), in the network core (generic), native where the driver can and "+
			"else generic (auto), or nowhere (off), and everything is served from user space. \"kdht status\" shows what came of it, and why."),
	entry("xdp.linger", duration{0, time.Hour}, `"0s"`,
		func(c *Config) *time.Duration { return &c.XDP.Linger },
		"How long the kernel half goes on answering after the program was stopped, so that a restart loses no query. "+
			"0s: it is detached when the program stops. On the appliance the default is 30s."),
	entry("xdp.lease", duration{5 * time.Second, 10 * time.Minute}, `"1m"`,
		func(c *Config) *time.Duration { return &c.XDP.Lease },
		"How long the kernel half goes on answering, from what it knew last, after the program crashed or hung."),
	entry("xdp.hotBytes", size{0, 1 << 30}, `"4MiB"`,
		func(c *Config) *int64 { return &c.XDP.HotBytes },
		"Memory of the kernel half for items and peers that are asked for often, which it then answers for itself: half of it for "+
			"values of up to 189 bytes, half for longer ones. 0: all that is held here is answered from user space."),
	entry("xdp.hotAfter", whole{1, 1_000_000, "queries"}, `8`,
		func(c *Config) *int { return &c.XDP.HotAfter },
		"How many queries within about ten seconds make a key hot, so that the kernel half answers for it."),

	entry("store.maxBytes", size{1 << 20, 1 << 40}, `"64MiB"`,
		func(c *Config) *int64 { return &c.Store.MaxBytes },
		"All items and peers together."),
	entry("store.maxItems", whole{1, 100_000_000, "items"}, `100000`,
		func(c *Config) *int { return &c.Store.MaxItems },
		"Items (BEP 44), immutable and mutable together."),
	entry("store.maxInfohashes", whole{1, 100_000_000, "infohashes"}, `20000`,
		func(c *Config) *int { return &c.Store.MaxInfohashes },
		"Infohashes for which peers are kept."),
	entry("store.maxPeersPerInfohash", whole{1, 100_000, "peers"}, `500`,
		func(c *Config) *int { return &c.Store.MaxPeersPerInfohash },
		"Peers of one infohash, both address families together."),
	entry("store.maxBytesPerSource", size{1 << 10, 1 << 40}, `"1MiB"`,
		func(c *Config) *int64 { return &c.Store.MaxBytesPerSource },
		"What one IPv4 address or IPv6 /64 may have stored here."),
	entry("store.itemTTL", duration{time.Minute, 30 * 24 * time.Hour}, `"2h"`,
		func(c *Config) *time.Duration { return &c.Store.ItemTTL },
		"Items expire so long after their last put. BEP 44 suggests two hours, and publishers repeat every hour."),
	entry("store.peerTTL", duration{time.Minute, 24 * time.Hour}, `"30m"`,
		func(c *Config) *time.Duration { return &c.Store.PeerTTL },
		"Peers expire so long after their last announce. Clients repeat every 15 to 30 minutes."),

	entry("token.rotation", duration{time.Minute, time.Hour}, `"5m"`,
		func(c *Config) *time.Duration { return &c.Token.Rotation },
		"Life of the secret that tokens are made with. Its predecessor is accepted for as long again."),

	entry("table.bits", whole{1, 5, "bits"}, `4`,
		func(c *Config) *int { return &c.Table.Bits },
		"How many bits of node IDs the routing tables tell apart at a time (Kademlia's b): with more, lookups take fewer hops, and more nodes are "+
			"kept in touch with. In a network of 10 million nodes 1 makes about 170 contacts, 4 about 1,100, 5 about 2,100; each is pinged after "+
			"15 minutes in which nothing was heard of it, so that with 4 the upkeep is one or two queries a second. Below a few hundred nodes all "+
			"values are alike."),
	entry("table.save", duration{10 * time.Second, 24 * time.Hour}, `"5m"`,
		func(c *Config) *time.Duration { return &c.Table.Save },
		"How often the routing tables are saved, so that a restarted node needs no bootstrap nodes. They are saved at every clean stop, too."),

	entry("lookup.alpha", whole{1, 16, "queries"}, `3`,
		func(c *Config) *int { return &c.Lookup.Alpha },
		"Queries that one lookup has in flight, per address family."),
	entry("lookup.timeout", duration{time.Second, 10 * time.Minute}, `"1m"`,
		func(c *Config) *time.Duration { return &c.Lookup.Timeout },
		"A lookup that takes longer ends with what it has found."),
	entry("lookup.republish", duration{time.Minute, 24 * time.Hour}, `"1h"`,
		func(c *Config) *time.Duration { return &c.Lookup.Republish },
		"How often what this node itself has put is put again. It should be at most half of what other nodes keep items for."),

	entry("recursion.allow", list[netip.Prefix]{elem: prefix{}, what: "prefixes", example: `["192.168.0.0/16", "fd00::/8"]`, none: "none", max: 64},
		defaultAllow,
		func(c *Config) *[]netip.Prefix { return &c.Recursion.Allow },
		"Clients for which this node looks things up. They also put and announce without a token. Everybody else is answered as if rd were absent. "+
			"The default is this machine, the private and link-local ranges, and those of tailnets: fd7a:115c:a1e0::/48 stands for clients in a tailnet of this host over IPv4 too, "+
			"but not for others in 100.64.0.0/10, a range that strangers behind the same provider's NAT have. [] is nobody: recursion is off."),
	entry("recursion.maxLookups", whole{1, 10_000, "lookups"}, `128`,
		func(c *Config) *int { return &c.Recursion.MaxLookups },
		"Recursions under way; queries for the same thing count as one, and 16 times as many queries may wait. What is over it is answered as if rd were absent. Clients who never proved their address have an eighth of them together, and are asked for a proof beyond that. One takes 20 to 40 queries, so recursion.queriesPerSecond bounds them too: more begin only while there is enough of it, and up to as many again wait."),
	entry("recursion.queriesPerSecond", whole{0, 100_000, "queries per second"}, `0`,
		func(c *Config) *int { return &c.Recursion.QueriesPerSecond },
		"What we send for all recursions together, beside limits.queriesPerSecond, so that no client can have this node flood others. Half of it is for the kernel half, which needs 3 to 5 for "+
			"one; what is more than that is looked up by user space, which has the other half (all, if xdp.mode is off) and gives clients equal parts when it is short. Clients who have not shown where they are have an eighth, all together. "+
			"0 is 2,000 in the public network and 10,000 in a private one. A router whose NAT table is small bears less."),
	entry("recursion.maxPerClient", whole{1, 10_000, "queries"}, `32`,
		func(c *Config) *int { return &c.Recursion.MaxPerClient },
		"Queries of one IPv4 address or IPv6 /64 that wait for a recursion."),
	entry("recursion.cacheBytes", size{64 << 10, 1 << 30}, `"4MiB"`,
		func(c *Config) *int64 { return &c.Recursion.CacheBytes },
		"Fetched items that are kept in memory, and an eighth of that for peers. Those not asked for lately give way."),
	entry("recursion.cacheTTL", duration{time.Second, 2 * time.Hour}, `"30s"`,
		func(c *Config) *time.Duration { return &c.Recursion.CacheTTL },
		"A mutable item, or the peers of an infohash, are looked up again so long after they were fetched, since somebody may have put a newer version or joined. Immutable items stay up to two hours."),

	entry("limits.queriesPerNode", rate{0, 1000, "queries"}, `0`,
		func(c *Config) *float64 { return &c.Limits.QueriesPerNode },
		"What we send to one address, the queries that the kernel half sends on for clients included, after the first few: 8, or as many as in a quarter of a second. "+
			"0 is 2.8 in the public network, where common clients ignore an address for minutes after 50 datagrams in 10 seconds, and 100 in a private one."),
	entry("limits.queriesPerSecond", whole{1, 100_000, "queries per second"}, `250`,
		func(c *Config) *int { return &c.Limits.QueriesPerSecond },
		"What we send to all nodes together of our own accord: to keep the tables up to date, and for the lookups of this box. What clients have looked up counts in "+
			"recursion.queriesPerSecond."),
	entry("limits.perSource", rate{0, 1_000_000, "datagrams"}, `200`,
		func(c *Config) *float64 { return &c.Limits.PerSource },
		"What one IPv4 address or IPv6 /64 may send us in the long run; the rest is dropped. A client sends a few per minute, a crawler some dozens "+
			"per second, the thousands of customers behind one provider's NAT address about as many. "+
			"If it has shown where it is, a reply more than 256 bytes longer than its query counts, too: as one datagram for each 256 bytes beyond those. 0 is no limit."),
	entry("limits.burst", whole{1, 1_000_000, "datagrams"}, `1000`,
		func(c *Config) *int { return &c.Limits.Burst },
		"What such a source may send at once; long replies to it count here as well."),
	entry("limits.unprovenBytes", size{0, 1 << 30}, `"512KiB"`,
		func(c *Config) *int64 { return &c.Limits.UnprovenBytes },
		"By how many bytes per second our replies may be longer than their queries, all those together whose sender has not shown in the last half hour that "+
			"he is where he says: so much can be sent through us to somebody whose address was forged. Whoever comes when it is used up is asked "+
			"for a sign first, which costs an honest client one more try. 0B is no limit."),
	entry("limits.unprovenDatagrams", whole{0, 10_000_000, "datagrams per second"}, `1000`,
		func(c *Config) *int { return &c.Limits.UnprovenDatagrams },
		"What the kernel half passes up to user space from such senders, all together; of what comes in fragments the first counts. What exceeds it is asked for a sign or dropped. "+
			"Those of limits.exempt and recursion.allow have half as much, of their own: such addresses can be forged, too, and recursion costs more. 0 is no limit."),
	entry("limits.exempt", list[netip.Prefix]{elem: prefix{}, what: "prefixes", example: `["192.168.0.0/16", "fd00::/8"]`, none: "none", max: 1024},
		defaultAllow,
		func(c *Config) *[]netip.Prefix { return &c.Limits.Exempt },
		"Sources that may ask for any amount, but of what user space has to answer only once they have shown where they are (limits.unprovenDatagrams): by default this machine, private and link-local networks, and tailnets over IPv6. 100.64.0.0/10, where tailnets have their IPv4 addresses and "+
			"providers their customers behind NAT, is not among them; a box that only a tailnet reaches may add it. [] is none."),

	entry("gateway.read", choice[Read]{ReadAuto, ReadOn, ReadOff}, `"auto"`,
		func(c *Config) *Read { return &c.Gateway.Read },
		"Whether gateway.allow may look things up without credentials. auto is on in a private network and off in the public one."),
	entry("gateway.allow", list[netip.Prefix]{elem: prefix{}, what: "prefixes", example: `["192.168.0.0/16", "fd00::/8"]`, none: "none", max: 64},
		defaultAllow,
		func(c *Config) *[]netip.Prefix { return &c.Gateway.Allow },
		"Who that is. The default is this machine, the private and link-local ranges, and those of tailnets, as with recursion.allow. [] is nobody."),
	entry("gateway.put", choice[Put]{PutAuthority, PutReaders}, `"authority"`,
		func(c *Config) *Put { return &c.Gateway.Put },
		"Who may put what carries its own proof: immutable items, and those that the caller has signed, as pkarr clients do. authority is who may write anyway, "+
			"readers is everybody who may read."),
	entry("gateway.tokens", list[Bearer]{elem: bearer{}, what: "tokens", example: `["backup:SECRET"]`, none: "none", max: 64, secret: true, also: distinctNames}, `[]`,
		func(c *Config) *[]Bearer { return &c.Gateway.Tokens },
		"Bearer tokens, each with the name of who has it: with \"Authorization: Bearer SECRET\" a program may read and write from anywhere. HTTP is not encrypted: "+
			"use them where nobody listens, or over a tailnet.").redacted(func(c *Config) string {
		names := make([]string, len(c.Gateway.Tokens))
		for i, t := range c.Gateway.Tokens {
			names[i] = quote(t.Name + ":")
		}
		return "[" + strings.Join(names, ", ") + "]"
	}),
	entry("gateway.sign", list[string]{elem: text{what: "the name of a token", min: 1, max: 32, example: "loopback"}, what: "names", example: `["loopback"]`, none: "none", max: 66}, `[]`,
		func(c *Config) *[]string { return &c.Gateway.Sign },
		"For whom the box signs items with its own key: names of gateway.tokens, \"loopback\" for programs on this machine, \"operators\" for those in the tailnet."),
	entry("gateway.origins", list[string]{elem: origin{}, what: "origins", example: `["https://app.example.org"]`, none: "none", max: 64}, `[]`,
		func(c *Config) *[]string { return &c.Gateway.Origins },
		"Web pages that may use it with their scripts (CORS). \"*\" is all pages that anybody's browser shows, as public pkarr relays have it: "+
			"they may read, to write they must be named. For such pages it answers by any name, also one that gateway.hosts does not have, so that it may stand behind a proxy."),
	entry("gateway.hosts", list[string]{elem: domain{}, what: "names", example: `["box.example.org"]`, none: "none", max: 64}, `[]`,
		func(c *Config) *[]string { return &c.Gateway.Hosts },
		"Names by which browsers may ask for the status page and this, each with all names below it. IP addresses, the machine's own name, names without a dot and those in .local, .internal, .lan, .home and "+
			"such need not be named: nobody elsewhere can have them point here, and a page under a name that somebody can could read what the box says (DNS rebinding)."),
	entry("gateway.perSecond", rate{0.1, 1_000_000, "requests"}, `50`,
		func(c *Config) *float64 { return &c.Gateway.PerSecond },
		"What one IPv4 address or IPv6 /64 may ask for in the long run; this machine any number."),
	entry("gateway.burst", whole{1, 1_000_000, "requests"}, `200`,
		func(c *Config) *int { return &c.Gateway.Burst },
		"What it may ask for at once."),

	entry("names.key", publicKey{}, `""`,
		func(c *Config) *string { return &c.Names.Key },
		"Public key of the fleet. With it alone, names can be read, and are kept for the others. Empty: that of names.secret, or no names."),
	entry("names.secret", seed{}, `""`,
		func(c *Config) *string { return &c.Names.Secret },
		"Secret key of the fleet, with which names are changed: the file that \"kdht keygen\" made, or its 64 hexadecimal digits. Whoever has it can change every "+
			"name. Empty: this box only reads them.").redacted(func(c *Config) string {
		if seed, file := c.Names.Seed(); seed == nil {
			return quote(file)
		}
		return `""`
	}),

	entry("update.key", publicKey{}, `""`,
		func(c *Config) *string { return &c.Update.Key },
		"Public key of releases. With it, only what is signed is taken, also from whoever knows the password of the box. Empty: what is uploaded need not be signed."),
	entry("update.url", releases{}, `""`,
		func(c *Config) *string { return &c.Update.URL },
		"Where the box looks for releases by itself: the directory that has their manifest.json. A host of the tailnet that the box is in, by its whole name or its address there, is reached through that. "+
			"It needs update.key. Empty: it does not look.").redacted(func(c *Config) string {
		return quote(WithoutSecrets(c.Update.URL))
	}),
	entry("update.every", duration{10 * time.Minute, 30 * 24 * time.Hour}, `"6h"`,
		func(c *Config) *time.Duration { return &c.Update.Every },
		"How often it looks, a quarter of that more or less, so that boxes do not come all at once."),
	entry("update.window", hours{}, `""`,
		func(c *Config) *Window { return &c.Update.Window },
		"When it takes a release that it found and restarts."),
	entry("update.trial", duration{30 * time.Second, 30 * time.Minute}, `"5m"`,
		func(c *Config) *time.Duration { return &c.Update.Trial },
		"A new version that has not proved well so long after the machine started is taken back."),

	entry("tailnet.mode", choice[TailnetMode]{TailnetAuto, TailnetOn, TailnetOff}, `"auto"`,
		func(c *Config) *TailnetMode { return &c.Tailnet.Mode },
		"Whether the program joins a tailnet. auto is on with an auth key (tailnet.authKey, tailnet.authKeyFile, "+TailnetKeyVariable+" in the environment, on the appliance tailnet.key on "+
			"the boot partition), and once it has joined. on needs none: the log and the status page then have a URL at which somebody logs in."),
	entry("tailnet.authKey", secret{what: "an auth key", example: `the key that the control server has made, as in "tskey-auth-..."`, form: authKeyForm}, `""`,
		func(c *Config) *string { return &c.Tailnet.AuthKey },
		"Auth key to join with. It is used when the control server asks for a login, and never shown. tailnet.authKeyFile is a better place.").secret(),
	entry("tailnet.authKeyFile", text{what: "a file", max: 4096, example: "/etc/kdht/tailnet.key"}, `""`,
		func(c *Config) *string { return &c.Tailnet.AuthKeyFile },
		"File that has the auth key and nothing else. It is read again whenever a login is needed, so that a new key works without a restart. Empty: none."),
	entry("tailnet.controlURL", control{}, `""`,
		func(c *Config) *string { return &c.Tailnet.ControlURL },
		"The control server, as of Headscale. Empty: Tailscale's; a box that has joined elsewhere, in mode auto and without an auth key that was not used yet, stays where it is."),
	entry("tailnet.hostname", hostLabel{}, `""`,
		func(c *Config) *string { return &c.Tailnet.Hostname },
		"Name of the box in the tailnet. Empty: that of the machine."),
	entry("tailnet.tags", list[string]{elem: principal{tagsOnly: true}, what: "tags", example: `["tag:kdht"]`, none: "none", max: 16}, `[]`,
		func(c *Config) *[]string { return &c.Tailnet.Tags },
		"Tags that the box asks for when it joins. The tailnet's policy must allow them (tagOwners)."),
	entry("tailnet.viewers", list[string]{elem: principal{}, what: "names", example: `["alice@example.org"]`, none: "none", max: 256}, `[]`,
		func(c *Config) *[]string { return &c.Tailnet.Viewers },
		"Who may look at everything, but for secrets, and change nothing: the page, the log, the configuration, the audit log; over HTTP for programs, read."),
	entry("tailnet.operators", list[string]{elem: principal{}, what: "names", example: `["alice@example.org", "tag:admin"]`, none: "none", max: 256}, `[]`,
		func(c *Config) *[]string { return &c.Tailnet.Operators },
		"Who may, beside that, change the configuration, restart, take and restore backups, take profiles, and write over HTTP for programs."),
	entry("tailnet.updaters", list[string]{elem: principal{}, what: "names", example: `["tag:deploy"]`, none: "none", max: 256}, `[]`,
		func(c *Config) *[]string { return &c.Tailnet.Updaters },
		"Who may, beside looking, update the appliance, as \"gok update\" does. With update.key, only what is signed is taken from them as well."),

	entry("log.level", level{}, `"info"`,
		func(c *Config) *slog.Level { return &c.Log.Level },
		"The least severity that is logged."),
	entry("log.format", choice[LogFormat]{LogText, LogJSON}, `"text"`,
		func(c *Config) *LogFormat { return &c.Log.Format },
		"Lines of key=value pairs, or one JSON object per line."),
}
