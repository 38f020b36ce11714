package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"kdht/router/krpc"
)

type decodeCmd struct {
	Input string `arg:"" name:"hex|file|-" help:"A datagram in hexadecimal digits, a pcap or pcapng file, a file with one datagram (as it is, or hexadecimal, one per line), or - for standard input."`

	All bool `help:"Show also what in a capture is no bencoding, as hexadecimal digits."`
}

func (decodeCmd) Help() string {
	return `Prints one JSON document per datagram, on one line: the message, and what this program would do with it if not
answer it ("drop" or "error"). Of captures also time, source and destination. Nothing of a message is lost: order of
keys, duplicates and bytes after the end are shown as they are. Byte strings that are no text are hexadecimal.

Examples:

  kdht decode 64313a6164323a696432303a6162636465666768696a3031323334353637383965313a71343a70696e67313a74313a07313a79313a7165
  tcpdump -i eth0 -w dht.pcap udp port 6881; kdht decode dht.pcap
  tcpdump -i eth0 -U -w - udp port 6881 | kdht decode - | jq .message.q`
}

// decodedJSON is one datagram as JSON.
type decodedJSON struct {
	Time    string          `json:"time,omitempty"`
	Src     string          `json:"src,omitempty"`
	Dst     string          `json:"dst,omitempty"`
	Bytes   int             `json:"bytes"`
	Cut     bool            `json:"cut,omitempty"`     // the capture holds only its beginning
	Message json.RawMessage `json:"message,omitempty"` // nil if it is no bencoding
	Hex     string          `json:"hex,omitempty"`     // the datagram, if it is no bencoding
	Drop    string          `json:"drop,omitempty"`    // why a node drops it
	Error   *errorJSON      `json:"error,omitempty"`   // what a node answers it with
}

// errorJSON is a KRPC error as JSON.
type errorJSON struct {
	Code int    `json:"code"`
	Text string `json:"text"`
}

// decoded renders one datagram. The error is that of the rendering: the datagram is no bencoding.
func decoded(b []byte) (decodedJSON, error) {
	j := decodedJSON{Bytes: len(b)}
	msg, err := krpc.JSON(b)
	if err == nil {
		j.Message = msg
	} else {
		j.Hex = hex.EncodeToString(b)
	}
	var m krpc.Message
	var drop *krpc.DropError
	var refusal *krpc.Error
	switch bad := krpc.Decode(b, &m); {
	case errors.As(bad, &drop):
		j.Drop = drop.Error()
	case errors.As(bad, &refusal):
		j.Error = &errorJSON{refusal.Code, refusal.Text}
	}
	return j, err
}

// maxLine bounds a line of hexadecimal digits: a datagram has at most 65,535 bytes.
const maxLine = 1 << 18

const decodable = "give it a capture, a datagram, or one datagram per line as pairs of hexadecimal digits"

// Run decodes datagrams.
func (c *decodeCmd) Run(s *system) error {
	if c.Input == "-" {
		return c.stream(s, s.stdin)
	}
	f, err := os.Open(c.Input)
	if err == nil {
		defer f.Close()
		return c.stream(s, f)
	}
	b, bad := parseHex(c.Input)
	if bad != nil {
		return usage("write the datagram as pairs of hexadecimal digits, or name a readable file", "%q is neither a file (%v) nor hexadecimal", shorten(c.Input), errors.Unwrap(err))
	}
	return c.one(s, b)
}

// stream decodes a capture, a datagram, or lines of hexadecimal digits.
func (c *decodeCmd) stream(s *system, in io.Reader) error {
	r := bufio.NewReader(in)
	head, err := r.Peek(4)
	if len(head) == 0 {
		return failed(noEOF(err), "give it a capture, a datagram, or hexadecimal digits", "there is nothing to decode")
	}
	if isCapture(head) {
		return c.capture(s, r)
	}
	if head[0] == 'd' && bytes.ContainsRune(head, ':') { // "d1:a" and the like, which no hexadecimal datagram begins with
		b, err := io.ReadAll(io.LimitReader(r, 1<<16))
		if err != nil {
			return failed(err, "", "cannot read")
		}
		return c.one(s, b)
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	n, shown := 0, 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		b, err := parseHex(line)
		if err != nil {
			return failed(nil, decodable, "line %d is not hexadecimal", n)
		}
		if err := c.one(s, b); err != nil {
			return err
		}
		shown++
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return failed(nil, decodable, "line %d is too long for a datagram", n+1)
	case err != nil:
		return failed(err, "", "cannot read line %d", n+1)
	case shown == 0:
		return failed(nil, "give it a capture, a datagram, or hexadecimal digits", "there is nothing to decode")
	}
	return nil
}

// one decodes one datagram, which has to be one.
func (c *decodeCmd) one(s *system, b []byte) error {
	j, bad := decoded(b)
	if err := s.printJSON(j); err != nil {
		return err
	}
	if bad != nil {
		return failed(bad, "a datagram is one bencoded dictionary, d…e", "this is no KRPC message")
	}
	return nil
}

// capture decodes the datagrams of a capture.
func (c *decodeCmd) capture(s *system, r *bufio.Reader) error {
	shown, others := 0, 0
	err := readCapture(r, func(d datagram) error {
		j, bad := decoded(d.payload)
		if bad != nil && !c.All {
			others++
			return nil
		}
		shown++
		j.Time, j.Src, j.Dst, j.Cut = d.time.UTC().Format(time.RFC3339Nano), d.src.String(), d.dst.String(), d.cut
		return s.printJSON(j)
	})
	if others > 0 {
		s.say("kdht: %d UDP %s left out, being no bencoding; --all shows them", others, plural(others, "datagram"))
	}
	if err == nil && shown == 0 {
		return failed(nil, "capture on the right interface and port, as in: tcpdump -i eth0 -w FILE udp port 6881", "there is no KRPC message in the capture")
	}
	return err
}

// parseHex reads hexadecimal digits, with blanks and colons between them if need be.
func parseHex(s string) ([]byte, error) {
	s = strings.NewReplacer(" ", "", ":", "", "\t", "").Replace(strings.TrimPrefix(s, "0x"))
	if s == "" {
		return nil, errors.New("empty")
	}
	return hex.DecodeString(s)
}

// noEOF is err, but nil for the end of the input.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
