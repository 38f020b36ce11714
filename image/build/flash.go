package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"kdht/image/flash"
	"kdht/image/pack"
)

type flashCmd struct {
	Device   string `arg:"" help:"Disk to overwrite, as in /dev/sdb."`
	Instance string `placeholder:"NAME" help:"Which image to build and write; the one for this machine's architecture if not given."`
	Image    string `placeholder:"FILE" help:"Write this image and build none."`
	Yes      bool   `help:"Do not ask."`
	Force    bool   `help:"Overwrite a disk although it is built in. One that is in use is never overwritten."`
}

func (flashCmd) Help() string {
	return `Builds an image and writes it to a disk or card, all of which is lost, then reads it back. Refuses disks that are mounted or
built in, and asks before it begins. The box keeps its state on the same disk and uses all of it, whatever its size.

Examples:

  build flash /dev/sdb --instance rpi
  build flash /dev/sdb --image bin/image/kdht-amd64.img --yes`
}

// Run writes the image.
func (c *flashCmd) Run(ctx context.Context) error {
	dev, err := flash.Inspect(c.Device)
	if err != nil {
		return err
	}
	if err := c.check(dev, pack.ImageSize); err != nil { // before the long part
		return err
	}
	if c.Image == "" {
		src, err := pack.OpenSource(ctx, ".")
		if err != nil {
			return err
		}
		instance, err := hostInstance(c.Instance)
		if err != nil {
			return err
		}
		img, err := build(ctx, src, instance, pack.Options{})
		if err != nil {
			return err
		}
		c.Image = img.Path
	}
	image, err := os.Open(c.Image)
	if err != nil {
		return err
	}
	defer image.Close()
	info, err := image.Stat()
	if err != nil {
		return err
	}
	if dev, err = flash.Inspect(c.Device); err != nil {
		return err
	}
	if err := errors.Join(c.check(dev, info.Size()), c.confirm(dev)); err != nil {
		return err
	}
	if err := flash.Write(ctx, dev, image, showProgress()); err != nil {
		return err
	}
	fmt.Printf("%s holds %s, and was read back. It can be taken out.\n", dev.Path, relative(c.Image))
	return nil
}

func (c *flashCmd) check(dev flash.Device, size int64) error {
	err := dev.Check(size, c.Force)
	if errors.Is(err, flash.ErrFixed) {
		return fmt.Errorf("%w; --force (make flash ARGS=--force) overwrites it nevertheless", err)
	}
	return err
}

// confirm asks whoever sits there.
func (c *flashCmd) confirm(dev flash.Device) error {
	if c.Yes {
		return nil
	}
	fmt.Fprintf(os.Stderr, "All that is on %s (%s) will be lost. Write \"yes\" to go on: ", dev.Path, dev.Describe())
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n') // without an answer it is none
	if strings.TrimSpace(answer) != "yes" {
		return errors.New("nothing was written: the answer was not \"yes\"")
	}
	return nil
}

// showProgress returns what shows progress: on a terminal in one line, else every tenth in a line of its own.
func showProgress() func(verb string, done, all int64) {
	last, terminal := int64(-1), term.IsTerminal(int(os.Stderr.Fd()))
	return func(verb string, done, all int64) {
		percent := done * 100 / max(all, 1)
		switch {
		case percent == last:
		case terminal:
			end := ""
			if done == all {
				end = "\n"
			}
			fmt.Fprintf(os.Stderr, "\r%3d %% %-14s%s", percent, verb, end)
		case percent/10 != last/10 || last < 0:
			fmt.Fprintf(os.Stderr, "%3d %% %s\n", percent, verb)
		}
		last = percent
	}
}
