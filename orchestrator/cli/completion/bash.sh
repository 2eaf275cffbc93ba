# Completion of `orchestrator` in bash:  eval "$(orchestrator completion bash)"
_orchestrator() {
    local line=${COMP_LINE:0:COMP_POINT} words=() breaks="" lead="" current
    local IFS=$' \t\n'
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    while [[ ${#words[@]} -gt 1 && ${words[0]} != "${COMP_WORDS[0]}" ]]; do words=("${words[@]:1}"); done
    current=${words[${#words[@]} - 1]}
    COMPREPLY=()
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(command "${words[0]}" _complete "${words[@]:1}" 2> /dev/null)
    if [[ ${COMPREPLY[0]-} == :folders || ${COMPREPLY[0]-} == :files ]]; then
        local kind=-d
        [[ ${COMPREPLY[0]} == :files ]] && kind=-f
        COMPREPLY=()
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen "$kind" -- "$current")
        compopt -o filenames 2> /dev/null
        return
    fi
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=./] ]]; then compopt -o nospace 2> /dev/null; fi
    # bash takes what stands behind = and : for a word of its own, and replaces that alone
    [[ $COMP_WORDBREAKS == *=* ]] && breaks+="="
    [[ $COMP_WORDBREAKS == *:* ]] && breaks+=":"
    [[ -n $breaks ]] && lead=${current%"${current##*[$breaks]}"}
    COMPREPLY=("${COMPREPLY[@]#"$lead"}")
}
complete -F _orchestrator orchestrator
