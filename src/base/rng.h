/* SPDX-License-Identifier: MIT */
/*
 * Rng: a stream of numbers that looks random and follows from its seed alone (splitmix64: Steele, Lea and
 * Flood, "Fast splittable pseudorandom number generators", 2014). The state is the caller's 64 bits; any
 * value is a good seed. Pure; no security in it.
 */
#ifndef TIDE_RNG_H
#define TIDE_RNG_H

#include <stdint.h>

/* A number in which every bit of the result depends on every bit of x; one to one. */
static inline uint64_t rng_mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static inline uint64_t rng_next(uint64_t *state)
{
	return rng_mix(*state += UINT64_C(0x9e3779b97f4a7c15));
}

/* 0 <= result < bound; each alike but for one part in 2^32 / bound. */
static inline uint32_t rng_below(uint64_t *state, uint32_t bound)
{
	return (uint32_t)((rng_next(state) >> 32) * bound >> 32);
}

#endif
