// Package protocol is what the harness and the guest's init agree on.
package protocol

// ExitMarker begins the console line that carries the test binary's exit code.
const ExitMarker = "guest: exit code "

// Job is what the guest runs: /guest.json in the initramfs.
type Job struct {
	// Args are the arguments of /test.
	Args []string
	// Env is added to the environment, as KEY=VALUE.
	Env []string
	// Dir is the working directory.
	Dir string
}
