package kv

// veil gives an error another text.
func veil(text string, cause error) error { return &veiled{text, cause} }

// newWithID says which document err concerns.
func newWithID(id string, err error) error { return &withID{id, err} }
