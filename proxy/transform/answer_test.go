package transform

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestResultSize: the size of a result follows from its source and its task.
func TestResultSize(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		task   Task
		sw, sh int
		w, h   int // a right result
		wrong  [][2]int
	}{
		{"as it is", Task{}, 300, 200, 300, 200, [][2]int{{299, 200}, {300, 201}}},
		{"on its side", Task{}, 300, 200, 200, 300, nil},
		{"width", Task{Width: 100}, 300, 200, 100, 67, [][2]int{{102, 67}, {100, 64}, {300, 200}}},
		{"width, rounded otherwise", Task{Width: 100}, 300, 200, 100, 66, nil},
		{"width on its side", Task{Width: 100}, 300, 200, 100, 150, nil},
		{"height", Task{Height: 100}, 300, 200, 150, 100, [][2]int{{100, 100}}},
		{"not enlarged", Task{Width: 600}, 300, 200, 300, 200, [][2]int{{600, 400}}},
		{"one side of cover", Task{Width: 100, Fit: Cover}, 300, 200, 100, 67, [][2]int{{100, 100}}},
		{"contain", Task{Width: 100, Height: 100, Fit: Contain}, 300, 200, 100, 100, [][2]int{{100, 67}, {100, 101}}},
		{"cover, enlarged", Task{Width: 900, Height: 900, Fit: Cover}, 300, 200, 900, 900, [][2]int{{300, 200}, {901, 900}}},
		{"fill", Task{Width: 900, Height: 10, Fit: Fill}, 300, 200, 900, 10, [][2]int{{900, 11}}},
		{"inside", Task{Width: 100, Height: 100, Fit: Inside}, 300, 200, 100, 67, [][2]int{{100, 100}, {150, 100}}},
		{"outside", Task{Width: 100, Height: 100, Fit: Outside}, 300, 200, 150, 100, [][2]int{{100, 100}, {100, 67}}},
		{"outside, not enlarged", Task{Width: 600, Height: 100, Fit: Outside}, 300, 200, 300, 200, [][2]int{{600, 400}}},
		{"a line", Task{Width: 10}, 10000, 1, 10, 1, [][2]int{{10, 3}}},
		{"turned", Task{Rotate: 1, Width: 100}, 300, 200, 100, 150, nil},
		{"crop", Task{Crop: Rect{10, 20, 50, 60}}, 300, 200, 50, 60, [][2]int{{300, 200}, {60, 50}}},
		{"crop, cut", Task{Crop: Rect{290, 150, 50, 60}}, 300, 200, 10, 50, [][2]int{{50, 60}}},
		{"crop outside", Task{Crop: Rect{250, 0, 50, 60}, Width: 10, Height: 10, Fit: Cover}, 200, 300, 10, 10, nil}, // not if it lies on its side
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if !tc.task.mayBecome(tc.sw, tc.sh, tc.w, tc.h) {
				t.Errorf("%dx%d is right", tc.w, tc.h)
			}
			for _, wrong := range tc.wrong {
				if tc.task.mayBecome(tc.sw, tc.sh, wrong[0], wrong[1]) {
					t.Errorf("%dx%d is wrong", wrong[0], wrong[1])
				}
			}
		})
	}
	outside := Task{Crop: Rect{250, 0, 50, 60}, Width: 10, Height: 10, Fit: Cover}
	if outside.mayBecome(200, 100, 10, 10) {
		t.Error("a crop outside of the picture has no result")
	}
}

