package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

type putCmd struct {
	Value *string `arg:"" optional:"" help:"Value, a byte string."`

	File     string `placeholder:"FILE" help:"Read the value from a file; - for standard input."`
	Bencoded bool   `help:"The value is bencoded already; it need not be a byte string."`
	KeyFile  string `placeholder:"FILE" help:"Sign the value with this key (see keygen): a mutable item."`
	Salt     string `help:"Salt of the mutable item, so that one key can have many."`
	Seq      *int64 `help:"Sequence number of the mutable item. Default: one more than the version found, or 1; with --via, which asks for none, the time in microseconds."`
	CAS      *int64 `name:"cas" help:"Write only where the present version has this sequence number."`

	clientFlags
}

func (putCmd) Help() string {
	return `Stores a value at the nodes closest to its target, which is printed on standard output: the target is what
"kdht get" needs for an immutable item; a mutable one is found by its public key. Nodes forget items two hours after
the last put, so repeat it every hour. At most 996 bytes fit into an item.

Examples:

  kdht put "Hello World!"
  kdht put --file message.txt
  kdht keygen my.key && kdht put --key-file my.key --salt weather "sunny"
  kdht put --key-file my.key --salt weather --seq 7 --cas 6 "rainy"
  kdht put --bencoded d3:cow3:mooe
  kdht put --via 10.0.0.7 "Hello World!"`
}

// Run puts an item.
func (c *putCmd) Run(s *system) error {
	v, err := c.value(s)
	if err != nil {
		return err
	}
	salt, err := parseSalt(c.Salt)
	if err != nil {
		return err
	}
	if c.KeyFile == "" {
		if c.Salt != "" || c.Seq != nil || c.CAS != nil {
			return usage("give the key with --key-file (see \"kdht keygen\"), or leave them out", "--salt, --seq and --cas are for mutable items")
		}
		if c.Via != "" {
			return c.putVia(s, &router.Item{Target: krpc.ImmutableTarget(v), V: v})
		}
		return c.put(s, nil, func(ctx context.Context, n *router.Node, opt router.Option) (*router.StoreResult, error) {
			return n.PutImmutable(ctx, v, opt)
		})
	}
	if c.Seq != nil && *c.Seq < 0 || c.CAS != nil && *c.CAS < 0 {
		return usage("write 0 or more", "sequence numbers are not negative")
	}
	key, err := readKey(s, c.KeyFile)
	if err != nil {
		return err
	}
	it := &router.Item{V: v, Mutable: true, K: [32]byte(key.Public().(ed25519.PublicKey)), Salt: salt}
	it.Target = krpc.MutableTarget(it.K[:], salt)
	if c.Via != "" {
		seq := time.Now().UnixMicro()
		if c.Seq != nil {
			seq = *c.Seq
		}
		sign(it, key, seq)
		return c.putVia(s, it)
	}
	return c.put(s, it, func(ctx context.Context, n *router.Node, opt router.Option) (*router.StoreResult, error) {
		if c.Seq != nil {
			sign(it, key, *c.Seq)
			return n.PutMutable(ctx, *it, c.CAS, opt)
		}
		return n.UpdateMutable(ctx, it.K, salt, func(current *router.Item) (router.Item, *int64, error) {
			err := c.next(it, key, current)
			return *it, c.CAS, err
		}, opt)
	})
}

// putVia has a node store an item.
func (c *putCmd) putVia(s *system, it *router.Item) error {
	q := krpc.Message{Method: krpc.MethodPut, V: it.V}
	if it.Mutable {
		q.K, q.Sig, q.Seq, q.HasSeq = it.K[:], it.Sig[:], it.Seq, true
		if len(it.Salt) > 0 {
			q.Salt = it.Salt
		}
		if c.CAS != nil {
			q.CAS, q.HasCAS = *c.CAS, true
		}
	}
	return c.storeVia(s, q, it)
}

