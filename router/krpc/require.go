package krpc

// query checks that a query has what its method needs.
func (d *decoder) query() error {
	if err := d.use(TypeQuery, d.a); err != nil {
		return err
	}
	m := d.m
	switch {
	case m.Method == MethodNone:
		return ErrArgMethod
	case d.a == 0:
		return ErrArgs
	case !m.HasID:
		return ErrArgID
	}
	switch m.Method {
	case MethodFindNode, MethodGet, MethodSampleInfohashes:
		if !m.HasTarget {
			return ErrArgTarget
		}
	case MethodGetPeers:
		if !m.HasInfoHash {
			return ErrArgInfoHash
		}
	case MethodAnnouncePeer:
		switch {
		case !m.HasInfoHash:
			return ErrArgInfoHash
		case !m.ImpliedPort && m.Port == 0:
			return ErrArgPort
		case m.Token == nil && !m.Recursive:
			return ErrArgToken
		}
	case MethodPut:
		return d.put()
	case MethodUnknown:
		switch {
		case m.HasTarget:
		case m.HasInfoHash:
			m.Target, m.HasTarget = m.InfoHash, true
		default:
			return ErrMethod
		}
	}
	return nil
}

func (d *decoder) put() error {
	m := d.m
	switch {
	case m.Token == nil && !m.Recursive:
		return ErrArgToken
	case d.bad&badK != 0:
		return ErrArgK
	case m.K != nil && d.bad&badSalt != 0:
		return ErrArgSalt
	case m.K != nil && d.bad&badSeq != 0:
		return ErrArgSeq
	case m.K != nil && d.bad&badCAS != 0:
		return ErrArgCAS
	}
	return checkPutArgs(m)
}

// CheckToken returns an ErrArgToken for a put or announce_peer that has no token, which Decode lets pass with rd. It
// takes precedence over whatever else is wrong with the arguments of a put.
func CheckToken(m *Message) error {
	if m.Token == nil && m.HasID && (m.Method == MethodPut || m.Method == MethodAnnouncePeer) {
		return ErrArgToken
	}
	return nil
}
