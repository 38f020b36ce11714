package admin

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tailscale.com/ipn/ipnstate"

	"kdht/appliance/durable"
)

// pinFile, in the plane's directory, keeps which node the box is in which tailnet.
const pinFile = "joined.json"

// pin is a node of a tailnet.
type pin struct {
	ControlURL string `json:"controlURL"`
	Tailnet    string `json:"tailnet"`
	Owner      string `json:"owner"` // its tags, or the number of its user
	NodeKey    string `json:"nodeKey"`
	Domain     string `json:"domain,omitempty"` // of the names in the tailnet
}

// pinOf is the pin of the node that we are now.
func pinOf(controlURL string, st *ipnstate.Status) pin {
	owner := userID(st.Self.UserID)
	if st.Self.Tags != nil && st.Self.Tags.Len() > 0 {
		owner = ownerOf(st.Self.Tags.AsSlice())
	}
	return pin{ControlURL: controlURL, Tailnet: st.CurrentTailnet.Name, Owner: owner, NodeKey: st.Self.PublicKey.String(), Domain: domainOf(st.Self.DNSName)}
}

// ownerOf is what stands for tags as the owner of a node; "" for none.
func ownerOf(tags []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(tags))), " ")
}

// where is the tailnet and whose the node is there, for people.
func (p pin) where() string {
	if p.Owner == "" {
		return p.Tailnet // noted by an earlier version
	}
	return p.Tailnet + " (" + p.Owner + ")"
}

// readPin gives the pin of a box; false if it has not joined a tailnet.
func readPin(dir string) (p pin, ok bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, pinFile))
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err != nil {
		return p, false, err
	}
	return p, json.Unmarshal(b, &p) == nil, nil // a damaged one is none
}

// joined says whether the box has joined a tailnet.
func joined(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, pinFile))
	return err == nil
}

// check compares a node with the one that the box was last, and notes it if the box may be that now. Whoever gets hold of a
// login URL could otherwise take the box over into a tailnet of his own, where the policy says what he likes, or in the
// same one into his name. Within its tailnet it may become what its configuration asks for: with the tags wanted there it is nobody's, and who may
// give them, the policy says (tagOwners). A box that has not joined any tailnet belongs to whoever logs it in.
func (p pin) check(dir string, byKey bool, wanted []string) (ok bool, was pin, err error) {
	was, had, err := readPin(dir)
	if err != nil {
		return false, was, err
	}
	if had {
		switch {
		case was == p:
			return true, was, nil
		case was.ControlURL != p.ControlURL, byKey: // the owner's wish: they are in the configuration
		case was.NodeKey == p.NodeKey: // nobody has logged in; the tailnet's administrators have given it another name or owner
		case was.Tailnet == p.Tailnet && (was.Owner == p.Owner || was.Owner == ""): // its owner has logged in anew
		case was.Tailnet == p.Tailnet && len(wanted) > 0 && p.Owner == ownerOf(wanted): // its tags were changed, and it has logged in with them
		default:
			return false, was, nil
		}
	}
	b, err := json.Marshal(p)
	if err != nil {
		return false, was, err
	}
	return true, p, durable.Write(filepath.Join(dir, pinFile), append(b, '\n'), 0o600)
}
