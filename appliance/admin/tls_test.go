package admin_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tailscale.com/envknob"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"

	"kdht/appliance"
)

// authority is a certificate authority that speaks as much of ACME (RFC 8555) as it takes to get a certificate: one account, one order at
// a time, the challenge dns-01. It looks at no signatures.
type authority struct {
	t    *testing.T
	url  string
	key  *ecdsa.PrivateKey
	root *x509.Certificate

	mu     sync.Mutex
	txt    map[string]string // that the control server was told
	name   string            // that is ordered
	valid  bool
	issued []byte
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key, root: root, txt: make(map[string]string)}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	a.url = s.URL
	return a
}

// ServeHTTP implements [http.Handler].
func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var jws struct{ Payload string }
	var in struct {
		OnlyReturnExisting bool
		Identifiers        []struct{ Value string }
		CSR                string
	}
	if r.Method == http.MethodPost {
		err := json.NewDecoder(r.Body).Decode(&jws)
		payload, err2 := base64.RawURLEncoding.DecodeString(jws.Payload)
		if len(payload) > 0 && err2 == nil {
			err2 = json.Unmarshal(payload, &in)
		}
		if err = errors.Join(err, err2); err != nil {
			a.t.Errorf("ACME: %s: %v", r.URL.Path, err)
		}
	}
	w.Header().Set("Replay-Nonce", rand.Text())
	answer := func(code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	}
	type object = map[string]any
	status := func(yes string) string {
		if a.valid {
			return yes
		}
		return "pending"
	}
	challenge := object{"url": a.url + "/challenge", "type": "dns-01", "token": "token", "status": status("valid")}
	order := func() object {
		o := object{"status": status("ready"), "identifiers": []object{{"type": "dns", "value": a.name}}, "authorizations": []string{a.url + "/authz"}, "finalize": a.url + "/finalize"}
		if a.issued != nil {
			o["status"], o["certificate"] = "valid", a.url+"/cert"
		}
		w.Header().Set("Location", a.url+"/order")
		return o
	}
	switch r.URL.Path {
	case "/directory":
		answer(200, object{"newNonce": a.url + "/nonce", "newAccount": a.url + "/account", "newOrder": a.url + "/new", "revokeCert": a.url + "/revoke"})
	case "/nonce":
	case "/account":
		if in.OnlyReturnExisting {
			answer(400, object{"type": "urn:ietf:params:acme:error:accountDoesNotExist"})
			return
		}
		w.Header().Set("Location", a.url+"/account/1")
		answer(201, object{"status": "valid"})
	case "/new":
		a.name, a.valid, a.issued = in.Identifiers[0].Value, false, nil
		answer(201, order())
	case "/order":
		answer(200, order())
	case "/authz":
		answer(200, object{"status": status("valid"), "identifier": object{"type": "dns", "value": a.name}, "challenges": []object{challenge}})
	case "/challenge":
		a.valid = a.txt["_acme-challenge."+a.name] != ""
		challenge["status"] = status("valid")
		answer(200, challenge)
	case "/finalize":
		der, err := base64.RawURLEncoding.DecodeString(in.CSR)
		if err == nil {
			a.issued, err = a.issue(der)
		}
		if err != nil {
			a.t.Errorf("ACME: %v", err)
		}
		answer(200, order())
	case "/cert":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(a.issued)
	default:
		http.NotFound(w, r)
	}
}

func (a *authority) issue(request []byte) ([]byte, error) {
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(23 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: csr.DNSNames,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.root, csr.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})), nil
}

// TestCertificateOfTheTailnet has the box get a certificate for its name in the tailnet, by the control server's DNS, and serve with it: the URL is
// told of only then, and connections by TLS are known like the others.
func TestCertificateOfTheTailnet(t *testing.T) {
	ca := newAuthority(t)
	const knob = "TS_DEBUG_ACME_DIRECTORY_URL"
	envknob.Setenv(knob, ca.url+"/directory")
	t.Cleanup(func() { envknob.Setenv(knob, "") })
	release := make(chan struct{})
	n := newTailnet(t, func(c *testcontrol.Server) {
		c.OnSetDNS = func(r *tailcfg.SetDNSRequest) error {
			<-release
			ca.mu.Lock()
			defer ca.mu.Unlock()
			ca.txt[r.Name] = r.Value
			return nil
		}
	})
	b := start(t, options{
		values: []string{"tailnet.mode", "on", "tailnet.controlURL", n.url, "tailnet.hostname", "box", "tailnet.updaters", "user-2@fake-control.example.net"},
		more: []appliance.Extension{func(h *appliance.Host) error {
			h.Handle("POST /update/switch", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = fmt.Fprintf(w, "%t %t", r.TLS != nil, appliance.ConnectionOf(r.Context()).Open())
			}))
			return nil
		}},
	})
	const plain, secure = "http://box." + domain, "https://box." + domain
	if r := b.state("connected"); !slices.Equal(r.URLs, []string{plain}) {
		t.Errorf("without a certificate it is served at %v", r.URLs)
	}
	close(release)
	eventually(t, func() bool { return slices.Equal(b.host.Report().Tailnet.URLs, []string{secure, plain}) },
		func() string { return fmt.Sprintf("it is served at %v\n%s", b.host.Report().Tailnet.URLs, b.log) })

	p := n.peer("updater")
	p.box = b.host.Report().Tailnet.Addrs[0]
	p.rolesAre("viewer, updater")
	roots := x509.NewCertPool()
	roots.AddCert(ca.root)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return p.server.Dial(ctx, network, net.JoinHostPort(p.box, "443"))
		},
	}}
	resp, err := client.Post(secure+"/update/switch", "text/plain", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || string(got) != "true true" {
		t.Errorf("%s: %s, %v", resp.Status, got, err)
	}
	if names := resp.TLS.PeerCertificates[0].DNSNames; !slices.Equal(names, []string{"box." + domain}) {
		t.Errorf("the certificate is for %v", names)
	}
}
