package kv

import (
	"context"
	"sync"
)

// shared is something that its first user opens and its last one closes.
type shared[T interface{ Close() error }] struct {
	once sync.Once
	turn chan struct{} // holds a token while nobody opens or closes
	refs int
	it   T
}

// acquire returns the thing, and opens it if nobody has it open.
func (s *shared[T]) acquire(ctx context.Context, open func(context.Context) (T, error)) (T, error) {
	var zero T
	if err := s.enter(ctx); err != nil {
		return zero, err
	}
	defer s.leave()
	if s.refs == 0 {
		it, err := open(ctx)
		if err != nil {
			return zero, err
		}
		s.it = it
	}
	s.refs++
	return s.it, nil
}

// release closes the thing if the caller was the last to have it.
func (s *shared[T]) release() error {
	if err := s.enter(context.Background()); err != nil {
		return err
	}
	defer s.leave()
	s.refs--
	if s.refs > 0 {
		return nil
	}
	it := s.it
	var zero T
	s.it = zero
	return it.Close()
}

func (s *shared[T]) enter(ctx context.Context) error {
	s.once.Do(func() {
		s.turn = make(chan struct{}, 1)
		s.turn <- struct{}{}
	})
	select {
	case <-s.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *shared[T]) leave() { s.turn <- struct{}{} }
