// Package admin is the admin plane: the program as a node of a tailnet (tailscale.com/tsnet), serving there, to those who may,
// all that it takes to look after a box from afar.
//
// What a caller may do follows from who he is in the tailnet, which is asked (WhoIs) for every request: [Role]s by the
// capability [Capability] that the tailnet's policy grants, or, for a peer to whom it grants none, by the lists of the
// configuration. Whoever has no role gets nothing. Every change, and everything that gives secrets away, goes to the audit log in the store
// (store.Audit); what is tried in vain does so seldom (package audit), and so does what is written through the gateway, which notes that by itself.
//
//	plane.go      the node's life: it starts, listens, watches, and begins anew after a failure
//	login.go      logins: by key, interactively, again after the node key expired
//	key.go        where auth keys come from
//	pin.go        the tailnet that the box belongs to, so that nobody takes it over into another one
//	dial.go       connections to other nodes of the tailnet, as for releases
//	identity.go   who a caller is; role.go what he may
//	gate.go       what stands before every request: name, origin, role, audit
//	routes.go     the table of what needs which role
//	config.go, backup.go, restore.go, logs.go, profile.go, restart.go: what is served beside the status page
//	trial.go      a changed configuration has to prove well (package change); judge.go whether it does
//
// The node needs nothing of this: the plane is one task that never fails, keeps its state in the directory tailnet of the
// state directory, and is off unless it is configured.
package admin
