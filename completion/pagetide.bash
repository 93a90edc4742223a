# SPDX-License-Identifier: MIT
# bash completion for pagetide; needs bash-completion only for programs after `run`.

_pagetide()
{
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]} i

	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		COMPREPLY=($(compgen -W 'run attach daemon status pause resume tune check topo pages migrate stats help version --help --version' -- "$word"))
		return
	fi
	case $verb in
	run)
		# The first word that is no option is the program: from there on it is its own business.
		for ((i = 2; i < COMP_CWORD; i++)); do
			case ${COMP_WORDS[i]} in
			--tier | --memory | --overhead | --stats | --record)
				((i++))
				;;
			--)
				_pagetide_program $((i + 1))
				return
				;;
			-*) ;;
			=*) ((i++)) ;;
			*)
				_pagetide_program "$i"
				return
				;;
			esac
		done
		case $before in
		--tier) COMPREPLY=($(compgen -W 'dram: lz4 lz4: lz4,verify node:0,size= node:1' -- "$word")) ;;
		--memory | --overhead) ;;
		--stats | --record) COMPREPLY=($(compgen -f -- "$word")) ;;
		*)
			if [[ $word == -* ]]; then
				COMPREPLY=($(compgen -W '--tier --memory --overhead --hard --stats --record
					--live --summary --quiet --dry-run --help' -- "$word"))
			else
				COMPREPLY=($(compgen -c -- "$word"))
			fi
			;;
		esac
		;;
	attach)
		case $before in
		-p | --pid) COMPREPLY=($(compgen -W "$(cd /proc && echo [0-9]*)" -- "$word")) ;;
		--fast | --slow) COMPREPLY=($(compgen -W "$(_pagetide_nodes)" -- "$word")) ;;
		--cgroup) COMPREPLY=($(compgen -d -- "${word:-/sys/fs/cgroup/}")) ;;
		--exe | --for | --metrics-listen) ;;
		--sensor) COMPREPLY=($(compgen -W 'hint idle perf damon soft-dirty trace:' -- "$word")) ;;
		--tiers | --control | --metrics-file) COMPREPLY=($(compgen -f -- "$word")) ;;
		*) COMPREPLY=($(compgen -W '--pid --cgroup --exe --fast --slow --tiers --for --sensor --json
			--dry-run --quiet --control --metrics-file --metrics-listen --help' -- "$word")) ;;
		esac
		;;
	daemon)
		case $before in
		--metrics-listen) ;;
		--sensor) COMPREPLY=($(compgen -W 'hint idle perf damon soft-dirty trace:' -- "$word")) ;;
		-c | --config | --control | --metrics-file) COMPREPLY=($(compgen -f -- "$word")) ;;
		*) COMPREPLY=($(compgen -W '--config --print-config --sensor --dry-run --json --quiet --control
			--metrics-file --metrics-listen --help' -- "$word")) ;;
		esac
		;;
	status | pause | resume | tune)
		if [ "$before" = --control ]; then
			COMPREPLY=($(compgen -f -- "$word"))
		elif [ "$verb" = tune ] && [[ $word != -* ]]; then
			compopt -o nospace 2>/dev/null
			COMPREPLY=($(compgen -W 'rate= stall= cpu= weight= fast_min= fast_max=' -- "$word"))
		else
			COMPREPLY=($(compgen -W '--control --json --help' -- "$word"))
		fi
		;;
	check) COMPREPLY=($(compgen -W '--json --help' -- "$word")) ;;
	topo) COMPREPLY=($(compgen -W '--json --measure --help' -- "$word")) ;;
	pages | migrate)
		local options='--pid --for --control --json --help'
		[ "$verb" = migrate ] && options='--pid --from --to --dry-run --json --help'
		case $before in
		-p | --pid) COMPREPLY=($(compgen -W "$(cd /proc && echo [0-9]*)" -- "$word")) ;;
		--for) ;;
		--control) COMPREPLY=($(compgen -f -- "$word")) ;;
		--from | --to)
			COMPREPLY=($(compgen -W "all $(_pagetide_nodes)" -- "$word"))
			;;
		*) COMPREPLY=($(compgen -W "$options" -- "$word")) ;;
		esac
		;;
	stats)
		if [[ $word == -* ]]; then
			COMPREPLY=($(compgen -W '--json --help' -- "$word"))
		else
			COMPREPLY=($(compgen -W "$(pgrep -x pagetide 2>/dev/null)" -- "$word"))
		fi
		;;
	help) COMPREPLY=($(compgen -W 'run attach daemon status pause resume tune check topo pages migrate stats help version' -- "$word")) ;;
	esac
}

# The nodes of this machine.
_pagetide_nodes()
{
	local node
	for node in /sys/devices/system/node/node[0-9]*; do
		echo "${node##*node}"
	done
}

# Complete a program and its words, the first of them at index $1.
_pagetide_program()
{
	if [ "$COMP_CWORD" -gt "$1" ] && declare -F _command_offset >/dev/null; then
		_command_offset "$1"
	elif [ "$COMP_CWORD" -eq "$1" ]; then
		COMPREPLY=($(compgen -c -- "${COMP_WORDS[COMP_CWORD]}"))
	else
		COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
	fi
}

complete -F _pagetide pagetide
