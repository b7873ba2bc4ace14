package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gabriel-vasile/mimetype"

	"ixmage/internal/awstest/picture"
)

// picture is what goes into the bucket: a sample or a file of the user's.
type pic struct {
	name        string // with slashes
	contentType string
	body        []byte // of a sample
	file        string // else
}

func (p pic) read() ([]byte, error) {
	if p.file == "" {
		return p.body, nil
	}
	return os.ReadFile(p.file)
}

// choosePictures takes the samples, or the pictures in the folder that the
// user names.
func choosePictures(set settings) ([]pic, error) {
	if set.images == "" {
		return samples(), nil
	}
	// WalkDir does not follow a link, not even at the root.
	root, err := filepath.EvalSymlinks(set.images)
	if err != nil {
		return nil, fmt.Errorf("open IMAGES: %w", err)
	}
	var all []pic
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		hidden := strings.HasPrefix(entry.Name(), ".") && path != root
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return skipIf(hidden)
		case hidden:
			return nil
		}
		p, err := fromFile(root, path)
		if err != nil {
			fmt.Fprintf(set.messages, "Skipped %s: %v\n", path, err)
			return nil
		}
		all = append(all, p)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("walk through IMAGES: %w", err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no pictures in %s (IMAGES)", set.images)
	}
	return all, nil
}

func samples() []pic {
	made := picture.Samples()
	all := make([]pic, len(made))
	for i, p := range made {
		all[i] = pic{name: p.Name, contentType: p.ContentType, body: p.Body}
	}
	return all
}

// skipIf tells WalkDir whether to go into a folder.
func skipIf(hidden bool) error {
	if hidden {
		return fs.SkipDir
	}
	return nil
}

// fromFile names a file as an object and finds its type.
func fromFile(root, path string) (pic, error) {
	name, err := filepath.Rel(root, path)
	if err != nil {
		return pic{}, err
	}
	name = filepath.ToSlash(name)
	bad := func(r rune) bool { return unicode.IsControl(r) || r == '\\' }
	if !utf8.ValidString(name) || strings.ContainsFunc(name, bad) {
		return pic{}, errors.New("its name has characters that no URL of ixmage may have")
	}
	info, err := os.Stat(path)
	if err != nil {
		return pic{}, err
	}
	if !info.Mode().IsRegular() {
		return pic{}, errors.New("it is no regular file")
	}
	contentType, err := typeOf(path)
	return pic{name: name, contentType: contentType, file: path}, err
}

// byExtension are the types that ixmage serves.
var byExtension = map[string]string{
	".apng": "image/apng", ".avif": "image/avif", ".bmp": "image/bmp", ".gif": "image/gif",
	".heic": "image/heic", ".heif": "image/heif", ".ico": "image/x-icon", ".jfif": "image/jpeg",
	".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".jxl": "image/jxl", ".png": "image/png",
	".svg": "image/svg+xml", ".tif": "image/tiff", ".tiff": "image/tiff", ".webp": "image/webp",
}

// typeOf goes by the extension and, where that says nothing, by the content.
func typeOf(path string) (string, error) {
	if t, ok := byExtension[strings.ToLower(filepath.Ext(path))]; ok {
		return t, nil
	}
	found, err := mimetype.DetectFile(path)
	if err != nil {
		return "", err
	}
	for _, t := range byExtension {
		if found.Is(t) {
			return t, nil
		}
	}
	return "", fmt.Errorf("%s is no picture", found)
}
