# Completion of `orchestrator` in fish:  orchestrator completion fish | source
function __orchestrator_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found (command $words[1] _complete $words[2..-1] "$current" 2> /dev/null)
    if test "$found[1]" = :folders
        __fish_complete_directories "$current"
    else if test "$found[1]" = :files
        __fish_complete_path "$current"
    else
        printf '%s\n' $found
    end
end
complete -c orchestrator -f -a '(__orchestrator_complete)'
