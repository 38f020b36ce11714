package box

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"
)

const (
	// preparePatience is for how long nothing is served while /perm is looked after. All but a rescue of files is done by then.
	preparePatience = 20 * time.Second
	// tellEvery is how often the console shows how far that is.
	tellEvery = 30 * time.Second
	// toldFile keeps, in memory, what was said of /perm for the program that starts next.
	toldFile = "told.json"
)

// ErrAnew ends [Box.Serve] when /perm can be used: the program is to be started again, and then keeps its state there.
var ErrAnew = errors.New("/perm is ready: the program starts anew to use it")

var errRescue = errors.New("its file system was beyond repair, and files are still being taken over from it, after which the box changes to it by itself")

// prepare has /perm looked after. What takes long goes on while the box serves, with its state in memory.
func (b *Box) prepare(ctx context.Context) {
	if b.layout.Prepare == nil {
		return
	}
	done := make(chan []string, 1)
	go func() { done <- b.layout.Prepare(ctx, b.log, b.tell) }()
	select {
	case sentences := <-done:
		b.say(append(b.told(), sentences...))
	case <-time.After(preparePatience):
		b.later = done
	}
}

func (b *Box) say(sentences []string) {
	for _, s := range sentences {
		b.problem("%s", s)
	}
}

// tell takes one line about how far it is.
func (b *Box) tell(line string) {
	b.mu.Lock()
	b.progress = line
	show := line != "" && time.Since(b.shown) >= tellEvery
	if show {
		b.shown = time.Now()
	}
	b.mu.Unlock()
	if show {
		b.console.print(line)
	}
}

// whenPrepared ends a context once /perm can be used, and gives what was said then; nil before, and after the context's
// own end.
func (b *Box) whenPrepared(ctx context.Context) (until context.Context, stop func(), said func() []string) {
	until, stop = context.WithCancel(ctx)
	if b.later == nil {
		return until, stop, func() []string { return nil }
	}
	var sentences []string
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case s := <-b.later:
			switch err := usable(filepath.Join(b.layout.Perm, "kdht")); {
			case ctx.Err() != nil: // it was given up
			case err != nil:
				b.tell("")
				b.say(s)
				b.problem("The persistent partition cannot be used: %v.", err)
			default:
				sentences = append([]string{}, s...)
				stop()
			}
		case <-until.Done():
		}
	}()
	return until, stop, func() []string {
		stop()
		<-ended
		return sentences
	}
}

// handOver ends the time in memory. Without it, what was said of /perm is not on the status page any more.
func (b *Box) handOver(sentences []string) {
	b.say(sentences)
	text, err := json.Marshal(sentences)
	if err == nil {
		err = errors.Join(os.RemoveAll(b.layout.Memory), os.MkdirAll(b.layout.Memory, 0o700), os.WriteFile(filepath.Join(b.layout.Memory, toldFile), text, 0o600))
	}
	if err != nil {
		b.log.Warn("what was done to /perm will not be shown", "err", err)
	}
}

// told is what the program that ran before has said of /perm.
func (b *Box) told() (sentences []string) {
	text, err := os.ReadFile(filepath.Join(b.layout.Memory, toldFile))
	if err == nil {
		err = json.Unmarshal(text, &sentences)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.log.Warn("what was done to /perm is not known", "err", err)
	}
	return sentences
}
