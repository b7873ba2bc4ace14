#compdef ixmage
# zsh completion for ixmage. In ~/.zshrc, after compinit: source <(ixmage completion zsh)
_ixmage() {
  local text code line
  local -a values shown
  text=$("${(Q)words[1]}" complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)
  code=$?
  if (( code == 10 )); then
    compset -P '*='
    _files
    return
  fi
  (( code == 0 )) && [[ -n $text ]] || return 1
  for line in "${(@f)text}"; do
    values+=("${line%%$'\t'*}")
    shown+=("${line/$'\t'/  -- }")
  done
  if [[ ${#values} -eq 1 && $values[1] == *= ]]; then
    compadd -S '' -a values
  else
    compadd -l -d shown -a values
  fi
}
compdef _ixmage ixmage
