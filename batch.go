package rollingupgrade

import (
	"fmt"
	"strings"
)

// BatchSpec says how the instances are divided. Set exactly one of Count, Sizes and MaxSize.
type BatchSpec struct {
	// Count is the number of batches. Sizes differ by at most one and the larger batches
	// come last, so the first one is the canary: 10 instances in 3 batches are 3, 3, 4. More batches than instances
	// are clamped to one instance each.
	Count int `json:"count,omitempty"`
	// Sizes are the sizes of the batches, in order; the last one repeats until no instance is left.
	Sizes []Size `json:"sizes,omitempty"`
	// MaxSize divides into as few batches as possible of at most that many instances, balanced as with Count.
	MaxSize int `json:"max_size,omitempty"`
}

// Size is the size of a batch: a number of instances, or a percentage of all of them, rounded up.
type Size struct {
	Instances int `json:"instances,omitempty"`
	Percent   int `json:"percent,omitempty"`
}

// InBatches divides into n batches of equal size.
func InBatches(n int) BatchSpec { return BatchSpec{Count: n} }

// A Batch is one batch of a plan.
type Batch struct {
	// Number counts from 1.
	Number int `json:"number"`
	// InstanceIDs are the instances, in the order in which they are worked on.
	InstanceIDs []string `json:"instance_ids"`
	// InService is how many instances of the group are in service while this batch is at work.
	InService int `json:"in_service"`
}

// SplitBatches returns the sizes of the batches into which s divides n instances: every one is
// at least 1 and their sum is n. It returns a *[FieldError] (ErrInvalid) if s is not acceptable. No instances make no batches.
func SplitBatches(n int, s BatchSpec) ([]int, error) {
	if err := s.validate("Batches"); err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, &FieldError{"n", fmt.Sprintf("%d instances; must not be negative", n)}
	}
	if n == 0 {
		return nil, nil
	}
	switch {
	case s.Count > 0:
		return balanced(n, min(s.Count, n)), nil
	case s.MaxSize > 0:
		return balanced(n, (n-1)/s.MaxSize+1), nil
	}
	var sizes []int
	for left, i := n, 0; left > 0; i++ {
		size := min(s.Sizes[min(i, len(s.Sizes)-1)].of(n), left)
		sizes = append(sizes, size)
		left -= size
	}
	return sizes, nil
}

// balanced divides n into count parts that differ by at most one, the larger ones last.
func balanced(n, count int) []int {
	sizes := make([]int, count)
	for i := range sizes {
		sizes[i] = n / count
		if i >= count-n%count {
			sizes[i]++
		}
	}
	return sizes
}

func (z Size) of(n int) int {
	if z.Instances > 0 {
		return min(z.Instances, n)
	}
	whole, rest := n/100*z.Percent, n%100*z.Percent
	return max(1, whole+(rest+99)/100)
}

func (s BatchSpec) validate(field string) error {
	set := 0
	for _, isSet := range []bool{s.Count != 0, len(s.Sizes) > 0, s.MaxSize != 0} {
		if isSet {
			set++
		}
	}
	switch {
	case s.Count < 0:
		return &FieldError{field + ".Count", fmt.Sprintf("%d batches; must be at least 1", s.Count)}
	case s.MaxSize < 0:
		return &FieldError{field + ".MaxSize", fmt.Sprintf("%d instances; must be at least 1", s.MaxSize)}
	case set == 0:
		return &FieldError{field + ".Count", "0 batches; must be at least 1 (or set Sizes or MaxSize)"}
	case set > 1:
		return &FieldError{field, "only one of Count, Sizes and MaxSize may be set"}
	}
	for i, z := range s.Sizes {
		at := fmt.Sprintf("%s.Sizes[%d]", field, i)
		switch {
		case z.Instances < 0 || z.Percent < 0 || z.Percent > 100:
			return &FieldError{at, "must be at least 1 instance, or 1 to 100 percent"}
		case (z.Instances > 0) == (z.Percent > 0):
			return &FieldError{at, "exactly one of Instances and Percent must be set"}
		}
	}
	return nil
}

func (s BatchSpec) words() string {
	switch {
	case s.Count > 0:
		return fmt.Sprintf("%d batches", s.Count)
	case s.MaxSize > 0:
		return fmt.Sprintf("batches of at most %d", s.MaxSize)
	}
	parts := make([]string, len(s.Sizes))
	for i, z := range s.Sizes {
		parts[i] = fmt.Sprintf("%d", z.Instances)
		if z.Percent > 0 {
			parts[i] = fmt.Sprintf("%d %%", z.Percent)
		}
	}
	return "batches of " + strings.Join(parts, ", ") + " (the last one repeats)"
}
