# bash completion for ixmage. In ~/.bashrc: source <(ixmage completion bash)
_ixmage() {
  local text code line
  COMPREPLY=()
  text=$("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  code=$?
  if [[ $code -eq 10 ]]; then
    compopt -o default
    return
  fi
  [[ $code -eq 0 && -n $text ]] || return
  while IFS=$'\t' read -r line _; do
    COMPREPLY+=("$line")
  done <<<"$text"
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
    compopt -o nospace
  fi
}
complete -F _ixmage ixmage
