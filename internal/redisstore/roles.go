package redisstore

import (
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/lease"
)

// What an engine of Redis is to others, who find out by asking.
var (
	_ engine.Engine         = (*Engine)(nil)
	_ engine.BulkReader     = (*Engine)(nil)
	_ engine.ServerInformer = (*Engine)(nil)
	_ engine.Writable       = (*Engine)(nil)
	_ lease.Lender          = (*Engine)(nil)
)
