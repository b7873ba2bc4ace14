package alias

// Position is a place in the history of a registry that many nodes share. Two histories may
// have the same revision, such as that of a backup that was restored and the one before it;
// then their tags differ. The zero value is the beginning.
type Position struct {
	Revision int64  `json:"revision"` // counts the changes that nodes must know
	Tag      string `json:"tag"`
}

// LogKind says what a change has changed.
type LogKind string

// Kinds of a LogEntry.
const (
	LogAlias      LogKind = "alias"
	LogCredential LogKind = "credential"
	LogTokens     LogKind = "tokens"    // some admin token
	LogOperation  LogKind = "operation" // one of the credential Name
	LogPurge      LogKind = "purge"
)

// LogEntry is a part of a change. It names what changed; the new state is read from the store.
type LogEntry struct {
	Kind  LogKind
	Name  Name   // of the alias or credential
	Purge *Purge // of LogPurge
}

// Purge selects the cached objects to be dropped: one by Key, all whose paths begin with
// Prefix, or, with neither, all objects of the alias. A hard purge of all objects is not a
// Purge: it raises the epoch.
type Purge struct {
	AliasID int64  `json:"alias_id"`
	Epoch   int64  `json:"epoch"` // of the alias, when the purge was asked for
	Key     string `json:"key,omitempty"`
	Prefix  string `json:"prefix,omitempty"`
	Hard    bool   `json:"hard,omitempty"` // else the objects become stale
}

// TxPosition is the place of a transaction in the history of a registry.
type TxPosition struct {
	Before Position // that the transaction builds on
	// After is the position that it commits at, if it changes something that the log has.
	After  Position
	Logged bool // it has changed such a thing
}
