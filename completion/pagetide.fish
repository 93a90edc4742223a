# SPDX-License-Identifier: MIT

function __pagetide_verb --description 'the verb is the first argument'
	set -l words (commandline -opc)
	test (count $words) -gt 1; and test "$words[2]" = "$argv[1]"
end

complete -c pagetide -f
complete -c pagetide -n __fish_use_subcommand -a run -d 'run a program on tiered memory'
complete -c pagetide -n __fish_use_subcommand -a check -d 'find out what this machine can do'
complete -c pagetide -n __fish_use_subcommand -a stats -d 'show what a running one is doing'
complete -c pagetide -n __fish_use_subcommand -a help -d 'say what a verb can do'
complete -c pagetide -n __fish_use_subcommand -a version -d 'print the version'
complete -c pagetide -n __fish_use_subcommand -l help -d 'say what pagetide can do'

complete -c pagetide -n '__pagetide_verb run' -l tier -x -a 'dram: lz4 lz4: lz4,verify' -d 'a place for pages'
complete -c pagetide -n '__pagetide_verb run' -l memory -x -d 'bound for all together'
complete -c pagetide -n '__pagetide_verb run' -l overhead -x -d 'time for voluntary work'
complete -c pagetide -n '__pagetide_verb run' -l hard -d 'kill rather than pass the bound'
complete -c pagetide -n '__pagetide_verb run' -l stats -r -F -d 'write statistics there'
complete -c pagetide -n '__pagetide_verb run' -l live -d 'show one refreshed line'
complete -c pagetide -n '__pagetide_verb run' -l summary -d 'print the summary in any case'
complete -c pagetide -n '__pagetide_verb run' -l quiet -d 'no warnings'
complete -c pagetide -n '__pagetide_verb run' -l dry-run -d 'say what would be set up'
complete -c pagetide -n '__pagetide_verb run' -a '(__fish_complete_subcommand)'
complete -c pagetide -n '__pagetide_verb check' -l json -d 'print a JSON document'
complete -c pagetide -n '__pagetide_verb stats' -l json -d 'print a JSON document'
complete -c pagetide -n '__pagetide_verb stats' -a '(__fish_complete_pids)'
complete -c pagetide -n '__pagetide_verb help' -a 'run check stats help version'
