// Package manifest describes a release: which files make up an update for which box, and who vouches for them.
//
// A release is a directory, on a disk or behind a URL, with a file manifest.json ([Name]) and the files that it names.
// The manifest file is a signed document: the manifest itself, the Ed25519 public key, and the signature over the
// manifest's canonical form, which is its JSON text without insignificant white space, so that it may be indented
// freely and newer fields do not break older readers. Keys are those of "kdht keygen".
//
// The package is pure: it reads and writes no files, and depends on nothing but the standard library.
package manifest
