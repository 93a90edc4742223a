/* SPDX-License-Identifier: MIT */
#include "pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proc.h"
#include "uapi.h"

#define PAGE 4096u
#define HUGE (2u << 20)
#define ENTRY_PRESENT (UINT64_C(1) << 63)
#define ENTRY_SOFT_DIRTY (UINT64_C(1) << 55)
#define ENTRY_PFN ((UINT64_C(1) << 55) - 1)
/* Of /proc/kpageflags. */
#define FLAG_DIRTY (1u << 4)
#define FLAG_WRITEBACK (1u << 8)

struct walk {
	int fd;
	void (*visit)(void *arg, const struct pagemap_page *page);
	void *arg;
	int error;
};

int pagemap_open(int dir, int *ret_fd)
{
	int fd = openat(dir, "pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	*ret_fd = fd;
	return 0;
}

bool pagemap_there(int fd)
{
	uint64_t entry;

	return pread(fd, &entry, sizeof entry, 0) > 0;
}

/* The first run of pages that are all of the categories, at most `max_pages` long. */
static int run_find(int fd, uint64_t start, uint64_t end, uint64_t categories, uint64_t max_pages,
		    struct page_region *ret_run)
{
	struct pm_scan_arg scan = {
		.size = sizeof scan,
		.start = start,
		.end = end,
		.vec = (uint64_t)(uintptr_t)ret_run,
		.vec_len = 1,
		.max_pages = max_pages,
		.category_mask = categories,
		.return_mask = PAGE_IS_PRESENT,
	};
	int n = ioctl(fd, PAGEMAP_SCAN, &scan);

	return n < 0 ? -errno : n ? 0 : -ENOENT;
}

int pagemap_first(int fd, uint64_t start, uint64_t end, uint64_t *ret_address)
{
	struct page_region found;
	int error = run_find(fd, start, end, PAGE_IS_PRESENT, 1, &found);

	if (!error)
		*ret_address = found.start;
	return error;
}

bool pagemap_huge(int fd, uint64_t address)
{
	struct page_region found;

	return !run_find(fd, address, address + HUGE, PAGE_IS_PRESENT | PAGE_IS_HUGE, HUGE / PAGE, &found) &&
	       found.start == address && found.end == address + HUGE;
}

int pagemap_own(int fd, uint64_t address)
{
	struct page_region found;
	struct pm_scan_arg scan = {
		.size = sizeof scan,
		.start = address,
		.end = address + PAGE,
		.vec = (uint64_t)(uintptr_t)&found,
		.vec_len = 1,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PFNZERO,
	};

	int n = ioctl(fd, PAGEMAP_SCAN, &scan);

	return n < 0 ? -errno : n && !(found.categories & PAGE_IS_PFNZERO);
}

bool pagemap_dirty(int fd, uint64_t address)
{
	uint64_t entry, flags = 0;

	if (pread(fd, &entry, sizeof entry, (off_t)(address / PAGE * sizeof entry)) != sizeof entry ||
	    !(entry & ENTRY_PRESENT) || !(entry & ENTRY_PFN))
		return false;
	int file = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return false;
	if (pread(file, &flags, sizeof flags, (off_t)((entry & ENTRY_PFN) * sizeof flags)) != sizeof flags)
		flags = 0;
	close(file);
	return flags & (FLAG_DIRTY | FLAG_WRITEBACK);
}

static void entry_visit(struct walk *walk, uint64_t address, uint64_t entry, uint32_t bytes)
{
	if (!(entry & ENTRY_PRESENT))
		return;
	walk->visit(walk->arg, &(struct pagemap_page){
		.address = address,
		.pfn = entry & ENTRY_PFN,
		.bytes = bytes,
		.soft_dirty = entry & ENTRY_SOFT_DIRTY,
	});
}

/* The number of entries read; 0: none, or an error. */
static size_t entries_read(struct walk *walk, uint64_t address, uint64_t *entries, size_t nr)
{
	ssize_t n = pread(walk->fd, entries, nr * sizeof *entries,
			  (off_t)(address / PAGE * sizeof *entries));

	if (n < 0)
		walk->error = -errno;
	return n < 0 ? 0 : (size_t)n / sizeof *entries;
}

static void run_visit(void *arg, uint64_t start, uint64_t end, bool huge)
{
	struct walk *walk = arg;
	uint64_t entries[512];

	if (huge)
		start = (start + HUGE - 1) & ~(uint64_t)(HUGE - 1);
	while (start < end && !walk->error) {
		size_t nr = (size_t)((end - start) / PAGE);

		if (nr > 512)
			nr = 512;
		nr = entries_read(walk, start, entries, huge ? 1 : nr);
		for (size_t i = 0; i < nr; i++)
			entry_visit(walk, start + i * PAGE, entries[i], huge ? HUGE : PAGE);
		if (!nr)
			break; /* the address space ends here */
		start += huge ? HUGE : nr * PAGE;
	}
}

int pagemap_walk(int dir, uint64_t start, uint64_t end,
		 void (*visit)(void *arg, const struct pagemap_page *page), void *arg)
{
	struct walk walk = { .visit = visit, .arg = arg };
	int error = pagemap_open(dir, &walk.fd);

	if (error)
		return error;
	error = proc_present(dir, start, end, run_visit, &walk);
	/* An older kernel, or a recorded file: nothing tells where there are holes. */
	if (error == -ENOTTY) {
		run_visit(&walk, start, end, false);
		error = 0;
	}
	close(walk.fd);
	return error ? error : walk.error;
}

int pagemap_clear_soft_dirty(int dir)
{
	int fd = openat(dir, "clear_refs", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	int error = write(fd, "4", 1) == 1 ? 0 : -errno;
	close(fd);
	return error;
}
