// Package config is the one typed configuration of the program: its keys, their defaults, units, ranges and
// descriptions, the strict parser of the configuration file, and the printer of the effective configuration.
//
// The file is HuJSON: JSON with comments and trailing commas. Every fault in it is reported with file, line, column
// and what to write instead. Command-line flags override the file; both pass through the same table of keys, so a
// value is judged alike wherever it comes from.
//
//	b := config.New()
//	err := b.File("kdht.hujson")           // optional
//	err = b.Set("--http", "http", ":8080") // optional, as often as wanted
//	cfg, err := b.Config()
//
// Not here: what a value does. Every room reads the part of [Config] that concerns it, and this package imports none
// of them.
package config
