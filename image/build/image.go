package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kdht/image/pack"
)

type imageCmd struct {
	Instance string `arg:"" optional:"" help:"One of amd64, arm64, rpi (Raspberry Pi 4, 5); the one for this machine's architecture if not given."`
	Dir      string `placeholder:"DIR" help:"Where the files go (bin/image of the checkout)."`
	Version  string `placeholder:"TEXT" help:"What the appliance calls itself (as git describes the checkout)."`
}

func (imageCmd) Help() string {
	return `Writes the whole disk to kdht-INSTANCE.img, its parts beside it. Needs nothing but Go, git and the module proxy.

Examples:

  build image
  build image rpi --dir /tmp/images`
}

// Run builds the image.
func (c *imageCmd) Run(ctx context.Context) error {
	src, err := pack.OpenSource(ctx, ".")
	if err != nil {
		return err
	}
	instance, err := hostInstance(c.Instance)
	if err != nil {
		return err
	}
	_, err = build(ctx, src, instance, pack.Options{Dir: c.Dir, Version: c.Version})
	return err
}

// hostInstance is the named instance, or the one for this machine.
func hostInstance(name string) (string, error) {
	if name == "" {
		name = pack.HostInstance()
	}
	if name == "" {
		return "", errors.New("there is no instance for this machine's architecture: name one of " + strings.Join(pack.Instances(), ", "))
	}
	return name, nil
}

// build builds an image and says so.
func build(ctx context.Context, src pack.Source, instance string, o pack.Options) (pack.Image, error) {
	start := time.Now()
	fmt.Fprintf(os.Stderr, "building %s ...\n", instance)
	img, err := pack.Build(ctx, src, instance, o)
	if err != nil {
		return img, err
	}
	fmt.Printf("%s: version %s, root file system %.1f MiB of at most %d, sha256 %s (%.0f s)\n",
		relative(img.Path), img.Version, float64(img.RootSize)/pack.MiB, pack.MaxRoot/pack.MiB, img.RootSHA256, time.Since(start).Seconds())
	return img, nil
}

// relative shortens a path for people.
func relative(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if r, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(r, "..") {
			return r
		}
	}
	return path
}
