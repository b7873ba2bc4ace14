package gateway

// privateSocket names the socket between the two servers. It is abstract: it does
// not outlive a crash and has no limit on the length of a path.
func privateSocket(_, unique string) string { return "@ixmage-" + unique }
