/* SPDX-License-Identifier: MIT */
/*
 * Guest case: CPUs come and go while the hint sensor looks after a process.
 *
 * A child touches memory of node 1 all the time, and is bound to CPU 1: so what the kernel makes inaccessible in it
 * only the probe of CPU 1 can tell. That CPU is offline when the sensor begins, comes, then goes and is back at
 * once: each time the sensor must tell of ranges again. When it goes the kernel lets the child run elsewhere.
 */
#include "vm.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hint.h"

#define CPU 1
#define ONLINE "/sys/devices/system/cpu/cpu1/online"
#define NR_PAGES (16 * PAGES_PER_MIB)
#define PERIOD_NS UINT64_C(1000000000)
#define MOST_NS UINT64_C(60000000000)

struct hearing {
	pid_t pid;
	uint64_t since_ns;
	unsigned nr_armed; /* ranges of that process, made inaccessible since then */
};

static void touch_all_the_time(void)
{
	volatile unsigned char *memory = vm_memory(NR_PAGES * PAGE_BYTES);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	vm_home(1);
	for (size_t i = 0; i < NR_PAGES; i++)
		memory[i * PAGE_BYTES] = 1;
	vm_home_default();
	for (size_t i = 0;; i = (i + 1) % NR_PAGES)
		memory[i * PAGE_BYTES]++;
}

static void event_visit(void *arg, const struct sense_event *event)
{
	struct hearing *hearing = arg;

	hearing->nr_armed += event->kind == SENSE_ARMED && event->pid == hearing->pid &&
			     event->time_ns > hearing->since_ns;
}

/* From now on it runs on that CPU alone, and its ranges are told. */
static void hear(struct sense *sense, pid_t pid, const char *what)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	struct hearing hearing = { .pid = pid };
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(CPU, &cpus);
	CHECK(sched_setaffinity(pid, sizeof(cpus), &cpus) == 0);
	hearing.since_ns = vm_now_ns();
	while (!hearing.nr_armed) {
		if (vm_now_ns() - hearing.since_ns > MOST_NS)
			live_late("CPU %d %s: nothing of it is told", CPU, what);
		nanosleep(&pause, NULL);
		sense->ops->read(sense, event_visit, &hearing);
	}
	printf("CPU %d %s: told after %.1f s\n", CPU, what, (double)(vm_now_ns() - hearing.since_ns) / 1e9);
}

static void followed(void)
{
	const struct hint_options options = { .root = "" };
	struct sense *sense;
	const char *why = "";
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0)
		touch_all_the_time();
	CHECK(vm_write(ONLINE, "0"));
	if (hint_open(&options, &sense, &why))
		live_fail("%s", why);
	CHECK(sense->ops->add(sense, child) == 0);
	CHECK(sense->ops->pace(sense, PERIOD_NS) == 0);
	CHECK(vm_write(ONLINE, "1"));
	hear(sense, child, "came");
	CHECK(vm_write(ONLINE, "0") && vm_write(ONLINE, "1"));
	hear(sense, child, "came back");
	sense->ops->close(sense);
	kill(child, SIGKILL);
	CHECK(waitpid(child, NULL, 0) == child);
}

static const struct live_case cases[] = {
	{ "cpus-come-and-go", followed },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
