//go:build !linux

package cache

import "testing"

func (*memfile) resident(*testing.T) int64 { return 0 }
