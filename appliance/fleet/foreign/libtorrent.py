"""Drives one libtorrent session for the real-client tests.

Reads one JSON object per line from standard input: {"do": NAME, ...arguments}. Writes one per line to standard
output: {"ok": true, ...results} or {"ok": false, "error": TEXT}. Bytes travel as hexadecimal text. The first line
written says {"ok": true} once the session listens.

Arguments: the bootstrap node as HOST:PORT, then every own address as IP:PORT.
"""

import hashlib
import json
import os
import select
import socket
import sys
import time

import libtorrent as lt

hexa = bytes.hex
unhex = bytes.fromhex
ended = []  # sessions that are done


def item(alert):
    """Returns the item of an alert, None if the alert says that there is none."""
    try:
        return alert.item
    except RuntimeError:  # "invalid type requested from entry"
        return None


def fresh_get(bootstrap, listen, target, seconds):
    """Gets an item with a session that is made for it, and says how long both took, in seconds."""
    begun = time.perf_counter()
    session = Session(bootstrap, [listen])
    while session.nodes() == 0:  # a lookup that begins before that gives no result
        if time.perf_counter() - begun > seconds:
            raise TimeoutError("no node answered in %d s" % seconds)
        time.sleep(0.002)
    result = dict(session.get_immutable(target, seconds), took=time.perf_counter() - begun)
    session.session.apply_settings({"enable_dht": False})
    ended.append(session)  # to end it takes long
    return result


