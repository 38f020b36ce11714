package store

import (
	"slices"

	"go.etcd.io/bbolt"
)

// WithMigration appends a migration to the package's own.
func WithMigration(o Options, m func(*bbolt.Tx) error) Options {
	o.migrations = append(slices.Clone(migrations), m)
	return o
}
