package transform

import (
	"slices"
	"strings"
)

// row describes an option.
type row struct {
	name string
	form string // what a good value is, after "name is"
	read func(value []byte) (packed uint64, ok bool)
	// write appends a packed value as read understands it.
	write func(b []byte, packed uint64) []byte
}

// table has a row for every option, in the order of their names.
var table = [options]row{
	optAnim: {"anim", "1 (all frames) or 0 (the first one)", anims.read, anims.write},
	optBackground: {"bg", "3, 4, 6 or 8 hexadecimal digits, a colour name of CSS, or transparent",
		readColour, writeColour},
	optBlur: {"blur", "a number from 0.3 to 100", hundredths(30, 10_000).read, hundredths(30, 10_000).write},
	optCrop: {"crop", "x,y,w,h in whole pixels of the upright source, w and h at least 1, such as 0,0,400,300",
		readCrop, writeCrop},
	optDPR:    {"dpr", "a number from 1 to 4, such as 1.5", hundredths(100, 400).read, hundredths(100, 400).write},
	optFormat: {"f", "auto, jpeg, png, webp, avif or gif", formats.read, formats.write},
	optFit:    {"fit", "contain, cover, fill, inside or outside", fits.read, fits.write},
	optFlip:   {"flip", "h, v or hv; flop=1 is h", flips.read, flips.write},
	optGravity: {"gravity", "center, north, northeast, east, southeast, south, southwest, west, northwest, smart, " +
		"or a focal point X,Y of numbers from 0 to 1, such as 0.5,0.25", readGravity, writeGravity},
	optGray:        {"gray", "1", ones.read, ones.write},
	optHeight:      {"h", "a whole number of pixels from 1 to 8192", integer{1, MaxSide}.read, writeInteger},
	optInfo:        {"info", "1", ones.read, ones.write},
	optPlaceholder: {"lqip", "blurhash or image", lqips.read, lqips.write},
	optQuality:     {"q", "a whole number from 1 to 100", integer{1, 100}.read, writeInteger},
	optRotate:      {"r", "0, 90, 180 or 270", turns.read, turns.write},
	optSharpen:     {"sharpen", "a number from 0.1 to 10", hundredths(10, 1000).read, hundredths(10, 1000).write},
	optStrip:       {"strip", "all or copyright", strips.read, strips.write},
	optWidth:       {"w", "a whole number of pixels from 1 to 8192", integer{1, MaxSide}.read, writeInteger},
	optMark: {"wm", "the path of an object, without a comma, and after commas a gravity or tile, " +
		"o1 to o100 and s1 to s100, such as logo.png,southeast,o50,s20", readMark, writeMark},
}

// spelling is a name of an option in a query.
type spelling struct {
	option option
	on     uint64 // not 0: the packed value that 1 and true stand for
	only   bool   // 1 and true are the only values
}

// names has every name that a query may use. UnknownNames lists all others.
var names = map[string]spelling{
	"anim": {option: optAnim},
	"bg":   {option: optBackground}, "bgc": {option: optBackground},
	"blur": {option: optBlur},
	"crop": {option: optCrop},
	"dpr":  {option: optDPR},
	"f":    {option: optFormat}, "fmt": {option: optFormat},
	"fit":  {option: optFit},
	"flip": {option: optFlip, on: flipVertical}, "flop": {option: optFlip, on: flipHorizontal, only: true},
	"gravity": {option: optGravity},
	"gray":    {option: optGray, on: 1}, "grey": {option: optGray, on: 1},
	"h": {option: optHeight}, "height": {option: optHeight}, "hei": {option: optHeight},
	"info": {option: optInfo},
	"lqip": {option: optPlaceholder, on: placeholderImage},
	"q":    {option: optQuality}, "quality": {option: optQuality},
	"r":       {option: optRotate},
	"sharpen": {option: optSharpen, on: 100}, "sharp": {option: optSharpen, on: 100},
	"strip": {option: optStrip},
	"w":     {option: optWidth}, "width": {option: optWidth}, "wid": {option: optWidth},
	"wm": {option: optMark},
	"t":  {option: optTemplate}, "template": {option: optTemplate},
	"exp": {option: optSignature}, "kid": {option: optSignature}, "sig": {option: optSignature},
}

// nameOf returns the first name of an option.
func nameOf(i option) string {
	if i == optTemplate {
		return "t"
	}
	return table[i].name
}

func badValue(i option) *OptionError {
	if i == optTemplate {
		return &OptionError{"t", "t is the name of a template: 1 to 63 of a-z, 0-9 and hyphen, and no hyphen at an end"}
	}
	return &OptionError{table[i].name, table[i].name + " is " + table[i].form}
}

func twice(i option) *OptionError {
	var all []string
	for name, s := range names {
		if s.option == i && name != nameOf(i) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	detail := nameOf(i) + " is given twice"
	if len(all) > 0 {
		detail += "; it is the same option as " + strings.Join(all, " and ")
	}
	return &OptionError{nameOf(i), detail}
}
