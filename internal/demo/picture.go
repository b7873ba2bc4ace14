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

// object is a picture for the bucket: a sample or a file of the user.
type object struct {
	name        string // with slashes
	contentType string
	body        []byte // of a sample
	file        string // path of the user's file; empty for a sample
}

func (o object) read() ([]byte, error) {
	if o.file == "" {
		return o.body, nil
	}
	return os.ReadFile(o.file)
}

// choosePictures returns the samples, or the pictures in the folder that the
// user names.
func choosePictures(cfg config) ([]object, error) {
	if cfg.images == "" {
		return samples(), nil
	}
	// WalkDir does not follow a link, not even at the root.
	root, err := filepath.EvalSymlinks(cfg.images)
	if err != nil {
		return nil, fmt.Errorf("open IMAGES: %w", err)
	}
	var all []object
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
			fmt.Fprintf(cfg.messages, "Skipped %s: %v\n", path, err)
			return nil
		}
		all = append(all, p)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("walk through IMAGES: %w", err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no pictures in %s (IMAGES)", cfg.images)
	}
	return all, nil
}

func samples() []object {
	made := picture.Samples()
	all := make([]object, len(made))
	for i, p := range made {
		all[i] = object{name: p.Name, contentType: p.ContentType, body: p.Body}
	}
	return all
}

// skipIf makes WalkDir skip a hidden folder.
func skipIf(hidden bool) error {
	if hidden {
		return fs.SkipDir
	}
	return nil
}

// fromFile names a file as an object and finds its type.
func fromFile(root, path string) (object, error) {
	name, err := filepath.Rel(root, path)
	if err != nil {
		return object{}, err
	}
	name = filepath.ToSlash(name)
	bad := func(r rune) bool { return unicode.IsControl(r) || r == '\\' }
	if !utf8.ValidString(name) || strings.ContainsFunc(name, bad) {
		return object{}, errors.New("its name has characters that ixmage refuses in a URL")
	}
	info, err := os.Stat(path)
	if err != nil {
		return object{}, err
	}
	if !info.Mode().IsRegular() {
		return object{}, errors.New("not a regular file")
	}
	contentType, err := typeOf(path)
	return object{name: name, contentType: contentType, file: path}, err
}

// byExtension has the types that ixmage serves.
var byExtension = map[string]string{
	".apng": "image/apng", ".avif": "image/avif", ".bmp": "image/bmp", ".gif": "image/gif",
	".heic": "image/heic", ".heif": "image/heif", ".ico": "image/x-icon", ".jfif": "image/jpeg",
	".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".jxl": "image/jxl", ".png": "image/png",
	".svg": "image/svg+xml", ".tif": "image/tiff", ".tiff": "image/tiff", ".webp": "image/webp",
}

// typeOf finds the type by the extension or, if that is unknown, by the content.
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
	return "", fmt.Errorf("%s is not a picture", found)
}
