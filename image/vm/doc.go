// Package vm runs images of the appliance in virtual machines, for tests and for people.
//
// A [Machine] is what boots (PC with BIOS or UEFI, arm64 with UEFI, the Pi's kernel), a [Disk] what it boots from, a [NIC]
// how it reaches others: through QEMU's own network and forwarded ports ([User]), or on a [LAN] in a network namespace,
// where tests open sockets with any address, and machines see each other. [Start] gives a [VM]:
//
//	disk, err := vm.NewDisk(dir+"/disk.img", image.Path, 2<<30)
//	lan, err := vm.NewLAN("boot", dir)
//	nic, err := lan.NIC("52:54:00:00:00:01")
//	box, err := vm.Start(ctx, vm.Config{Machine: vm.BIOS(), Disk: disk, NICs: []vm.NIC{nic}, Log: log})
//	addr, err := lan.Lease(ctx, "52:54:00:00:00:01")
//	_, err = box.Console.Wait(ctx, "EXT4-fs .* mounted")
//	err = vm.WaitHTTP(ctx, box, lan.HTTP(), "http://"+addr.String()+"/status", ready)
//	err = box.PowerCut(vm.LoseSome(1))
//
// # What a power cut does
//
// [VM.PowerCut] kills QEMU, so the machine stops between two instructions. The disk is served by this process (over NBD)
// and has a write cache: what the machine wrote and did not flush (or write with FUA) is kept apart, and after the cut
// [Loss] decides for every sector of 512 bytes whether it is the new one or the old one. That is harsher than real disks in
// one way, as all of the cache is at stake however long ago a sector was written (but for a cache of more than 64 MiB, which is
// written back), and milder in two: a sector is never torn or garbled, and nothing that had been durable is ever damaged.
// With [Disk.CutAt] the power goes at an exact command, such as the third write to the boot partition.
//
// Emulation is TCG, QEMU's interpreter, in one thread unless [Config.Accel] says otherwise: it runs everywhere, 10 to 30
// times slower than the machine.
package vm
