package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"
)

// PowerButton presses the button: the appliance stops its programs in order and switches off; see [VM.Wait].
func (v *VM) PowerButton(ctx context.Context) error { return v.command(ctx, "system_powerdown", nil) }

// pressEvery is how often a button is pressed that does not help. QEMU lets it go after 100 ms, which a machine can miss that
// is emulated on a busy computer.
const pressEvery = 5 * time.Second

// SwitchOff presses the button until the machine has stopped, and what it had written is on its disk; see [VM.Wait].
func (v *VM) SwitchOff(ctx context.Context) error {
	tick := time.NewTicker(pressEvery)
	defer tick.Stop()
	for {
		err := v.PowerButton(ctx)
		select {
		case <-v.done:
			return v.Wait(ctx)
		default:
		}
		if err != nil {
			return err
		}
		select {
		case <-v.done:
		case <-ctx.Done():
		case <-tick.C:
			continue
		}
		return v.Wait(ctx)
	}
}

// Reset presses the reset button: the machine starts anew, and what it had not flushed stays in the disk's cache, as a
// reset leaves that alone.
func (v *VM) Reset(ctx context.Context) error { return v.command(ctx, "system_reset", nil) }

// Plug plugs the cable of a network card in, or pulls it out; cards count from 0 in the order of [Config.NICs].
func (v *VM) Plug(ctx context.Context, nic int, in bool) error {
	return v.command(ctx, "set_link", map[string]any{"name": fmt.Sprintf("net%d", nic), "up": in})
}

// monitor is the socket of QEMU's control protocol, QMP.
func (v *VM) monitor() string { return filepath.Join(v.dir, "qmp") }

// command has QEMU do something.
func (v *VM) command(ctx context.Context, name string, args map[string]any) (err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", v.monitor())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		err = conn.SetDeadline(deadline)
	}
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	if err := errors.Join(err, in.Decode(new(any))); err != nil { // the greeting
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, c := range []map[string]any{{"execute": "qmp_capabilities"}, {"execute": name, "arguments": args}} {
		if args == nil {
			delete(c, "arguments")
		}
		if err := out.Encode(c); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for answered := false; !answered; { // events come in between
			var reply struct {
				Return json.RawMessage
				Error  *struct{ Desc string }
			}
			if err := in.Decode(&reply); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if reply.Error != nil {
				return fmt.Errorf("%s: %s", name, reply.Error.Desc)
			}
			answered = reply.Return != nil
		}
	}
	return nil
}
