package bpf

// Jited reports whether the kernel has compiled the program to machine code (JIT). Otherwise it interprets it, which
// costs several times as much per datagram.
func (p *Program) Jited() (bool, error) {
	if err := p.lock(); err != nil {
		return false, err
	}
	defer p.mu.Unlock()
	info, err := p.objs.Kdht.Info()
	if err != nil {
		return false, classify("read what is known of the program", err)
	}
	size, err := info.JitedSize()
	return err == nil && size > 0, nil // the error says that there is no machine code
}
