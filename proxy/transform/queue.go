package transform

import "slices"

// queue has the jobs that wait for a worker, those of each owner in a line of its own, first
// come, first served. Owners take turns: a job that gets a worker sends its owner's line to the
// end. If there are more than max jobs, the last one of the longest line has to go, so an owner
// cannot take the places of others. It is not safe for concurrent use.
type queue struct {
	max   int
	n     int
	lines []*line // none is empty; the next owner first
}

type line struct {
	owner int64
	jobs  []*waiting
}

// waiting is a job that waits. It gets one grant.
type waiting struct {
	owner int64
	grant chan grant // has room for one
}

// grant is a worker for a job, or the reason why it gets none.
type grant struct {
	worker *worker
	err    error
}

func (q *queue) push(w *waiting) {
	i := slices.IndexFunc(q.lines, func(l *line) bool { return l.owner == w.owner })
	if i < 0 {
		i = len(q.lines)
		q.lines = append(q.lines, &line{owner: w.owner})
	}
	q.lines[i].jobs = append(q.lines[i].jobs, w)
	q.n++
}

// pop removes the first job of a line.
func (q *queue) pop(l *line) *waiting {
	first := l.jobs[0]
	q.remove(first)
	if i := slices.Index(q.lines, l); i >= 0 {
		q.lines = append(slices.Delete(q.lines, i, i+1), l)
	}
	return first
}

// remove takes a job out, and reports whether it still waited.
func (q *queue) remove(w *waiting) bool {
	for i, l := range q.lines {
		at := slices.Index(l.jobs, w)
		if at < 0 {
			continue
		}
		q.n--
		if l.jobs = slices.Delete(l.jobs, at, at+1); len(l.jobs) == 0 {
			q.lines = slices.Delete(q.lines, i, i+1)
		}
		return true
	}
	return false
}

// overflow removes a job that has no place after came has been pushed, or returns nil. Of lines
// of equal length, that of came loses.
func (q *queue) overflow(came *waiting) *waiting {
	if q.n <= q.max {
		return nil
	}
	longest := q.lines[0]
	for _, l := range q.lines[1:] {
		if len(l.jobs) > len(longest.jobs) || len(l.jobs) == len(longest.jobs) && l.owner == came.owner {
			longest = l
		}
	}
	last := longest.jobs[len(longest.jobs)-1]
	q.remove(last)
	return last
}
