/* SPDX-License-Identifier: MIT */
/*
 * A virtual machine with a hot set: its guest touches some of its memory all the time and the rest never,
 * and the process itself touches none of it.
 *
 *     vm_kvm [MIB [huge|small [SLOW-NODE [FAST-NODE]]]]
 *
 * The guest is a few bytes of ours in flat 32-bit protected mode. In one lap it goes over a list of pages:
 * each begins with its own address, which it compares, and then has a counter, which it adds one to. The
 * hot set is every fourth block of 2 MiB. All memory starts on the slow node. SIGTERM ends it: then the
 * addresses and counters are compared, and every byte that the guest did not write.
 *
 * A processor that QEMU emulates does not always run its guests as it should: on a busy machine one of some
 * twenty ends as after an exception without a handler, or ends no lap. As that could come of a wrong byte, all
 * are compared then too, those of the code and the list as well. If they are right the status is NO_GUEST.
 *
 * Standard output has the lines of vm_hot (prog_hot.c), without those of speed.
 */
#include "vm.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	SEED = 11,
	HOT_SHARE = 4,    /* one block of so many */
	CODE_AT = 0x1000, /* addresses of the guest */
	LIST_AT = 0x2000,
	LOW_BYTES = 1 << 20,
	MEMORY_AT = 2 << 20,
	PORT_WRONG = 0x10,
	LAP_S_AT_MOST = 60, /* that it takes to end the last lap */
	NO_GUEST = 9,
};

static const unsigned char code[] = {
	0xad,             /*        lodsd                 the next page */
	0x39, 0x00,       /*        cmp   [eax], eax */
	0x75, 0x06,       /*        jne   wrong */
	0xff, 0x40, 0x04, /*        inc   dword [eax + 4] */
	0xe2, 0xf6,       /*        loop  the first line */
	0xf4,             /*        hlt                   a lap is done */
	0xe6, PORT_WRONG, /* wrong: out   PORT_WRONG, al */
};

/* What a page begins with while the guest has it. */
struct mark {
	uint32_t address, counter;
};

static volatile sig_atomic_t ended, late;
static struct arena arena;
static unsigned char *low;    /* code and list */
static struct mark *kept;     /* the bytes that the marks took the place of */
static uint32_t laps;
static size_t nr_pages, nr_hot;
static uint32_t *hot;         /* page numbers */
static int vcpu;
static struct kvm_run *run;
static unsigned int slow = 1, fast;

static void note_end(int number)
{
	ended = 1;
	if (number == SIGALRM) {
		late = 1;
		alarm(1); /* the first may come just before the lap goes on */
	}
}

/* ---- the machine ---- */

static void memory_give(int machine, uint32_t slot, uint64_t at, void *from, size_t bytes)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = at,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)from,
	};

	CHECK(ioctl(machine, KVM_SET_USER_MEMORY_REGION, &region) == 0);
}

/* All of memory, from 0 to 4 GiB. */
static struct kvm_segment segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX, .selector = selector, .type = type,
		.present = 1, .db = 1, .s = 1, .g = 1,
	};
}

