// Package status shows the state of the process over HTTP: a page for people, the same as JSON, metrics for
// Prometheus, and endpoints that tell whether the process is well and whether the node is ready.
//
// It shows and changes nothing. Everything comes from one [Report], and the past from package history.
//
// The page is made of parts, each a template and an element with the same name. Whoever follows the page, by /live, gets the
// parts that have changed, made once for all who follow, and a script of its own puts them in their places. Nothing is
// computed there, so that the page with the script and without say the same.
package status
