// Package status shows the state of the process over HTTP: a page for people, the same as JSON, metrics for
// Prometheus, and endpoints that tell whether the process is well and whether the node is ready.
//
// It shows and changes nothing. Everything comes from one [Report].
package status
