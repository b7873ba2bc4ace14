//go:build linux || darwin

package disk

import "golang.org/x/sys/unix"

func volume(name string) (Volume, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return Volume{}, err
	}
	block := int64(st.Bsize) //nolint:unconvert // of another type on darwin
	return Volume{
		Total: int64(st.Blocks-st.Bfree+st.Bavail) * block,
		Free:  int64(st.Bavail) * block,
		Block: block,
	}, nil
}