// storeVia has a node store an item or announce a peer, and prints the outcome.
func (f *clientFlags) storeVia(s *system, q krpc.Message, it *router.Item) error {
	a, err := f.ask(s, q)
	if err != nil {
		return err
	}
	n, err := f.stored(a)
	if err != nil {
		return err
	}
	if f.JSON {
		j := storedViaJSON{Target: it.Target, StoredCount: n, viaJSON: a.json()}
		if it.Mutable {
			j.K, j.Salt, j.Seq = hex.EncodeToString(it.K[:]), hex.EncodeToString(it.Salt), &it.Seq
		}
		return s.printJSON(j)
	}
	s.say("stored at %d %s", n, plural(int(n), "node"))
	if it.Mutable {
		s.say("public key %x, sequence number %d", it.K, it.Seq)
	}
	_, err = fmt.Fprintln(s.stdout, it.Target)
	return err
}

// next makes it the version that follows the current one, which is nil if there is none. It does not ask for the current
// one with cas unless the user did: nodes that missed it hold an older one, and are to be brought up to date.
func (c *putCmd) next(it *router.Item, key ed25519.PrivateKey, current *router.Item) error {
	seq := int64(1)
	if current != nil {
		if c.CAS != nil && *c.CAS != current.Seq {
			return &failure{code: exitRejected, msg: fmt.Sprintf("the present version has sequence number %d, not %d as --cas says", current.Seq, *c.CAS), hint: refusalHint(krpc.ErrCodeCAS)}
		}
		if current.Seq == math.MaxInt64 {
			return failed(nil, "use another salt", "the item has the highest sequence number there is, and can never be changed again")
		}
		seq = current.Seq + 1
	}
	sign(it, key, seq)
	return nil
}

// sign completes a mutable item.
func sign(it *router.Item, key ed25519.PrivateKey, seq int64) {
	it.Seq = seq
	copy(it.Sig[:], krpc.Sign(key, it.Salt, seq, it.V))
}

// value reads the value and gives it bencoded.
func (c *putCmd) value(s *system) ([]byte, error) {
	raw, err := readValue(s, c.Value, c.File, `kdht put "Hello World!"`)
	if err != nil {
		return nil, err
	}
	if !c.Bencoded {
		raw = encodeValue(raw)
	}
	return raw, checkValue(raw)
}

// readValue gives the value of the command line, or of a file. The example is for who gives neither.
func readValue(s *system, value *string, file, example string) ([]byte, error) {
	switch {
	case (value == nil) == (file == ""):
		return nil, usage("write for example: "+example+", or --file FILE, with - for standard input", "give either a value or --file")
	case value != nil:
		return []byte(*value), nil
	}
	in := s.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, failed(err, "name a readable file, or - for standard input", "cannot read the value")
		}
		defer f.Close()
		in = f
	}
	// A little more than fits, so that the message can tell.
	b, err := io.ReadAll(io.LimitReader(in, 1<<20))
	if err != nil {
		return nil, failed(err, "name a readable file, or - for standard input", "cannot read the value")
	}
	return b, nil
}

// put runs the lookup and prints its outcome. it is nil for an immutable item.
func (c *putCmd) put(s *system, it *router.Item, do func(context.Context, *router.Node, router.Option) (*router.StoreResult, error)) error {
	var res *router.StoreResult
	err := c.with(s, func(ctx context.Context, n *router.Node) (err error) {
		p := s.newProgress("put", "")
		defer p.end()
		res, err = do(ctx, n, p.option())
		return err
	})
	if c.JSON && res != nil {
		j := storeJSON(res)
		if it != nil {
			j.K, j.Salt, j.Seq = hex.EncodeToString(it.K[:]), hex.EncodeToString(it.Salt), &it.Seq
		}
		return errors.Join(err, s.printJSON(j))
	}
	if err != nil {
		return err
	}
	s.sayStored(res)
	if it != nil {
		s.say("public key %x, sequence number %d", it.K, it.Seq)
	}
	_, err = fmt.Fprintln(s.stdout, res.Target)
	return err
}
