/* SPDX-License-Identifier: MIT */
#include "select.h"

#include <errno.h>
#include <stdio.h>

#include "ask.h"
#include "clock.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define CHILDREN_MAX 256u

struct watch *select_find(struct attach *a, pid_t pid)
{
	if (a->last && a->last->pid == pid)
		return a->last;
	for (struct watch *w = a->watches; w; w = w->next)
		if (w->pid == pid)
			return a->last = w;
	return NULL;
}

static int process_add(struct attach *a, pid_t pid, bool child)
{
	struct watch *watch;
	int error = watch_open(pid, &a->shares, &a->map, clock_now_ns(), &watch);

	if (error)
		return error;
	error = watch_look(watch);
	if (!error)
		error = a->sense->ops->add(a->sense, pid);
	if (error) {
		watch_close(watch);
		return error;
	}
	process_set_stall(watch->process, a->stall_ns);
	watch->child = child;
	watch->next = a->watches;
	a->watches = watch;
	return 0;
}

int select_begin(struct attach *a, char ret_message[TIDE_MESSAGE_MAX])
{
	const struct tide_attach_options *o = a->options;

	for (size_t i = 0; i < o->nr_pids; i++) {
		int error = select_find(a, o->pids[i]) ? 0 : process_add(a, o->pids[i], false);

		if (error == -EMFILE) {
			MESSAGE("process %d: more threads than files may be open: raise ulimit -n",
				o->pids[i]);
			return error;
		}
		if (error)
			return ask_refuse(o->pids[i], error, ret_message);
	}
	return 0;
}

static void children_follow(struct attach *a, pid_t parent)
{
	pid_t pids[CHILDREN_MAX];
	size_t nr;

	if (process_children("", parent, pids, CHILDREN_MAX, &nr))
		return;
	for (size_t i = 0; i < nr && i < CHILDREN_MAX; i++)
		if (!select_find(a, pids[i]))
			process_add(a, pids[i], true); /* it may have ended: then it is no loss */
}

bool select_look(struct attach *a)
{
	bool any = false;

	for (struct watch *w = a->watches; w; w = w->next) {
		if (w->ended)
			continue;
		w->error = watch_look(w);
		if (w->ended)
			a->sense->ops->remove(a->sense, w->pid);
		any |= !w->ended;
	}
	for (size_t i = 0; i < a->options->nr_pids; i++)
		children_follow(a, a->options->pids[i]);
	return any;
}

void select_end(struct attach *a)
{
	shares_close(&a->shares);
	while (a->watches) {
		struct watch *watch = a->watches;
		a->watches = watch->next;
		watch_close(watch);
	}
}