// TestCheck: what is beyond the limits is refused before a worker is asked.
func TestCheck(t *testing.T) {
	t.Parallel()
	ok := Blob{Header: Header{Type: JPEG, Width: 100, Height: 100}, Size: 100}
	for _, tc := range []struct {
		name   string
		change func(*Job)
		want   string // "" for none
	}{
		{"good", func(*Job) {}, ""},
		{"unknown size", func(j *Job) { j.Source.Width, j.Source.Height = 0, 0 }, ""},
		{"no type", func(j *Job) { j.Source.Type = 0 }, "not supported"},
		{"raw", func(j *Job) { j.Source.Type = Raw }, "not supported"},
		{"empty", func(j *Job) { j.Source.Size = 0 }, "broken"},
		{"40 MiB", func(j *Job) { j.Source.Size = SourceMax }, ""},
		{"bytes", func(j *Job) { j.Source.Size = SourceMax + 1 }, "too large"},
		{"a long side", func(j *Job) { j.Source.Width, j.Source.Height = 16384, 1 }, ""},
		{"side", func(j *Job) { j.Source.Width, j.Source.Height = 1, 16385 }, "too large"},
		{"50 MP", func(j *Job) { j.Source.Width, j.Source.Height = 10000, 5000 }, ""},
		{"pixels", func(j *Job) { j.Source.Width, j.Source.Height = 10000, 5001 }, "too large"},
		{"pixels of avif", func(j *Job) { j.Source.Header = Header{Type: AVIF, Width: 4000, Height: 4001} }, "too large"},
		{"16 MP of avif", func(j *Job) { j.Source.Header = Header{Type: AVIF, Width: 4000, Height: 4000} }, ""},
		{"frames", func(j *Job) { j.Source.Frames, j.Task.Animate, j.Task.Output = 101, true, GIF }, "too large"},
		{"frames, but the first is asked for", func(j *Job) { j.Source.Frames, j.Task.Output = 101, GIF }, ""},
		{"frames, but not in a jpeg", func(j *Job) { j.Source.Frames, j.Task.Animate = 101, true }, ""},
		{"pixels of all frames", func(j *Job) {
			j.Source.Header = Header{Type: GIF, Width: 1000, Height: 1000, Frames: 51}
			j.Task.Animate, j.Task.Output = true, WebP
		}, "too large"},
		{"watermark", func(j *Job) { b := ok; j.Mark = &b }, ""},
		{"watermark of no type", func(j *Job) { b := ok; b.Type = 0; j.Mark = &b }, "the watermark: the type"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			j := Job{Source: ok, Task: Task{Output: JPEG}}
			tc.change(&j)
			err := j.check()
			if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) || !errors.Is(err, ErrRefused)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestRequestFrame: every field of a task stands in its place. worker.h has the same.
func TestRequestFrame(t *testing.T) {
	t.Parallel()
	j := Job{
		Task: Task{
			Output: WebP, Quality: 0x51, Width: 0x1112, Height: 0x1314, Fit: Cover, Gravity: Focal, FocalX: 0.5, FocalY: 1,
			Crop: Rect{1, 2, 3, 4}, Rotate: 3, FlipH: false, FlipV: true, Background: [4]byte{9, 8, 7, 6}, HasBackground: true,
			Blur: 2, Sharpen: 4, Gray: true, Animate: true, KeepCopyright: true,
			MarkGravity: SouthEast, MarkOpacity: 50, MarkScale: 20, MarkTile: true,
		},
		Source: Blob{Header: Header{Type: GIF, Colours: Colours{12, 13}}, Size: 0x2122},
		Mark:   &Blob{Header: Header{Type: PNG, Colours: Colours{9, 16}}, Size: 0x3132},
	}
	want := "49585251" + "22210000" + "32310000" + // magic, lengths
		"04020302" + "0a03021f" + // types, output, fit; gravity, rotate, flip, flags
		"12110000" + "14130000" + "01000000020000000300000004000000" + // size, crop
		"0000003f" + "0000803f" + "09080706" + "51000000" + "00000040" + "00008040" + // focal point, background, quality, blur, sharpen
		"04321400" + // watermark, effort
		"80f0fa02" + "64000000" + "00000002" + "00200000" + "40787d01" + // limits
		"0c0d0910" + "04030201" + "000000000000000000000000" // colours, number
	got := appendRequest(nil, &j, 0x01020304)
	if text := hex.EncodeToString(got); text != want || len(got) != requestLen {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	j.Source.Type, j.Task.Output, j.Mark = AVIF, AVIF, nil
	got = appendRequest(nil, &j, 1)
	le := binary.LittleEndian
	if got[71] != 1 || le.Uint32(got[72:]) != maxPixelsAVIF || le.Uint32(got[8:]) != 0 || got[19]&2 != 0 {
		t.Errorf("AVIF: effort %d, %d pixels, mark of %d bytes, flags %x", got[71], le.Uint32(got[72:]), le.Uint32(got[8:]), got[19])
	}
}

// FuzzReadAnswer: no answer makes the server panic, allocate more than the limit or believe
// a result that cannot be.
func FuzzReadAnswer(f *testing.F) {
	frame := func(status, bodyLen, w, h uint32) (b []byte) {
		for _, n := range answerFrame(status, bodyLen, w, h) {
			b = binary.LittleEndian.AppendUint32(b, n)
		}
		return b
	}
	f.Add(append(frame(0, 300, 10, 10), make([]byte, 300)...), byte(Raw))
	f.Add(append(frame(0, 15, 10, 10), fakePicture(JPEG)...), byte(JPEG))
	f.Add(append(frame(0, 26, 10, 10), fakePicture(PNG)...), byte(PNG))
	f.Add(append(frame(0, 13, 10, 10), fakePicture(GIF)...), byte(GIF))
	f.Add(frame(1, 0, 0, 0), byte(WebP))
	f.Add(frame(0, maxBody+1, 10, 10), byte(AVIF))
	f.Add([]byte{}, byte(PNG))
	f.Fuzz(func(t *testing.T, b []byte, output byte) {
		j := command(1, "ok", 0)
		j.Task.Output = Format(output%6 + 1)
		j.Task.Animate = output&1 == 1
		a, body, err := readAnswer(bytes.NewReader(b), &j, 0)
		if err != nil {
			if lie := (*answerError)(nil); !errors.As(err, &lie) && !errors.Is(err, errOtherJob) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v", err)
			}
			return
		}
		if a.status > statusInternal || a.status == 0 && (a.width != 10 || a.height != 10 || a.frames < 1 || a.frames > maxFrames ||
			len(body) == 0 || len(body) > maxBody || j.Task.Output != Raw && Sniff(body).Type != j.Task.Output) {
			t.Errorf("%+v with %d bytes was believed", a, len(body))
		}
	})
}

// FuzzParseReady: a worker is ready only with the right numbers and a printable version.
func FuzzParseReady(f *testing.F) {
	frame := binary.LittleEndian.AppendUint32(nil, readyMagic)
	frame = append(binary.LittleEndian.AppendUint32(frame, frameABI), 7, 0, 0, 0, 0, 0, 0, 0)
	f.Add(append(append(frame, "8.18.7"...), make([]byte, 26)...))
	f.Add(append(frame, "8.18.7 that does not end\n\xff       "...))
	f.Add(make([]byte, readyLen))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseReady(b)
		if err != nil {
			return
		}
		if len(b) != readyLen || r.version == "" || len(r.version) > 32 {
			t.Errorf("%d bytes, version %q", len(b), r.version)
		}
		for _, c := range []byte(r.version) {
			if c <= ' ' || c > '~' {
				t.Errorf("version %q", r.version)
			}
		}
	})
}
