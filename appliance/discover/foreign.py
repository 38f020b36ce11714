# Browses for KDHT nodes with python-zeroconf, an implementation of others, and announces one itself if it is given a
# port. It prints "+" or "-", and of a node that is there name, address:port pairs and texts, as JSON; it ends with its
# standard input.
import ipaddress, json, socket, sys, threading
from zeroconf import InterfaceChoice, IPVersion, ServiceBrowser, ServiceInfo, Zeroconf

TYPE = "_kdht._udp.local."
address, port = sys.argv[1], int(sys.argv[2])
print_lock = threading.Lock()


def say(kind, **what):
    with print_lock:
        print(json.dumps({"kind": kind, **what}), flush=True)


class Listener:
    def add_service(self, zc, type_, name):
        info = zc.get_service_info(type_, name, timeout=5000)
        if info is None:
            return say("?", name=name)
        say("+", name=name, addrs=sorted(info.parsed_addresses()), port=info.port,
            text={k.decode(): v.decode() for k, v in info.properties.items()})

    update_service = add_service

    def remove_service(self, zc, type_, name):
        say("-", name=name)


zc = Zeroconf(interfaces=[address], ip_version=IPVersion.V4Only)
if port:
    zc.register_service(ServiceInfo(TYPE, f"foreign {port}." + TYPE, addresses=[ipaddress.ip_address(address).packed], port=port,
                                    properties={"txtvers": "1", "network": "private", "name": "kdht", "version": "other"},
                                    server=f"foreign-{port}.local."))
    say("registered")
browser = ServiceBrowser(zc, TYPE, Listener())
sys.stdin.read()
zc.close()
