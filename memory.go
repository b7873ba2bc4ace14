package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/alecthomas/kong"

	"ixmage/alias"
)

// amount is a number of bytes, or a percentage of a total that is known at the start.
type amount struct {
	bytes   alias.Size
	percent int64 // if it is not 0, bytes is 0
}

// parseAmount reads a size, or digits followed by %.
func parseAmount(text string, tag *kong.Tag) (amount, error) {
	digits, isPercentage := strings.CutSuffix(text, "%")
	if !isPercentage {
		n, err := parseSize(text, tag)
		if err != nil {
			return amount{}, fmt.Errorf("%w; or a percentage, as in 25%%", err)
		}
		return amount{bytes: n}, nil
	}
	n, err := strconv.ParseUint(digits, 10, 8)
	if err != nil || n > 100 {
		return amount{}, fmt.Errorf("%q is not a percentage: use a whole number from 0%% to 100%%, as in 25%%", text)
	}
	return amount{percent: int64(n)}, nil
}

// of returns the bytes of an amount of total.
func (a amount) of(total int64) int64 {
	if a.percent == 0 {
		return int64(a.bytes)
	}
	return total / 100 * a.percent
}

// available is the memory that this process may have, and what limits it: the machine or
// its cgroup.
type available struct {
	bytes int64 // 0: not known
	by    string
}

// readAvailable reads the memory of the machine, and the limits of version 1 or 2 of the
// cgroup of this process and of the groups around it. Limits of address space (RLIMIT_AS)
// are none of memory.
func readAvailable(log *slog.Logger) available {
	machine, err := memlimit.FromSystem()
	if err != nil {
		log.Info("the memory of the machine is not known", "error", err)
	}
	have := available{int64(machine), "machine"}
	group, err := memlimit.FromCgroup()
	switch {
	case err == nil && (machine == 0 || group < machine):
		have = available{int64(group), "cgroup"}
	case err == nil, errors.Is(err, memlimit.ErrNoLimit), errors.Is(err, memlimit.ErrNoCgroup),
		errors.Is(err, memlimit.ErrCgroupsNotSupported):
	default:
		log.Info("the memory limit of the cgroup cannot be read; the memory of the machine counts", "error", err)
	}
	return have
}

// memoryRest is the memory for everything except the cache and its clients: the program
// itself with its garbage (gcRoom), and the kernel.
const memoryRest = 128 << 20

// memoryBudget returns the bytes of the memory tier. A budget that leaves less than
// memoryRest of the memory that the process may have (less than a half, if that is little)
// would end the process when the cache fills: it is replaced by a smaller one.
func (s *serveCmd) memoryBudget(have available, log *slog.Logger) (int64, error) {
	if have.bytes == 0 {
		if s.CacheMemory.percent > 0 {
			return 0, errors.New("the memory of this machine is not known: give --cache-memory in bytes")
		}
		return int64(s.CacheMemory.bytes), nil
	}
	budget := s.CacheMemory.of(have.bytes)
	most := have.bytes - min(memoryRest, have.bytes/2)
	if budget <= most {
		return budget, nil
	}
	smaller := min(have.bytes/4*3, most)
	log.Warn("--cache-memory leaves too little of the memory that this process may have; a smaller budget is used",
		"cache_memory", budget, "available", have.bytes, "limited_by", have.by, "used", smaller)
	return smaller, nil
}

// checkWorkerMemory warns if the workers of --transform-worker, whose memory is no part of a
// budget, may take more than the process and they may have together.
func (s *serveCmd) checkWorkerMemory(have available, budget int64, log *slog.Logger) {
	workers := int64(s.transformWorkers())
	need := budget + min(memoryRest, have.bytes/2) + workers*int64(s.TransformMemory)
	if s.TransformWorker == "" || have.bytes == 0 || need <= have.bytes {
		return
	}
	log.Warn("if all transform workers take as much memory as they may, they and the server need more than there is; "+
		"give --transform-workers, --transform-memory or --cache-memory less, or the server more memory",
		"needed", need, "available", have.bytes, "limited_by", have.by,
		"workers", workers, "transform_memory", int64(s.TransformMemory), "cache_memory", budget)
}

// gcRoomOf returns how much memory Go's heap may take beside cached bodies: gcRoom, or the
// same share of what a budget leaves (gcRoom is 5/8 of memoryRest) if that is less.
func (h available) gcRoomOf(budget int64) int64 {
	if h.bytes == 0 {
		return gcRoom
	}
	return min(gcRoom, (h.bytes-budget)/8*5)
}
