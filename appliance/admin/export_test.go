package admin

import "tailscale.com/tsnet"

// OnNode has f called with each node that has started in the tailnet.
func (o *Options) OnNode(f func(*tsnet.Server)) { o.node = f }

// Loud has nodes end as tsnet has them end.
func (o *Options) Loud() { o.loud = true }
