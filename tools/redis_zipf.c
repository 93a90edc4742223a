/* SPDX-License-Identifier: MIT */
/*
 * A small Redis client: loads data, then reads it with Zipf-distributed keys and checks all of it.
 *
 *	redis_zipf SOCKET load NR_KEYS
 *	redis_zipf SOCKET check NR_KEYS
 *	redis_zipf SOCKET read NR_KEYS SECONDS SEED
 *
 * A value follows from its key alone, so every reply is compared in full without keeping anything.
 * Values are 256 to 4096 bytes of text records with the same field names and different contents,
 * which lz4 packs about 3 : 1. Which key is the most popular one is scattered over the key space,
 * as it is in life: popularity must not follow the order of loading.
 *
 * Keys are drawn with exponent 0.99 by rejection-inversion (Hörmann, Derflinger: "Rejection-
 * inversion to generate variates from monotone discrete distributions", 1996).
 *
 * Requests go out in a window of WINDOW at a time. One line of JSON goes to standard output.
 * Status 0; 1 when a value is wrong or the server fails; 2 for a wrong command line.
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

#define WINDOW 32u
#define EXPONENT 0.99
#define VALUE_MIN_BYTES 256u
#define VALUE_MAX_BYTES 4096u
#define BUFFER_BYTES (1u << 20)

static void die(const char *what)
{
	fprintf(stderr, "redis_zipf: %s%s%s\n", what, errno ? ": " : "",
		errno ? strerror(errno) : "");
	exit(1);
}

static uint64_t random_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static double random_unit(uint64_t *state)
{
	*state += 1;
	return (double)(random_mix(*state) >> 11) * 0x1p-53;
}

/* ---- keys and values ------------------------------------------------------------------------- */

struct zipf {
	uint64_t nr_keys, state;
	double low, high, accept; /* bounds of the draw; a distance that always accepts */
};

/* The integral of x^-EXPONENT from 1, and its inverse. */
static double zipf_integral(double x)
{
	return (pow(x, 1 - EXPONENT) - 1) / (1 - EXPONENT);
}

static double zipf_inverse(double y)
{
	return pow(1 + y * (1 - EXPONENT), 1 / (1 - EXPONENT));
}

static void zipf_open(struct zipf *zipf, uint64_t nr_keys, uint64_t seed)
{
	zipf->nr_keys = nr_keys;
	zipf->state = random_mix(seed);
	zipf->low = zipf_integral(1.5) - 1;
	zipf->high = zipf_integral((double)nr_keys + 0.5);
	zipf->accept = 2 - zipf_inverse(zipf_integral(2.5) - pow(2, -EXPONENT));
}

/* A rank from 1, the most popular, to nr_keys. */
static uint64_t zipf_rank(struct zipf *zipf)
{
	for (;;) {
		double y = zipf->high + random_unit(&zipf->state) * (zipf->low - zipf->high);
		double x = zipf_inverse(y), rank = floor(x + 0.5);

		if (rank < 1)
			rank = 1;
		if (rank > (double)zipf->nr_keys)
			rank = (double)zipf->nr_keys;
		if (rank - x <= zipf->accept ||
		    y >= zipf_integral(rank + 0.5) - pow(rank, -EXPONENT))
			return (uint64_t)rank;
	}
}

/* Scatter ranks over keys; two ranks may share a key, which does no harm. */
static uint64_t zipf_key(struct zipf *zipf)
{
	return random_mix(zipf_rank(zipf) * 0x5851f42d4c957f2du) % zipf->nr_keys;
}

static uint32_t value_length(uint64_t key)
{
	uint64_t spread = VALUE_MAX_BYTES - VALUE_MIN_BYTES + 1;

	return VALUE_MIN_BYTES + (uint32_t)(random_mix(key ^ 0x6c656e) % spread);
}

