//go:build !linux && !darwin

package disk

import "math"

// volume is unknown here: nothing is kept free, and a full disk is noticed by its error.
func volume(string) (Volume, error) {
	return Volume{Total: math.MaxInt64 / 4, Free: math.MaxInt64 / 4}, nil
}
