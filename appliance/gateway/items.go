package gateway

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// getItem serves an item: an immutable one by its target, a mutable one by public key and salt.
func (g *Gateway) getItem(w http.ResponseWriter, r *http.Request, _ Caller) error {
	id := r.PathValue("id")
	if target, err := krpc.ParseID(id); err == nil && !strings.Contains(strings.TrimPrefix(r.URL.Path, "/v1/items/"), "/") {
		return g.getImmutable(w, r, target)
	}
	k, salt, err := mutablePath(r)
	if err != nil {
		return err
	}
	it, err := g.mutable(r, k, salt)
	if err != nil {
		return err
	}
	return serveMutable(w, r, it)
}

// mutablePath reads public key and salt of a path.
func mutablePath(r *http.Request) (k [32]byte, salt []byte, err error) {
	b, err := hex.DecodeString(r.PathValue("id"))
	if err != nil || len(b) != len(k) {
		return k, nil, bad("key", "%s is neither a target of 40 hexadecimal digits nor a public key of 64.", printable(r.PathValue("id")))
	}
	if salt = []byte(r.PathValue("salt")); len(salt) > krpc.MaxSalt {
		return k, nil, refusal(krpc.ErrSaltSize)
	}
	return [32]byte(b), salt, nil
}

// getImmutable serves an immutable item, which clients may keep for ever.
func (g *Gateway) getImmutable(w http.ResponseWriter, r *http.Request, target krpc.ID) error {
	it, err := g.look(r, "i"+string(target[:]), func(ctx context.Context, opts ...router.Option) (*router.ItemResult, error) {
		return g.node.GetImmutable(ctx, target, opts...)
	})
	if err != nil {
		return err
	}
	f := formOf(r, it.V)
	tag := target.String()
	if f != formRaw {
		tag += "-" + string(f)
	}
	h := w.Header()
	h.Set("Etag", `"`+tag+`"`)
	h.Add("Vary", "Accept")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	c, p := conditionOf(r)
	if p != nil {
		return p
	}
	for _, t := range c.noneMatch.list {
		c.noneMatch.any = c.noneMatch.any || t.text == tag
	}
	if c.noneMatch.any {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return serveItem(w, r, it, f)
}

// serveMutable serves the present version of a mutable item, unless the client has it.
func serveMutable(w http.ResponseWriter, r *http.Request, it *router.Item) error {
	f := formOf(r, it.V)
	h := w.Header()
	h.Set("Etag", etag(it.Seq, f))
	h.Add("Vary", "Accept")
	h.Set("Cache-Control", "no-cache")
	c, p := conditionOf(r)
	if p != nil {
		return p
	}
	if c.current(it.Seq, f) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return serveItem(w, r, it, f)
}

// mutable looks up the newest version of a mutable item.
func (g *Gateway) mutable(r *http.Request, k [32]byte, salt []byte) (*router.Item, error) {
	return g.look(r, "m"+string(k[:])+string(salt), func(ctx context.Context, opts ...router.Option) (*router.ItemResult, error) {
		return g.node.GetMutable(ctx, k, salt, opts...)
	})
}

// look carries out a lookup, one for all clients that want the same at a time. A client that says no-cache gets nothing that
// was fetched before.
func (g *Gateway) look(r *http.Request, key string, get func(context.Context, ...router.Option) (*router.ItemResult, error)) (*router.Item, error) {
	var opts []router.Option
	if strings.Contains(r.Header.Get("Cache-Control"), "no-cache") {
		key = "!" + key
	} else {
		opts = append(opts, router.Cached())
	}
	shared := g.lookups.DoChan(key, func() (any, error) { // it does not end with the client that happened to come first
		var res *router.ItemResult
		err := g.within(context.WithoutCancel(r.Context()), func(ctx context.Context) (err error) {
			res, err = get(ctx, opts...)
			return err
		})
		if errors.Is(err, router.ErrNoNodes) && g.alone() {
			err = router.ErrNotFound
		}
		if err != nil {
			return nil, err
		}
		return &res.Item, nil
	})
	select {
	case x := <-shared:
		if x.Err != nil {
			return nil, x.Err
		}
		return x.Val.(*router.Item), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// Stored says what came of a put.
type Stored struct {
	Target string `json:"target"` // hexadecimal, as K and Salt
	K      string `json:"k,omitempty"`
	Salt   string `json:"salt,omitempty"`
	Seq    *int64 `json:"seq,omitempty"`
	Stored int    `json:"stored"` // at so many nodes, this one included
}

func storedOf(res *router.StoreResult) Stored {
	s := Stored{Target: res.Target.String(), Stored: len(res.Stored)}
	if res.Local {
		s.Stored++
	}
	return s
}

// putImmutable stores an immutable item.
func (g *Gateway) putImmutable(w http.ResponseWriter, r *http.Request, who Caller) error {
	v, d, err := readValue(r)
	if err != nil {
		return err
	}
	opts, err := g.keeping(r, who)
	if err != nil {
		return err
	}
	target := krpc.ImmutableTarget(v)
	switch {
	case d != nil && (d.K != "" || d.Seq != nil || d.Sig != ""):
		return bad("document", "The document is a mutable item's: put it at /v1/items/PUBLICKEY/SALT.")
	case d != nil && d.Target != "" && !strings.EqualFold(d.Target, target.String()):
		return bad("target", "The target of the document is not the hash of its value, which is %s.", target)
	}
	var res *router.StoreResult
	err = g.within(r.Context(), func(ctx context.Context) (err error) {
		res, err = g.node.PutImmutable(ctx, v, append(opts, router.For(remote(r)))...)
		return err
	})
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/items/"+target.String())
	return serveJSON(w, http.StatusCreated, storedOf(res))
}

// putMutable stores a mutable item: the one in the document, which the caller has signed, or with any other body one that the
// box signs with its own key.
func (g *Gateway) putMutable(w http.ResponseWriter, r *http.Request, who Caller) error {
	k, salt, err := mutablePath(r)
	if err != nil {
		return err
	}
	cond, p := conditionOf(r)
	if p != nil {
		return p
	}
	opts, err := g.keeping(r, who)
	if err != nil {
		return err
	}
	v, d, err := readValue(r)
	if err != nil {
		return err
	}
	if d != nil && d.Sig != "" {
		it, err := signedItem(d, k, salt, v)
		if err != nil {
			return err
		}
		return g.change(w, r, it, func(current *router.Item) (router.Item, *int64, error) {
			cas, err := cond.cas(current)
			return it, cas, err
		}, opts...)
	}
	if d != nil && d.Seq != nil {
		return bad("document", `The document has a sequence number and no signature: "sig" is missing.`)
	}
	if err := g.allowed(r, who, Sign); err != nil {
		return err
	}
	switch {
	case g.box == nil:
		return &Problem{Status: http.StatusServiceUnavailable, Code: "no-key", Detail: "The box has no key of its own: its status page says why."}
	case k != [32]byte(g.box.Public().(ed25519.PublicKey)):
		return &Problem{Status: http.StatusForbidden, Code: "foreign-key",
			Detail: "The box can sign for its own public key only, which is " + publicKey(g.box) + `. What another key has signed goes here as application/json with "v", "seq" and "sig".`}
	}
	it := router.Item{Mutable: true, K: k, Salt: salt, V: v}
	err = g.change(w, r, it, func(current *router.Item) (router.Item, *int64, error) {
		return signNext(it, g.box, cond, current)
	}, opts...)
	if err == nil {
		g.log.Info("the box has signed an item", "salt", printable(string(salt)), "for", who.Name, "from", r.RemoteAddr)
	}
	return err
}

// signNext makes the version that follows the present one, if the condition lets it.
func signNext(it router.Item, key ed25519.PrivateKey, cond condition, current *router.Item) (router.Item, *int64, error) {
	cas, err := cond.cas(current)
	if err != nil {
		return it, nil, err
	}
	if it.Seq, err = next(current, time.Now().UnixMicro()); err != nil {
		return it, nil, err
	}
	copy(it.Sig[:], krpc.Sign(key, it.Salt, it.Seq, it.V))
	return it, cas, nil
}

// signedItem is the item of a document that the caller has signed.
func signedItem(d *Document, k [32]byte, salt, v []byte) (it router.Item, err error) {
	sig, err := hex.DecodeString(d.Sig)
	switch {
	case err != nil || len(sig) != krpc.SigLen:
		return it, bad("signature", `"sig" of the document is no signature of %d hexadecimal digits.`, 2*krpc.SigLen)
	case d.Seq == nil || *d.Seq < 0:
		return it, bad("seq", `The document has no sequence number "seq" that is 0 or more.`)
	case d.K != "" && !strings.EqualFold(d.K, hex.EncodeToString(k[:])):
		return it, bad("key", "The public key of the document is another one than that of the path.")
	case d.Salt != "" && !strings.EqualFold(d.Salt, hex.EncodeToString(salt)):
		return it, bad("salt", "The salt of the document, in hexadecimal digits, is another one than that of the path.")
	case !krpc.Verify(k[:], salt, *d.Seq, v, sig):
		return it, refusal(krpc.ErrSignature)
	}
	return router.Item{Mutable: true, K: k, Salt: salt, V: v, Seq: *d.Seq, Sig: [64]byte(sig)}, nil
}

// change stores a mutable item that build makes of the present version, and says what came of it.
func (g *Gateway) change(w http.ResponseWriter, r *http.Request, it router.Item, build func(*router.Item) (router.Item, *int64, error), opts ...router.Option) error {
	s, created, err := g.update(r, it.K, it.Salt, build, opts...)
	if err != nil {
		return err
	}
	w.Header().Set("Etag", etag(*s.Seq, formRaw))
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	return serveJSON(w, code, s)
}

// update stores the version that build makes of the present one.
func (g *Gateway) update(r *http.Request, k [32]byte, salt []byte, build func(*router.Item) (router.Item, *int64, error), opts ...router.Option) (s Stored, created bool, err error) {
	var res *router.StoreResult
	var seq int64
	err = g.within(r.Context(), func(ctx context.Context) (err error) {
		res, err = g.node.UpdateMutable(ctx, k, salt, func(current *router.Item) (router.Item, *int64, error) {
			it, cas, err := build(current)
			seq, created = it.Seq, current == nil
			return it, cas, err
		}, append(opts, router.For(remote(r)))...)
		return err
	})
	if err != nil {
		return s, false, err
	}
	s = storedOf(res)
	s.K, s.Salt, s.Seq = hex.EncodeToString(k[:]), hex.EncodeToString(salt), &seq
	return s, created, nil
}
