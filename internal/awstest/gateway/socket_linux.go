package gateway

// privateSocket names the socket over which the two servers talk: an abstract
// one, which no crash leaves behind and no long folder name breaks.
func privateSocket(_, unique string) string { return "@ixmage-" + unique }
