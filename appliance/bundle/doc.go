// Package bundle gathers what somebody needs who is to find out from afar what is wrong with a node: a gzipped tar file with
// health, report, metrics, history, the last lines of the log, the configuration, goroutines, interfaces, routes, what the
// kernel says of itself, and the histories of updates and of the admin plane.
//
// Secrets are not in it: the configuration is the redacted one, and whatever else is gathered is searched for every secret that
// the node knows before it is written. It has addresses of the node, of its clients and of other nodes, and is given
// only to those who may write through the gateway, who know the password of an appliance, and whom else the program says.
package bundle
