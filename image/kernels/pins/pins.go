// Package pins names the stock gokrazy kernels, so that go.mod beside it pins
// their versions.
package pins

import (
	_ "github.com/gokrazy/kernel.amd64"
	_ "github.com/gokrazy/kernel.arm64"
	_ "github.com/gokrazy/kernel.rpi"
)
