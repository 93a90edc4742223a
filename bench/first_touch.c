/* SPDX-License-Identifier: MIT */
/*
 * What the first touch of memory costs, seen from the program.
 *
 *   first_touch MIB BALLAST_MIB huge|small
 *
 * Under `pagetide run` memory is only managed once it is tight. So ballast is written first, enough to
 * make it tight, and given back when the memory to be touched is registered; then there is room. Without
 * ballast (0) memory becomes tight while it is touched. One word is written to each page, in the order of
 * addresses, and compared afterwards in another pass. One JSON line tells the time of both passes, the
 * program's own processor time and how much of the memory is in huge pages.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define MIB ((size_t)1 << 20)
#define PAGE_BYTES 4096u
#define REGISTERED_TRIES 50u /* of 10 ms */

/* What smaps says of the mapping at `base`: kilobytes in huge pages, and whether some userfaultfd has it. */
static uint64_t mapping_look(const void *base, int *ret_registered)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	char line[512];
	uint64_t huge_kib = 0;
	int inside = 0;

	if (!file)
		die("smaps");
	*ret_registered = 0;
	while (fgets(line, sizeof line, file)) {
		uintptr_t start, end;
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = (uintptr_t)base >= start && (uintptr_t)base < end;
		else if (inside && !strncmp(line, "AnonHugePages:", 14))
			huge_kib = strtoull(line + 14, NULL, 10);
		else if (inside && !strncmp(line, "VmFlags:", 8))
			*ret_registered = strstr(line, " um") != NULL;
	}
	fclose(file);
	return huge_kib;
}

/* A mapping of whole blocks with guards, so that no other merges with it. */
static uint64_t *region(size_t bytes, int advice)
{
	char *p = mmap(NULL, bytes + 4 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	p = (char *)(((uintptr_t)p + 2 * MIB) & ~(uintptr_t)(2 * MIB - 1));
	if (mprotect(p, bytes, PROT_READ | PROT_WRITE) || madvise(p, bytes, advice))
		die("mprotect");
	return (uint64_t *)(void *)p;
}

static void words_write(uint64_t *memory, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += PAGE_BYTES)
		memory[at / 8] = at * 0x9e3779b97f4a7c15u + 1;
}

static void words_check(const uint64_t *memory, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += PAGE_BYTES)
		if (memory[at / 8] != at * 0x9e3779b97f4a7c15u + 1 || memory[at / 8 + 1]) {
			fprintf(stderr, "first_touch: a wrong word at %zu\n", at);
			exit(1);
		}
}

int main(int argc, char **argv)
{
	int registered = 0;

	if (argc != 4) {
		fprintf(stderr, "usage: first_touch MIB BALLAST_MIB huge|small\n");
		return 2;
	}
	size_t bytes = strtoul(argv[1], NULL, 10) * MIB, ballast_bytes = strtoul(argv[2], NULL, 10) * MIB;
	int advice = strcmp(argv[3], "huge") ? MADV_NOHUGEPAGE : MADV_HUGEPAGE;
	uint64_t *memory = region(bytes, advice);

	if (ballast_bytes) {
		uint64_t *ballast = region(ballast_bytes, MADV_HUGEPAGE);
		words_write(ballast, ballast_bytes);
		for (unsigned i = 0; i < REGISTERED_TRIES && !registered; i++) {
			usleep(10000);
			mapping_look(memory, &registered);
		}
		munmap(ballast, ballast_bytes);
		usleep(100000);
	}
	uint64_t start_ns = clock_now_ns(), start_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	words_write(memory, bytes);
	uint64_t touch_ns = clock_now_ns() - start_ns, touch_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start_cpu_ns;
	uint64_t huge_kib = mapping_look(memory, &registered);
	start_ns = clock_now_ns();
	words_check(memory, bytes);
	uint64_t check_ns = clock_now_ns() - start_ns;
	printf("{\"mib\": %zu, \"registered\": %d, \"touch_ns\": %llu, \"touch_cpu_ns\": %llu, "
	       "\"check_ns\": %llu, \"huge_mib\": %llu}\n",
	       bytes / MIB, registered, (unsigned long long)touch_ns, (unsigned long long)touch_cpu_ns,
	       (unsigned long long)check_ns, (unsigned long long)huge_kib >> 10);
	return 0;
}
