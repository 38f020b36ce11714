// Command kdht is the one program: a node of a Mainline DHT (serve), its clients (get, put, announce, peers, ping,
// find), and the tools around them (status, decode, config, keygen).
//
// Here are only the command line, what is printed, and exit codes. The node's life is in package appliance, lookups
// are in package router, the configuration is in package config.
package main