class Session:
    def __init__(self, bootstrap, listen):
        self.session = lt.session({
            "listen_interfaces": ",".join(listen),
            "dht_bootstrap_nodes": bootstrap,
            "enable_dht": True,
            "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
            # Limits meant for the open Internet, in which one address is not asked by a whole test.
            "dht_block_ratelimit": 1000000,
            "dht_upload_rate_limit": 100000000,
            "dht_announce_interval": 30,
            "allow_multiple_connections_per_ip": True,
            "alert_mask": lt.alert.category_t.dht_notification
            | lt.alert.category_t.dht_operation_notification | lt.alert.category_t.status_notification
            | lt.alert.category_t.error_notification,
        })
        self.alerts, notify = os.pipe()
        os.set_blocking(self.alerts, False)
        os.set_blocking(notify, False)
        self.session.set_alert_fd(notify)

    def pause(self, seconds):
        """Waits until there may be alerts, at most so long.

        The module's wait_for_alert returns a pointer into the queue of alerts, which moves when more come: it crashes
        the process now and then, most of all when a session begins (libtorrent 2.0.8).
        """
        if select.select([self.alerts], [], [], seconds)[0]:
            os.read(self.alerts, 4096)

    def wait(self, seconds, match):
        """Returns the first result of match(alert) that is not None, or None when the time is over."""
        end = time.monotonic() + seconds
        while True:
            for alert in self.session.pop_alerts():
                result = match(alert)
                if result is not None:
                    return result
            left = end - time.monotonic()
            if left <= 0:
                return None
            self.pause(left)

    def until(self, seconds, condition):
        """Waits until condition() holds, and raises TimeoutError when the time is over."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("still waiting after %d s" % seconds)
            self.session.pop_alerts()
            self.pause(0.1)

    def ready(self, nodes, seconds):
        """Waits until the routing tables have so many nodes, of all listen addresses together."""
        self.until(seconds, lambda: self.nodes() >= nodes)
        return {"nodes": self.nodes()}

    def nodes(self):
        """Returns the size of the routing tables."""
        self.session.post_session_stats()
        return self.wait(10, lambda a: a.values["dht.dht_nodes"]
                         if isinstance(a, lt.session_stats_alert) else None) or 0

    def put_immutable(self, value, seconds):
        target = self.session.dht_put_immutable_item(unhex(value))
        stored = self.wait(seconds, lambda a: a.num_success
                           if isinstance(a, lt.dht_put_alert) and a.target == target else None)
        return {"target": str(target), "stored": stored or 0}

    def get_immutable(self, target, seconds):
        want = lt.sha1_hash(unhex(target))
        self.session.dht_get_immutable_item(want)
        value = self.wait(seconds, lambda a: (item(a),)
                          if isinstance(a, lt.dht_immutable_item_alert) and a.target == want else None)
        if value is None or value[0] is None or value[0]["value"] is None:
            raise LookupError("no item")
        return {"value": hexa(lt.bencode(value[0]["value"]))}

    def time_get(self, target, seconds):
        """Gets an item and says how long that took, in seconds, without the way to this script."""
        begun = time.perf_counter()
        return dict(self.get_immutable(target, seconds), took=time.perf_counter() - begun)

    def put_mutable(self, seed, public, value, salt, seconds):
        # libtorrent wants the expanded private key: RFC 8032, section 5.1.5.
        h = bytearray(hashlib.sha512(unhex(seed)).digest())
        h[0] &= 248
        h[31] = h[31] & 63 | 64
        key, salt = unhex(public), unhex(salt)
        self.session.dht_put_mutable_item(bytes(h), key, unhex(value), salt)

        def match(a):
            if isinstance(a, lt.dht_put_alert) and a.public_key == key and a.salt.encode() == salt:
                return {"stored": a.num_success, "seq": a.seq}
            return None
        return self.wait(seconds, match) or {"stored": 0, "seq": 0}

    def get_mutable(self, public, salt, seconds):
        key, salt = unhex(public), unhex(salt)
        self.session.dht_get_mutable_item(key, salt)
        found = []

        def match(a):
            if isinstance(a, lt.dht_mutable_item_alert) and a.key == key and a.salt.encode() == salt:
                if a.item is not None and a.item["value"] is not None:
                    found.append({"value": hexa(lt.bencode(a.item["value"])), "seq": a.seq})
                if a.authoritative:
                    return True
            return None
        self.wait(seconds, match)
        if not found:
            raise LookupError("no item")
        return max(found, key=lambda f: f["seq"])

    def replay(self, address, public, salt, cas, seconds):
        """Puts the item that the session finds once more, with a cas, to one node, and returns the error code.

        The module has no way to give a cas, so this is a datagram of our own, made with libtorrent's bencoder from
        what libtorrent itself has put and signed.
        """
        key, salt = unhex(public), unhex(salt)
        self.session.dht_get_mutable_item(key, salt)
        item = self.wait(seconds, lambda a: a.item if isinstance(a, lt.dht_mutable_item_alert)
                         and a.key == key and a.salt.encode() == salt and a.authoritative else None)
        host, port = address.rsplit(":", 1)
        host = host.strip("[]")
        own = hashlib.sha1(public.encode()).digest()
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(5)
            s.connect((host, int(port)))

            def ask(query, arguments):
                arguments["id"] = own
                s.send(lt.bencode({"t": b"ca", "y": b"q", "q": query, "a": arguments}))
                return lt.bdecode(s.recv(2048))
            token = ask(b"get", {"target": hashlib.sha1(key + salt).digest()})[b"r"][b"token"]
            put = {"k": key, "seq": item["seq"], "sig": item["signature"], "v": item["value"], "cas": cas, "token": token}
            if salt:
                put["salt"] = salt
            reply = ask(b"put", put)
        return {"error_code": reply[b"e"][0] if b"e" in reply else 0}

    def get_peers(self, infohash, seconds):
        want = lt.sha1_hash(unhex(infohash))
        peers = set()

        def match(a):
            if isinstance(a, lt.dht_get_peers_reply_alert) and a.info_hash == want:
                peers.update("[%s]:%d" % p if ":" in p[0] else "%s:%d" % p for p in a.peers())
        # There is no alert for the end of the lookup.
        self.session.dht_get_peers(want)
        self.wait(seconds, match)
        return {"peers": sorted(peers)}

    def seed(self, path, seconds):
        """Makes a torrent of a file, seeds it and begins to announce it."""
        storage = lt.file_storage()
        lt.add_files(storage, path)
        creator = lt.create_torrent(storage, 16384, lt.create_torrent.v1_only)
        lt.set_piece_hashes(creator, os.path.dirname(path))
        info = lt.torrent_info(lt.bdecode(lt.bencode(creator.generate())))
        params = lt.add_torrent_params()
        params.ti = info
        params.save_path = os.path.dirname(path)
        params.flags |= lt.torrent_flags.seed_mode
        params.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
        handle = self.session.add_torrent(params)
        self.until(seconds, lambda: handle.status().is_seeding)  # nothing is announced before that
        handle.force_dht_announce()
        return {"infohash": str(info.info_hash())}

    def download(self, infohash, directory, seconds):
        """Downloads a torrent of which nothing but the infohash is known."""
        params = lt.parse_magnet_uri("magnet:?xt=urn:btih:" + infohash)
        params.save_path = directory
        params.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
        handle = self.session.add_torrent(params)
        self.until(seconds, lambda: handle.status().is_seeding)
        return {"name": handle.status().name}


def main():
    session = Session(sys.argv[1], sys.argv[2:])
    listening = set()

    def match(a):
        if isinstance(a, lt.listen_failed_alert):
            raise OSError(a.message())
        if isinstance(a, lt.listen_succeeded_alert):
            listening.add(a.message())
        return True if len(listening) >= 2 * len(sys.argv[2:]) else None  # TCP and uTP
    session.wait(10, match)
    print(json.dumps({"ok": True}), flush=True)
    for line in sys.stdin:
        try:
            arguments = json.loads(line)
            do = arguments.pop("do")
            result = fresh_get(**arguments) if do == "fresh_get" else getattr(session, do)(**arguments)
            print(json.dumps(dict(result, ok=True)), flush=True)
        except Exception as err:  # whatever it is, the test shall see it
            print(json.dumps({"ok": False, "error": "%s: %s" % (type(err).__name__, err)}), flush=True)


main()
