# Completion of `orchestrator` in zsh:  eval "$(orchestrator completion zsh)"
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_orchestrator() {
    local line
    local -a whole open
    for line in "${(@f)$(command ${words[1]} _complete "${(@)words[2,CURRENT]}" 2> /dev/null)}"; do
        case $line in
            '') ;;
            :folders) _files -/; return ;;
            :files) _files; return ;;
            *[=./]) open+=("$line") ;;
            *) whole+=("$line") ;;
        esac
    done
    compadd -S '' -- "${open[@]}"
    compadd -- "${whole[@]}"
}
compdef _orchestrator orchestrator
