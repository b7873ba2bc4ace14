package alias

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes.
type Size int64

// MaxSize is above the memory of any machine, and far from overflow.
const MaxSize Size = 1 << 44

// sizeUnits are the suffixes of a size, the largest first.
var sizeUnits = []struct {
	suffix string
	bytes  uint64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// ParseSize reads digits, alone or followed by KiB, MiB or GiB.
func ParseSize(text string) (Size, error) {
	digits, unit := text, uint64(1)
	for _, u := range sizeUnits {
		if d, ok := strings.CutSuffix(text, u.suffix); ok {
			digits, unit = d, u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if errors.Is(err, strconv.ErrRange) || n > uint64(MaxSize)/unit {
		return 0, fmt.Errorf("%q is too much: at most %s", text, MaxSize)
	}
	if err != nil {
		return 0, fmt.Errorf("%q is not a size: use a number of bytes, or one with KiB, MiB or GiB, as in 256MiB", text)
	}
	return Size(n * unit), nil
}

// String returns the size with the largest unit of which it is a multiple.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && uint64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/int64(u.bytes), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// shareProblems validates CacheMin and CacheMax.
func (a *Alias) shareProblems() []Problem {
	var problems []Problem
	for _, f := range []struct {
		field string
		value Size
	}{{"cache_min", a.CacheMin}, {"cache_max", a.CacheMax}} {
		if f.value < 0 || f.value > MaxSize {
			problems = append(problems, Problem{f.field, fmt.Sprintf("must be from 0 to %s", MaxSize)})
		}
	}
	if len(problems) == 0 && a.CacheMax > 0 && a.CacheMin > a.CacheMax {
		problems = []Problem{{"cache_min", "must not be more than cache_max"}}
	}
	return problems
}
