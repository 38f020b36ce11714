package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"kdht/appliance"
	"kdht/appliance/admin/change"
	"kdht/appliance/box"
	"kdht/config"
	"kdht/store"
)

// historyDir is the name of the directory, in that of the state, with the earlier versions of the configuration file.
const historyDir = "config"

// trying serves, and if a changed configuration that is on trial keeps it from that, or ends it, takes the change back and serves
// with the configuration of before, which read gives.
func trying(serve box.ServeFunc, h *change.History, read func() (config.Config, error)) box.ServeFunc {
	return func(ctx context.Context, cfg config.Config, log *slog.Logger, extensions ...appliance.Extension) error {
		err := serve(ctx, cfg, log, extensions...)
		switch {
		case err == nil, ctx.Err() != nil, errors.Is(err, appliance.ErrRestart):
			return err
		case errors.Is(err, store.ErrLocked): // another process serves, perhaps with the change
			return err
		}
		said, errBack := h.Back("the program could not serve with it: " + err.Error())
		if errBack != nil {
			return errors.Join(err, errBack)
		}
		if said == "" { // it is not on trial
			return err
		}
		log.Error("configuration", "problem", said)
		before, errRead := read()
		if errRead != nil {
			return errors.Join(err, errRead)
		}
		return serve(ctx, before, log, extensions...)
	}
}

// again replaces the process by a new one of the same program, as it was called.
func again() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	return fmt.Errorf("start %s again: %w", exe, syscall.Exec(exe, os.Args, os.Environ()))
}
