# SPDX-License-Identifier: MIT
# bash completion for pagetide; needs bash-completion only for programs after `run`.

_pagetide()
{
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]} i

	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		COMPREPLY=($(compgen -W 'run check stats help version --help --version' -- "$word"))
		return
	fi
	case $verb in
	run)
		# The first word that is no option is the program: from there on it is its own business.
		for ((i = 2; i < COMP_CWORD; i++)); do
			case ${COMP_WORDS[i]} in
			--tier | --memory | --overhead | --stats)
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
		--tier) COMPREPLY=($(compgen -W 'dram: lz4 lz4: lz4,verify' -- "$word")) ;;
		--memory | --overhead) ;;
		--stats) COMPREPLY=($(compgen -f -- "$word")) ;;
		*)
			if [[ $word == -* ]]; then
				COMPREPLY=($(compgen -W '--tier --memory --overhead --hard --stats
					--live --summary --quiet --dry-run --help' -- "$word"))
			else
				COMPREPLY=($(compgen -c -- "$word"))
			fi
			;;
		esac
		;;
	check) COMPREPLY=($(compgen -W '--json --help' -- "$word")) ;;
	stats)
		if [[ $word == -* ]]; then
			COMPREPLY=($(compgen -W '--json --help' -- "$word"))
		else
			COMPREPLY=($(compgen -W "$(pgrep -x pagetide 2>/dev/null)" -- "$word"))
		fi
		;;
	help) COMPREPLY=($(compgen -W 'run check stats help version' -- "$word")) ;;
	esac
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
