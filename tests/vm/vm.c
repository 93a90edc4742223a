/* SPDX-License-Identifier: MIT */
/*
 * Nodes and counters for the programs of the guests. See vm.h.
 */
#include "vm.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void vm_home(unsigned int node)
{
	unsigned long mask = 1ul << node;

	CHECK(syscall(SYS_set_mempolicy, MPOL_BIND, &mask, sizeof(mask) * 8) == 0);
}

void vm_home_default(void)
{
	CHECK(syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0) == 0);
}

unsigned char *vm_memory(size_t bytes)
{
	size_t whole = bytes + BLOCK_BYTES;
	unsigned char *raw = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				  -1, 0);
	size_t before;

	CHECK(raw != MAP_FAILED);
	before = -(uintptr_t)raw % BLOCK_BYTES;
	/* What is left over would be counted as ours otherwise. */
	if (before)
		CHECK(munmap(raw, before) == 0);
	CHECK(munmap(raw + before + bytes, whole - before - bytes) == 0);
	return raw + before;
}

void vm_move_pages(const unsigned char *base, size_t nr, unsigned int node, size_t batch,
		   int *status_ret)
{
	const void **pages = calloc(batch, sizeof(*pages));
	int *nodes = calloc(batch, sizeof(*nodes));

	CHECK(pages && nodes);
	for (size_t i = 0; i < nr; i += batch) {
		size_t now = nr - i < batch ? nr - i : batch;

		for (size_t j = 0; j < now; j++) {
			pages[j] = base + (i + j) * PAGE_BYTES;
			nodes[j] = (int)node;
		}
		/* More than 0: so many could not be moved, which the statuses say one by one. */
		CHECK(syscall(SYS_move_pages, 0, now, pages, nodes, status_ret + i,
			      MPOL_MF_MOVE) >= 0);
	}
	free(nodes);
	free(pages);
}

/* pages NULL: the first nr. */
static size_t count_on(const unsigned char *base, const uint32_t *pages, size_t nr,
		       unsigned int node)
{
	enum { BATCH = 4096 };
	const void *addresses[BATCH];
	int status[BATCH];
	size_t nr_there = 0;

	for (size_t i = 0; i < nr; i += BATCH) {
		size_t now = nr - i < BATCH ? nr - i : BATCH;

		for (size_t j = 0; j < now; j++)
			addresses[j] = base + (pages ? pages[i + j] : i + j) * PAGE_BYTES;
		CHECK(syscall(SYS_move_pages, 0, now, addresses, NULL, status, 0) == 0);
		for (size_t j = 0; j < now; j++)
			nr_there += status[j] == (int)node;
	}
	return nr_there;
}

size_t vm_pages_on(const unsigned char *base, size_t nr, unsigned int node)
{
	return count_on(base, NULL, nr, node);
}

size_t vm_listed_pages_on(const unsigned char *base, const uint32_t *pages, size_t nr,
			  unsigned int node)
{
	return count_on(base, pages, nr, node);
}

uint64_t vm_counter(const char *name)
{
	FILE *file = fopen("/proc/vmstat", "re");
	char key[64];
	uint64_t value, found = 0;

	CHECK(file);
	while (fscanf(file, "%63s %" SCNu64, key, &value) == 2)
		if (strcmp(key, name) == 0)
			found = value;
	fclose(file);
	return found;
}

size_t vm_huge_bytes(const void *address)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	char line[512];
	uintptr_t from, to;
	size_t kib, found = 0;
	bool inside = false;

	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
			inside = from <= (uintptr_t)address && (uintptr_t)address < to;
		else if (inside && sscanf(line, "AnonHugePages: %zu kB", &kib) == 1)
			found = kib << 10;
	}
	fclose(file);
	return found;
}

uint64_t vm_now_ns(void)
{
	struct timespec now;

	CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool vm_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return done;
}
