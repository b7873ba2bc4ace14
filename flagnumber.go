package main

import "fmt"

// number is a number of things, which may be none.
type number struct{ count }

// UnmarshalText reads digits.
func (v *number) UnmarshalText(text []byte) error {
	if string(text) == "0" {
		*v = number{}
		return nil
	}
	return v.count.UnmarshalText(text)
}

func (v *number) problem() string {
	if v.bad == "" {
		return ""
	}
	return fmt.Sprintf("%q is not a whole number from 0 to %d", v.bad, 1<<24)
}
