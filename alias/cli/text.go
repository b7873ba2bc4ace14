package cli

import (
	"fmt"
	"strings"
	"time"

	"ixmage/alias/client"
)

// moment is a time to the second, in UTC.
func moment(v client.Value) string {
	t, err := time.Parse(time.RFC3339Nano, v.Text())
	if err != nil {
		return v.Text()
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// at is the cell of a time.
func at(path ...string) func(client.Value) string {
	return func(row client.Value) string { return moment(row.Get(path...)) }
}

// byteSize is a number of bytes in the largest unit that it has one of.
func byteSize(v client.Value) string { return formatBytes(float64(v.Int())) }

func formatBytes(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for ; n >= 1024 && i < len(units)-1; i++ {
		n /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%.0f B", n)
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}

// spark draws values as bars of eight heights; zero is a space above the line.
func spark(values []int64) string {
	bars := []rune(" ▁▂▃▄▅▆▇█")
	var most int64
	for _, v := range values {
		most = max(most, v)
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if v > 0 {
			i = 1 + int((v*7+most/2)/most)
		}
		b.WriteRune(bars[i])
	}
	return b.String()
}
