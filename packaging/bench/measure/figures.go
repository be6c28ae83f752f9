package measure

import (
	"fmt"
	"slices"
)

// Figures are the values of the runs of one program, in the order of the runs.
type Figures []float64

// Median is the middle value, the mean of the two middle ones of an even number, 0 of none.
func (f Figures) Median() float64 {
	if len(f) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(f))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// Min is the smallest value. There must be one.
func (f Figures) Min() float64 { return slices.Min(f) }

// Max is the largest value. There must be one.
func (f Figures) Max() float64 { return slices.Max(f) }

// Ratios divides run by run: the i-th of f by the i-th of floor, which ran right beside it. Both have the same length.
func (f Figures) Ratios(floor Figures) Figures {
	ratios := make(Figures, len(f))
	for i := range f {
		ratios[i] = f[i] / floor[i]
	}
	return ratios
}

// String is "median (min–max)".
func (f Figures) String() string {
	switch len(f) {
	case 0:
		return "-"
	case 1:
		return Number(f[0])
	}
	return fmt.Sprintf("%s (%s–%s)", Number(f.Median()), Number(f.Min()), Number(f.Max()))
}

// Number prints three digits that matter, and whole numbers whole.
func Number(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.1f", v)
	case v >= 10:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}