static void machine_make(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), machine, bytes;
	struct kvm_sregs special;

	CHECK(kvm >= 0 && ioctl(kvm, KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
	machine = ioctl(kvm, KVM_CREATE_VM, 0);
	CHECK(machine >= 0);
	memory_give(machine, 0, 0, low, LOW_BYTES);
	memory_give(machine, 1, MEMORY_AT, arena.base, nr_pages * PAGE_BYTES);
	vcpu = ioctl(machine, KVM_CREATE_VCPU, 0);
	bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	CHECK(vcpu >= 0 && bytes > 0);
	run = mmap(NULL, (size_t)bytes, RW, MAP_SHARED, vcpu, 0);
	CHECK(run != MAP_FAILED && ioctl(vcpu, KVM_GET_SREGS, &special) == 0);
	special.cs = segment(8, 11);
	special.ds = special.es = special.ss = special.fs = special.gs = segment(16, 3);
	special.cr0 |= 1;
	CHECK(ioctl(vcpu, KVM_SET_SREGS, &special) == 0);
}

static void lap_begin(void)
{
	struct kvm_regs registers = { .rip = CODE_AT, .rsi = LIST_AT, .rcx = nr_hot, .rflags = 2 };

	CHECK(ioctl(vcpu, KVM_SET_REGS, &registers) == 0);
}

/* ---- its memory ---- */

static struct mark *mark_of(size_t page)
{
	return (struct mark *)(void *)arena_page(&arena, page);
}

static uint32_t address_of(size_t page)
{
	return (uint32_t)(MEMORY_AT + page * PAGE_BYTES);
}

static bool is_hot(size_t page)
{
	return page / BLOCK_PAGES % HOT_SHARE == 0;
}

static void hot_choose(void)
{
	uint32_t *list = (uint32_t *)(void *)(low + LIST_AT);

	for (size_t i = 0; i < nr_pages; i++) {
		if (!is_hot(i))
			continue;
		list[nr_hot] = address_of(i);
		hot[nr_hot++] = (uint32_t)i;
	}
}

static void memory_make(bool huge)
{
	unsigned char *memory = vm_memory(nr_pages * PAGE_BYTES);

	CHECK(madvise(memory, nr_pages * PAGE_BYTES, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0);
	low = vm_memory(LOW_BYTES);
	memcpy(low + CODE_AT, code, sizeof(code));
	kept = calloc(nr_pages, sizeof(*kept));
	hot = calloc(nr_pages, sizeof(*hot));
	CHECK(kept && hot && LIST_AT + nr_pages * sizeof(*hot) <= LOW_BYTES);
	vm_home(slow);
	arena = arena_at(memory, nr_pages, SEED);
	arena_fill(&arena, 0, nr_pages, 1);
	vm_home_default();
	for (size_t i = 0; i < nr_pages; i++) {
		kept[i] = *mark_of(i);
		*mark_of(i) = (struct mark){ address_of(i), 0 };
	}
	CHECK(vm_pages_on(memory, nr_pages, slow) == nr_pages);
}

/* All bytes are as they must be when the lap has touched so many pages. */
static void memory_check(size_t touched)
{
	const uint32_t *list = (const uint32_t *)(const void *)(low + LIST_AT);

	CHECK(memcmp(low + CODE_AT, code, sizeof(code)) == 0);
	for (size_t i = 0; i < nr_hot; i++)
		if (list[i] != address_of(hot[i]))
			live_fail("MISMATCH in the list: %x for page %u", list[i], hot[i]);
	for (size_t i = 0, at = 0; i < nr_pages; i++) {
		uint32_t wanted = is_hot(i) ? laps + (at++ < touched) : 0;
		struct mark *mark = mark_of(i);

		if (mark->address != address_of(i) || mark->counter != wanted)
			live_fail("MISMATCH page %zu: %x, %u after %u laps", i, mark->address, mark->counter, laps);
		*mark = kept[i];
	}
	arena_check(&arena, 0, nr_pages);
}

/* ---- its work ---- */

/* So many pages has the lap touched. */
static size_t lap_touched(void)
{
	size_t touched = 0;

	while (touched < nr_hot && mark_of(hot[touched])->counter == laps + 1)
		touched++;
	return touched;
}

static void guest_failed(void)
{
	size_t touched = lap_touched();

	memory_check(touched);
	fprintf(stderr, "no guest: it ended with %u in lap %u after %zu pages; every byte is right\n",
		late ? 0 : run->exit_reason, laps, touched);
	exit(NO_GUEST);
}

/* Until the lap is done, or a signal came: then it goes on the next time. */
static bool lap_go_on(void)
{
	if (ioctl(vcpu, KVM_RUN, 0) < 0) {
		CHECK(errno == EINTR || errno == EAGAIN);
		if (late)
			guest_failed();
		return false;
	}
	if (run->exit_reason == KVM_EXIT_IO)
		live_fail("MISMATCH in lap %u after %zu pages: it does not begin with its address", laps,
			  lap_touched());
	if (run->exit_reason != KVM_EXIT_HLT)
		guest_failed();
	return true;
}

/* ---- telling ---- */

static void report(const char *what, uint64_t start_ns)
{
	printf("{\"what\": \"%s\", \"pid\": %d, \"since_start_ns\": %llu, "
	       "\"bytes\": %zu, \"hot_bytes\": %zu, \"hot_fast_bytes\": %zu, \"hot_slow_bytes\": %zu, "
	       "\"huge_bytes\": %zu, \"laps\": %u}\n", what, (int)getpid(),
	       (unsigned long long)(vm_now_ns() - start_ns), nr_pages * PAGE_BYTES,
	       nr_hot * PAGE_BYTES, vm_listed_pages_on(arena.base, hot, nr_hot, fast) * PAGE_BYTES,
	       vm_listed_pages_on(arena.base, hot, nr_hot, slow) * PAGE_BYTES, vm_huge_bytes(arena.base),
	       laps);
	fflush(stdout);
}

static void work(void)
{
	uint64_t start_ns = vm_now_ns(), next_ns = start_ns;

	lap_begin();
	while (!ended) {
		if (vm_now_ns() >= next_ns) {
			report("report", start_ns);
			next_ns = vm_now_ns() + 1000000000;
		}
		if (!lap_go_on())
			continue;
		laps++;
		lap_begin();
	}
	/* Whole laps only are counted. */
	alarm(LAP_S_AT_MOST);
	while (!lap_go_on())
		;
	laps++;
	report("report", start_ns);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = note_end };

	nr_pages = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) * PAGES_PER_MIB;
	bool huge = argc > 2 && strcmp(argv[2], "huge") == 0;
	slow = argc > 3 ? (unsigned int)strtoul(argv[3], NULL, 10) : slow;
	fast = argc > 4 ? (unsigned int)strtoul(argv[4], NULL, 10) : fast;
	CHECK(sigaction(SIGTERM, &action, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
	memory_make(huge);
	hot_choose();
	machine_make();
	report("ready", vm_now_ns());
	work();
	alarm(0);
	memory_check(0);
	printf("{\"what\": \"end\", \"verified_bytes\": %zu}\n", nr_pages * PAGE_BYTES);
	return 0;
}
