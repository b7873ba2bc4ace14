package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// completingWrapper stands for the program in a shell. The program waits a second for the names that the
// server has, which a busy machine may exceed; a person then presses the tab key again. The wrapper cannot
// tell a late answer from a right one without names, hence the latter costs 60 starts of the program.
const completingWrapper = `case $1 in
completion) exec "$real" "$@" ;;
complete)
	for _ in $(seq 60); do
		text=$("$real" "$@")
		code=$?
		[ $code = 0 ] && [ -z "$text" ] || break
	done
	[ -z "$text" ] || printf '%s\n' "$text"
	exit $code ;;
esac
echo "RAN:$*:"
`

// TestCompletionInShells presses the tab key in each shell that is there.
func TestCompletionInShells(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.open("blog", "media", "blog/", nil)
	bin := t.TempDir()
	writeProgram(t, filepath.Join(bin, "ixmage"), "#!/bin/sh\nreal="+plain+"\n"+completingWrapper)
	env := slices.Concat(e.client().Env, []string{"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH"), "PS1=> ", "HOME=" + bin, "ZDOTDIR=" + bin})
	for shell, row := range map[string]struct {
		args []string
		load string
	}{
		"bash": {[]string{"--norc", "--noprofile", "-i"}, "source <(ixmage completion bash)"},
		"zsh":  {[]string{"-f", "-i"}, "autoload -U compinit; compinit -u; source <(ixmage completion zsh)"},
	} {
		t.Run(shell, func(t *testing.T) {
			path := shellOrSkip(t, shell)
			dir := t.TempDir()
			writeFile(t, filepath.Join(dir, "pair.json"), "{}", 0o600)
			cmd := exec.Command(path, row.args...)
			cmd.Dir, cmd.Env = dir, env
			p := atTerminal(t, cmd, nil)
			p.enter(row.load + "; echo REA''DY")
			p.expect("READY")
			for typed, want := range map[string]string{
				"ixmage alias get sh\t":                          "alias get shop",
				"ixmage cred\tget shop":                          "credential get shop",
				"ixmage alias get bl\t-o j\t":                    "alias get blog -o json",
				"ixmage alias set shop --credential=sh\t":        "alias set shop --credential=shop",
				"ixmage alias add x --bucket b --key-file pai\t": "alias add x --bucket b --key-file pair.json",
				"ixmage alias get shop --admin-ur\thttp://x":     "alias get shop --admin-url=http://x",
			} {
				p.enter(typed)
				p.expect("RAN:" + want + ":")
			}
		})
	}
	t.Run("fish", func(t *testing.T) {
		path := shellOrSkip(t, "fish")
		cmd := exec.Command(path, "--no-config", "-c", `ixmage completion fish | source
			complete -C "ixmage alias get "; complete -C "ixmage alias get s"; complete -C "ixmage alias set shop --credential="`)
		cmd.Env = env
		got := runCommand(t, time.Minute, cmd)
		if want := "blog\nshop\n" + "shop\n" + "--credential=blog\n--credential=shop\n"; got.code != 0 || got.stdout != want {
			t.Errorf("%+v, want %q", got, want)
		}
	})
}

func shellOrSkip(t *testing.T, shell string) string {
	t.Helper()
	path, err := exec.LookPath(shell)
	if err != nil {
		t.Skip("SKIPPED: " + shell + " is not installed, so its completion is not tried")
	}
	return path
}
