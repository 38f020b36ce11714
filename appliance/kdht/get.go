package main

import (
	"context"
	"errors"

	"kdht/router"
	"kdht/router/krpc"
)

type getCmd struct {
	Target string `arg:"" optional:"" help:"Target of an immutable item, 40 hexadecimal digits."`

	Key      string `placeholder:"PUBLICKEY" help:"Get the mutable item of this public key, 64 hexadecimal digits."`
	Salt     string `help:"Salt of the mutable item."`
	Seq      *int64 `help:"Accept the mutable item only with this sequence number or a higher one."`
	Bencoded bool   `help:"Print the value as it is encoded, also if it is a byte string."`

	clientFlags
}

func (getCmd) Help() string {
	return `Prints the value on standard output: the bytes of a byte string, any other value bencoded. Its hash or signature
was verified. The sequence number of a mutable item is said on standard error.

Examples:

  kdht get e5f96f6f38320f0f33959cb4d3d656452117aadb
  kdht get --key 77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548 --salt foobar
  kdht get --via 10.0.0.7 e5f96f6f38320f0f33959cb4d3d656452117aadb
  kdht get --json --network private --bootstrap 10.0.0.1:6881 e5f96f6f38320f0f33959cb4d3d656452117aadb`
}

// Run gets an item.
func (c *getCmd) Run(s *system) error {
	var target krpc.ID
	var k [32]byte
	salt, err := parseSalt(c.Salt)
	switch {
	case err != nil:
		return err
	case (c.Target == "") == (c.Key == ""):
		return usage(`write "kdht get TARGET" for an immutable item, "kdht get --key PUBLICKEY [--salt SALT]" for a mutable one`, "give either a target or a key")
	case c.Key != "":
		k, err = parseKey(c.Key)
	case c.Salt != "" || c.Seq != nil:
		return usage("leave them out, or give the public key with --key instead of the target", "--salt and --seq are for mutable items")
	default:
		target, err = parseID("target", c.Target)
	}
	if err != nil {
		return err
	}

	notFound := &failure{code: exitNotFound, msg: "not found", hint: "no node that should have it has it; items expire two hours after their last put"}
	if c.Key != "" {
		notFound = &failure{code: exitNotFound, msg: "no node has an item of this key and salt", hint: "check both; items expire two hours after their last put"}
		target = krpc.MutableTarget(k[:], salt)
	}
	if c.Via != "" {
		return c.getVia(s, target, k, salt, notFound)
	}
	var got *router.ItemResult
	err = c.with(s, func(ctx context.Context, n *router.Node) (err error) {
		p := s.newProgress("get", "copies")
		defer p.end()
		if c.Key != "" {
			got, err = n.GetMutable(ctx, k, salt, p.option())
		} else {
			got, err = n.GetImmutable(ctx, target, p.option())
		}
		return err
	})
	if errors.Is(err, router.ErrNotFound) {
		return notFound
	}
	if err == nil {
		err = c.newEnough(&got.Item)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(struct {
			itemJSON
			Copies int       `json:"copies"`
			Lookup statsJSON `json:"lookup"`
		}{toJSON(&got.Item), got.Copies, costJSON(got.Stats)})
	}
	if got.Item.Mutable {
		s.say("sequence number %d, the same at %d %s", got.Item.Seq, got.Copies, plural(got.Copies, "node"))
	}
	return c.print(s, got.Item.V)
}

// getVia gets an item through a node, and verifies it again: the node need not be trusted.
func (c *getCmd) getVia(s *system, target krpc.ID, k [32]byte, salt []byte, notFound *failure) error {
	q := krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true}
	if len(salt) > 0 {
		q.Salt = salt
	}
	a, err := c.ask(s, q)
	switch {
	case err != nil:
		return err
	case a.V == nil:
		return c.missing(a, notFound)
	}
	it := &router.Item{Target: target, V: a.V}
	if c.Key != "" {
		if !krpc.Verify(k[:], salt, a.Seq, a.V, a.Sig) {
			return forged(a, "signature")
		}
		it.Mutable, it.K, it.Salt, it.Seq, it.Sig = true, k, salt, a.Seq, [64]byte(a.Sig)
	} else if krpc.ImmutableTarget(a.V) != target {
		return forged(a, "hash")
	}
	if err := c.newEnough(it); err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(struct {
			itemJSON
			viaJSON
		}{toJSON(it), a.json()})
	}
	if it.Mutable {
		s.say("sequence number %d", it.Seq)
	}
	return c.print(s, it.V)
}

// forged says that an answer does not have what its target stands for.
func forged(a *viaAnswer, what string) error {
	return failed(nil, "if it is the target of a mutable item, give its --key and --salt; else do not trust that node", "%s answered with a value of another %s", a.from, what)
}

// newEnough checks that an item is not older than asked for.
func (c *getCmd) newEnough(it *router.Item) error {
	if c.Seq != nil && it.Seq < *c.Seq {
		return &failure{code: exitNotFound, msg: "the newest version found is older than asked for", hint: "try again when its publisher has put it; without --seq you get the older one"}
	}
	return nil
}

// print prints a value.
func (c *getCmd) print(s *system, out []byte) error {
	if text, ok := stringOf(out); ok && !c.Bencoded {
		out = text
	}
	if s.stdoutIsTerminal {
		if !printable(out) {
			s.say("kdht: the value is no text; it is shown as hexadecimal digits, because this is a terminal")
			out = []byte(hexDump(out))
		}
		out = append(out[:len(out):len(out)], '\n')
	}
	_, err := s.stdout.Write(out)
	return err
}
