package jsonstore

import "github.com/ngraf/kv/internal/engine"

// What an engine of files is to others, who find out by asking.
var (
	_ engine.Engine   = (*Engine)(nil)
	_ engine.Sized    = (*Engine)(nil)
	_ engine.Replacer = (*Engine)(nil)
)
