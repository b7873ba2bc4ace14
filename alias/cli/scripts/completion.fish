# fish completion for ixmage. In ~/.config/fish/config.fish: ixmage completion fish | source
function __ixmage_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($before[1] complete -- $before[2..-1] "$current" 2>/dev/null)
    if test $status -eq 10
        __fish_complete_path (string replace -r '^--[^=]*=' '' -- "$current")
        return
    end
    printf '%s\n' $lines
end
complete -c ixmage -f -a '(__ixmage_complete)'
