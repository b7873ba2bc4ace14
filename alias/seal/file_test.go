package seal

import (
	"io/fs"
	"testing"
)

func TestExposed(t *testing.T) {
	t.Parallel()
	const root, other, self = 0, 1000, 65532
	for _, tc := range []struct {
		name        string
		perm        fs.FileMode
		owner, self int
		want        bool
	}{
		{"own", 0o600, self, self, false},
		{"own, read only", 0o400, self, self, false},
		{"own, group reads", 0o640, self, self, true},
		{"own, group writes", 0o620, self, self, true},
		{"own, others read", 0o604, self, self, true},
		{"of root, group reads", 0o440, root, self, false},
		{"of root, group reads, root writes", 0o640, root, self, false},
		{"of root, group writes", 0o460, root, self, true},
		{"of root, group runs", 0o450, root, self, true},
		{"of root, others read", 0o444, root, self, true},
		{"of root, who runs the server", 0o440, root, root, true},
		{"of another user, group reads", 0o440, other, self, true},
		{"no owner known, group reads", 0o440, -1, self, true},
	} {
		if got := exposed(tc.perm, tc.owner, tc.self); got != tc.want {
			t.Errorf("%s: exposed(%04o, %d, %d) = %t", tc.name, tc.perm, tc.owner, tc.self, got)
		}
	}
}
