package record

import "sync"

// Subscribers are told of saves. The zero value is ready to use.
type Subscribers struct {
	mu   sync.Mutex
	next int
	fs   map[int]func(taskID string)
}

// Add makes f one of them until stop is called.
func (s *Subscribers) Add(f func(taskID string)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fs == nil {
		s.fs = map[int]func(string){}
	}
	s.next++
	id := s.next
	s.fs[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.fs, id)
	}
}

// Tell calls them, without holding the lock.
func (s *Subscribers) Tell(taskIDs ...string) {
	s.mu.Lock()
	fs := make([]func(string), 0, len(s.fs))
	for _, f := range s.fs {
		fs = append(fs, f)
	}
	s.mu.Unlock()
	for _, f := range fs {
		for _, id := range taskIDs {
			f(id)
		}
	}
}
