"""A libtorrent DHT node with its limits lifted, for comparison: serves until it is killed."""
import signal
import sys

import libtorrent as lt

address, bootstrap = sys.argv[1:3]
session = lt.session({
    "listen_interfaces": address,
    "dht_bootstrap_nodes": bootstrap,
    "enable_dht": True,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "dht_block_ratelimit": 1_000_000_000,
    "dht_upload_rate_limit": 1_000_000_000,
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_prefer_verified_node_ids": False,
    "dht_ignore_dark_internet": False,
    "alert_mask": 0,
})
signal.pause()
