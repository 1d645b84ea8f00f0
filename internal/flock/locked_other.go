//go:build !linux

package flock

import (
	"errors"
	"os"
)

func locked(*os.File) (bool, error) { return false, errors.ErrUnsupported }
