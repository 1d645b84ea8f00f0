//go:build !linux && !darwin

package fsys

import "errors"

// Free is not known on this system.
func (*Dir) Free() (int64, error) { return 0, errors.ErrUnsupported }
