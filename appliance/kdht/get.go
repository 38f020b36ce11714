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
	if errors.Is(err, router.ErrNotFound) && c.Key != "" {
		return &failure{code: exitNotFound, msg: "no node has an item of this key and salt", hint: "check both; items expire two hours after their last put"}
	}
	if err != nil {
		return err
	}
	if c.Seq != nil && got.Item.Seq < *c.Seq {
		return &failure{code: exitNotFound, msg: "the newest version found is older than asked for", hint: "try again when its publisher has put it; without --seq you get the older one"}
	}
	return c.print(s, got)
}

func (c *getCmd) print(s *system, got *router.ItemResult) error {
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
	out := got.Item.V
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
