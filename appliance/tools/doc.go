// Package tools is what people can do on the status page: look something up and see the lookup go from node to node, and see
// what is in a datagram. Both are pages that a server writes and that need no script; a lookup's comes row by row as the
// lookup goes.
package tools
