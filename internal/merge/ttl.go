package merge

import "time"

// TTLSlack is what two times to live may differ by.
const TTLSlack = time.Second

// manyYears are more than anybody counts. What is beyond 292 years is read as
// that, in a store that has it and in a copy made years ago.
const manyYears = 200 * 365 * 24 * time.Hour

// SameTTL compares times to live; what lives for ever in a may have the time
// given in b, or what is left of it.
func SameTTL(a, b, given time.Duration) bool {
	if a == 0 && given > 0 {
		return b > 0 && b-given <= TTLSlack
	}
	a, b = min(a, manyYears), min(b, manyYears)
	return (a == 0) == (b == 0) && (a-b).Abs() <= TTLSlack
}
