package headscaletest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"time"
)

// relay has TLS stand before the relay that is a part of Headscale, until the test ends, and returns the hash of its certificate,
// by which nodes know it: no authority has signed it.
func (s *Server) relay() (certificate string, err error) {
	cert, err := s.certificate()
	if err != nil {
		return "", fmt.Errorf("certificate of the relay: %w", err)
	}
	l, err := s.listen(relayPort)
	if err != nil {
		return "", fmt.Errorf("relay: %w", err)
	}
	s.t.Cleanup(func() { _ = l.Close() })
	l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go s.pass(near)
		}
	}()
	sum := sha256.Sum256(cert.Certificate[0])
	return hex.EncodeToString(sum[:]), nil
}

// pass joins a connection with one to Headscale.
func (s *Server) pass(near net.Conn) {
	defer near.Close()
	var far net.Conn
	if s.in(func() (err error) {
		far, err = net.Dial("tcp", netip.AddrPortFrom(s.o.Addr, controlPort).String())
		return err
	}) != nil {
		return
	}
	defer far.Close()
	done := make(chan struct{}, 2) // either end: both go
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}

// certificate makes one that signs itself.
func (s *Server) certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{s.o.Addr.AsSlice()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