/* Records of 64 bytes; 12 letters and digits of each are its own. */
static uint32_t value_make(uint64_t key, char value[VALUE_MAX_BYTES + 64])
{
	static const char record[64 + 1] =
		"{\"user\":\"########\",\"visits\":####,\"plan\":\"basic\",\"country\":\"DE\"},";
	static const char digits[] = "0123456789abcdef";
	uint32_t length = value_length(key);

	for (uint32_t at = 0; at < length; at += 64) {
		uint64_t bits = random_mix(key * 64 + at / 64 + 1);
		char *to = value + at;

		memcpy(to, record, 64);
		for (unsigned int i = 0; i < 8; i++, bits >>= 4)
			to[9 + i] = digits[bits & 15];
		for (unsigned int i = 0; i < 4; i++, bits >>= 4)
			to[28 + i] = digits[bits % 10];
	}
	return length;
}

/* ---- the connection -------------------------------------------------------------------------- */

struct link {
	int fd;
	size_t nr_out, from, to; /* bytes to send; what was received and not yet used */
	char out[BUFFER_BYTES], in[BUFFER_BYTES];
};

static void link_open(struct link *link, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		die(path);
	}
	strcpy(address.sun_path, path);
	link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (link->fd < 0 || connect(link->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die(path);
}

static void link_flush(struct link *link)
{
	for (size_t at = 0; at < link->nr_out;) {
		ssize_t done = send(link->fd, link->out + at, link->nr_out - at, MSG_NOSIGNAL);

		if (done < 0)
			die("sending");
		at += (size_t)done;
	}
	link->nr_out = 0;
}

/* Make `length` bytes available at in + from. */
static void link_need(struct link *link, size_t length)
{
	while (link->to - link->from < length) {
		ssize_t done;

		if (link->from + length > BUFFER_BYTES) {
			memmove(link->in, link->in + link->from, link->to - link->from);
			link->to -= link->from;
			link->from = 0;
		}
		done = recv(link->fd, link->in + link->to, BUFFER_BYTES - link->to, 0);
		if (done <= 0) {
			errno = done ? errno : 0;
			die("the server closed the connection");
		}
		link->to += (size_t)done;
	}
}

/* The next line without its end, as a string that stays until the next call. */
static const char *link_line(struct link *link)
{
	for (size_t length = 1;; length++) {
		char *line;

		link_need(link, length);
		line = link->in + link->from;
		if (line[length - 1] == '\n') {
			line[length - 1] = '\0';
			line[strcspn(line, "\r")] = '\0';
			link->from += length;
			return line;
		}
	}
}

static void link_set(struct link *link, uint64_t key)
{
	char value[VALUE_MAX_BYTES + 64];
	uint32_t length = value_make(key, value);

	link->nr_out += (size_t)sprintf(link->out + link->nr_out,
					"*3\r\n$3\r\nSET\r\n$14\r\nkey:%010llu\r\n$%u\r\n",
					(unsigned long long)key, length);
	memcpy(link->out + link->nr_out, value, length);
	memcpy(link->out + link->nr_out + length, "\r\n", 2);
	link->nr_out += length + 2;
}

static void link_get(struct link *link, uint64_t key)
{
	link->nr_out += (size_t)sprintf(link->out + link->nr_out,
					"*2\r\n$3\r\nGET\r\n$14\r\nkey:%010llu\r\n",
					(unsigned long long)key);
}

static void reply_check_ok(struct link *link)
{
	const char *line = link_line(link);

	if (strcmp(line, "+OK") != 0) {
		errno = 0;
		die(line);
	}
}

static void reply_check_value(struct link *link, uint64_t key)
{
	char value[VALUE_MAX_BYTES + 64];
	uint32_t length = value_make(key, value);
	const char *line = link_line(link);

	if (line[0] != '$' || strtoul(line + 1, NULL, 10) != length) {
		fprintf(stderr, "redis_zipf: key %llu: expected %u bytes, got %s\n",
			(unsigned long long)key, length, line);
		exit(1);
	}
	link_need(link, length + 2);
	for (uint32_t at = 0; memcmp(link->in + link->from, value, length) != 0; at++) {
		if (link->in[link->from + at] != value[at]) {
			fprintf(stderr, "redis_zipf: key %llu: WRONG VALUE at byte %u of %u\n",
				(unsigned long long)key, at, length);
			exit(1);
		}
	}
	link->from += length + 2;
}

/* ---- the jobs -------------------------------------------------------------------------------- */

static void job_load(struct link *link, uint64_t nr_keys)
{
	uint64_t started = clock_now_ns(), nr_bytes = 0;

	for (uint64_t key = 0; key < nr_keys;) {
		uint64_t end = nr_keys - key < WINDOW ? nr_keys : key + WINDOW;

		for (uint64_t i = key; i < end; i++) {
			link_set(link, i);
			nr_bytes += value_length(i);
		}
		link_flush(link);
		for (; key < end; key++)
			reply_check_ok(link);
	}
	printf("{\"keys\": %llu, \"value_bytes\": %llu, \"seconds\": %.3f}\n",
	       (unsigned long long)nr_keys, (unsigned long long)nr_bytes,
	       (double)(clock_now_ns() - started) / 1e9);
}

/* Every key once, in order. */
static void job_check(struct link *link, uint64_t nr_keys)
{
	for (uint64_t key = 0; key < nr_keys;) {
		uint64_t end = nr_keys - key < WINDOW ? nr_keys : key + WINDOW;

		for (uint64_t i = key; i < end; i++)
			link_get(link, i);
		link_flush(link);
		for (; key < end; key++)
			reply_check_value(link, key);
	}
	printf("{\"keys\": %llu}\n", (unsigned long long)nr_keys);
}

static void job_read(struct link *link, uint64_t nr_keys, double seconds, uint64_t seed)
{
	uint64_t started = clock_now_ns(), end = started + (uint64_t)(seconds * 1e9);
	uint64_t keys[WINDOW], nr_done = 0;
	struct zipf zipf;

	zipf_open(&zipf, nr_keys, seed);
	for (unsigned int i = 0; i < WINDOW; i++) {
		keys[i] = zipf_key(&zipf);
		link_get(link, keys[i]);
	}
	link_flush(link);
	/* The window slides: half of it is on its way while the other half is checked. */
	while (clock_now_ns() < end) {
		for (unsigned int half = 0; half < WINDOW; half += WINDOW / 2) {
			for (unsigned int i = half; i < half + WINDOW / 2; i++) {
				reply_check_value(link, keys[i]);
				keys[i] = zipf_key(&zipf);
				link_get(link, keys[i]);
			}
			link_flush(link);
			nr_done += WINDOW / 2;
		}
	}
	seconds = (double)(clock_now_ns() - started) / 1e9;
	for (unsigned int i = 0; i < WINDOW; i++)
		reply_check_value(link, keys[i]);
	printf("{\"operations\": %llu, \"seconds\": %.3f, \"operations_per_s\": %.0f}\n",
	       (unsigned long long)nr_done, seconds, (double)nr_done / seconds);
}

int main(int argc, char **argv)
{
	static struct link link;
	uint64_t nr_keys = argc >= 4 ? strtoull(argv[3], NULL, 10) : 0;
	bool load = argc == 4 && strcmp(argv[2], "load") == 0;
	bool check = argc == 4 && strcmp(argv[2], "check") == 0;
	bool read = argc == 6 && strcmp(argv[2], "read") == 0;

	if (nr_keys == 0 || nr_keys > 9999999999u || !(load || check || read)) {
		fputs("usage: redis_zipf SOCKET load NR_KEYS\n"
		      "       redis_zipf SOCKET check NR_KEYS\n"
		      "       redis_zipf SOCKET read NR_KEYS SECONDS SEED\n", stderr);
		return 2;
	}
	link_open(&link, argv[1]);
	if (load)
		job_load(&link, nr_keys);
	else if (check)
		job_check(&link, nr_keys);
	else
		job_read(&link, nr_keys, strtod(argv[4], NULL), strtoull(argv[5], NULL, 10));
	close(link.fd);
	return 0;
}
