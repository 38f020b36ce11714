// Package foreign drives DHT clients that others wrote, each on a host of a fleet: libtorrent (through Debian's
// python3-libtorrent), bittorrent-dht (npm), Transmission and aria2. The tests with real clients use it.
//
// Every client bootstraps from one node that it is given, and from nothing else. Values are bencoded byte strings
// throughout: clients take and give the string, kdht the bencoded value.
package foreign
