package update

import (
	"errors"
	"fmt"
	"net/http"

	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/manifest"
)

// Errors of requests; each is an HTTP status and a sentence.
var (
	// ErrTrial says that a trial runs, and nothing may change until it is over.
	ErrTrial = errors.New("a new version is on trial: wait until it is committed or reverted, which \"kdht update status\" shows")
	// ErrBusy says that another update is under way.
	ErrBusy = errors.New("another update is under way: wait until it ends")
	// ErrUnsigned says that a release key is configured and nothing signed covers what was sent.
	ErrUnsigned = errors.New("this box takes signed releases only (its configuration has update.key): use \"kdht update apply\", or PUT the release's manifest.json to /update/manifest first")
	// ErrDowngrade says that a release is older than the one that was committed.
	ErrDowngrade = errors.New("the release is not newer than what this box has had: \"kdht update apply --downgrade VERSION\" takes it if you name its version")
	// ErrFloor says that a release is older than what may be installed after one that was committed.
	ErrFloor = errors.New("the release is too old: one that this box has had forbids to go back so far")
	// ErrOther says that a release is not the old one that was asked for.
	ErrOther = errors.New("the release is not the version that was asked for")
	// ErrSession says that another client has not done with its update.
	ErrSession = errors.New("another client is in the middle of an update")
	// ErrMismatch says that a file is not the one that the manifest describes.
	ErrMismatch = errors.New("not the file that the manifest describes")
	// ErrNothing says that there is nothing to do.
	ErrNothing = errors.New("nothing was uploaded: PUT /update/root first")
	// ErrNoRollback says that the other slot has no version that could be gone back to.
	ErrNoRollback = errors.New("there is no version to go back to")
	// ErrTruncated says that an upload ended too early.
	ErrTruncated = errors.New("the upload broke off")
)

// statusOf gives the HTTP status for an error.
func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrTrial), errors.Is(err, ErrBusy), errors.Is(err, ErrSession), errors.Is(err, ErrOther), errors.Is(err, ErrNothing), errors.Is(err, ErrNoRollback), errors.Is(err, ErrNoURL):
		return http.StatusConflict
	case errors.Is(err, ErrUnsigned), errors.Is(err, ErrDowngrade), errors.Is(err, ErrFloor), errors.Is(err, manifest.ErrUnsigned), errors.Is(err, manifest.ErrSignature):
		return http.StatusForbidden
	case errors.Is(err, bootdisk.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, bootdisk.ErrNotRoot), errors.Is(err, bootdisk.ErrBootImage), errors.Is(err, ErrMismatch), errors.Is(err, manifest.ErrInvalid):
		return http.StatusUnprocessableEntity
	case errors.Is(err, ErrTruncated):
		return http.StatusBadRequest
	case errors.Is(err, bootdisk.ErrNoDisk), errors.Is(err, bootdisk.ErrBusy):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// mismatch is an error of kind ErrMismatch.
func mismatch(f manifest.File, size int64, sum string) error {
	return fmt.Errorf("%w: %s has %d bytes and SHA-256 %s, and should have %d and %s", ErrMismatch, f.Name, size, sum, f.Size, f.SHA256)
}
