package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"kdht/image/pack"
	"kdht/image/vm"
)

type vmCmd struct {
	Instance string `arg:"" optional:"" help:"amd64, arm64 or rpi; the one for this machine's architecture if not given."`
	Disk     string `placeholder:"FILE" help:"The machine's disk, made when it is not there (var/vm/INSTANCE.img)."`
	Size     int64  `default:"4" placeholder:"GIB" help:"Size of a new disk."`
	New      bool   `help:"Begin with a new disk, from a new image."`
	BIOS     bool   `name:"bios" help:"Boot amd64 with a BIOS instead of UEFI."`
	HTTP     int    `name:"http" default:"8080" placeholder:"PORT" help:"TCP port of this machine that leads to the status page."`
	DHT      int    `name:"dht" default:"6881" placeholder:"PORT" help:"UDP port of this machine that leads to the DHT node."`
	Memory   int    `default:"512" placeholder:"MIB" help:"Memory of the machine."`
	Emulate  bool   `help:"Do not use KVM even if it works."`
}

func (vmCmd) Help() string {
	return `Runs the appliance in QEMU, its console in this terminal. The disk is kept from run to run, and with it what is stored. Ctrl-C presses
the power button, a second Ctrl-C cuts the power.

Examples:

  build vm
  build vm arm64 --http 8081 --dht 6882
  build vm --new`
}

// stopTime is how long the appliance may take to switch off.
const stopTime = time.Minute

// Run runs the machine until it is switched off.
func (c *vmCmd) Run(ctx context.Context) error {
	src, err := pack.OpenSource(ctx, ".")
	if err != nil {
		return err
	}
	instance, err := hostInstance(c.Instance)
	if err != nil {
		return err
	}
	machine := map[string]vm.Machine{"amd64": vm.UEFI(), "arm64": vm.ARM64(), "rpi": vm.Pi()}[instance]
	if c.BIOS && instance == "amd64" {
		machine = vm.BIOS()
	}
	if err := machine.Check(); err != nil {
		return err
	}
	if c.Disk == "" {
		c.Disk = filepath.Join(src.Dir, "var", "vm", instance+".img")
	}
	disk, err := c.disk(ctx, src, instance)
	if err != nil {
		return err
	}
	defer disk.Close()
	config := vm.Config{Machine: machine, Disk: disk, MemoryMiB: c.Memory, Log: os.Stdout, NICs: []vm.NIC{vm.User(
		vm.Forward{Network: "tcp", Host: c.HTTP, Guest: 80}, vm.Forward{Network: "udp", Host: c.DHT, Guest: 6881})}}
	if !c.Emulate {
		config.Accel = machine.Accel(ctx)
	}
	if config.Accel != vm.KVM {
		fmt.Fprintln(os.Stderr, "without KVM the machine is emulated: it takes ten times as long for everything")
	}
	fmt.Fprintf(os.Stderr, "%s on %s: status page http://localhost:%d, DHT node 127.0.0.1:%d; Ctrl-C switches it off\n",
		machine.Name, relative(c.Disk), c.HTTP, c.DHT)
	life, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	v, err := vm.Start(life, config)
	if err != nil {
		return err
	}
	select {
	case <-v.Done():
		return v.Wait(life)
	case <-ctx.Done():
	}
	return c.switchOff(v)
}

// switchOff presses the power button, and cuts the power when that does not help, or on another Ctrl-C.
func (c *vmCmd) switchOff(v *vm.VM) error {
	again, stop := interrupted()
	defer stop()
	ctx, cancel := context.WithTimeout(again, stopTime)
	defer cancel()
	if err := v.SwitchOff(ctx); err != nil {
		return errors.Join(fmt.Errorf("the power was cut: %w", err), v.PowerCut(vm.LoseAll()))
	}
	return nil
}

// disk opens the machine's disk, or makes it.
func (c *vmCmd) disk(ctx context.Context, src pack.Source, instance string) (*vm.Disk, error) {
	if !c.New {
		disk, err := vm.OpenDisk(c.Disk)
		if !errors.Is(err, os.ErrNotExist) {
			return disk, err
		}
	}
	img, err := build(ctx, src, instance, pack.Options{})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(c.Disk), 0o755); err != nil {
		return nil, err
	}
	return vm.NewDisk(c.Disk, img.Path, c.Size<<30)
}
