package testkit

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// A Listing is Keys, or a wrong one that the checks must catch.
type Listing func(ctx context.Context) iter.Seq2[string, error]

// CheckListing says what is wrong with a listing of ids that exist all the
// time: one that is missing, or comes twice. It calls during with the number
// of the id that it has got, from 0 on. What else is listed is of no concern.
func CheckListing(ctx context.Context, list Listing, want map[string]bool, during func(n int, id string)) error {
	seen, n := make(map[string]bool), 0
	for id, err := range list(ctx) {
		if err != nil {
			return err
		}
		if seen[id] {
			return fmt.Errorf("%w: %s came twice", ErrListing, id)
		}
		seen[id] = true
		during(n, id)
		n++
	}
	missing := 0
	for id := range want {
		if !seen[id] {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%w: %d of %d are missing", ErrListing, missing, len(want))
	}
	return nil
}

// ErrListing is a listing that is wrong, and says nothing of it.
var ErrListing = errors.New("wrong listing")

func IDSet[V any](items map[string]V) map[string]bool {
	ids := make(map[string]bool, len(items))
	for id := range items {
		ids[id] = true
	}
	return ids
}
