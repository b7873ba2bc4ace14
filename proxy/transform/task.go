package transform

// Task is what a worker does with a picture: options with all defaults filled in. Options.Task
// makes it.
type Task struct {
	Output  Format
	Quality int // 1 to 100; 0 for formats without one

	Width, Height int // of the result, dpr is in; 0: follows from the other side, or the picture's own
	Fit           Fit
	Gravity       Gravity
	FocalX        float32 // with Focal: 0 to 1 from the left
	FocalY        float32 // likewise, from the top

	Crop   Rect // of the upright picture, before everything else; a zero W means none
	Rotate int  // quarter turns clockwise, 0 to 3
	FlipH  bool // left and right change places, after the turn
	FlipV  bool

	Background    [4]byte // red, green, blue, alpha
	HasBackground bool    // false: white, or transparent if picture and format have alpha
	Blur, Sharpen float32 // sigma; 0: none
	Gray          bool
	Animate       bool // all frames are kept, if Output can have them
	KeepCopyright bool // copyright and artist stay, all other metadata goes

	MarkGravity Gravity // what follows counts only if the job has a watermark
	MarkOpacity int     // percent, 1 to 100
	MarkScale   int     // width in percent of the result; 0: natural size, at most 25
	MarkTile    bool
}

// Rect is a part of a picture, in pixels.
type Rect struct{ X, Y, W, H int }
