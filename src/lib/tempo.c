/* SPDX-License-Identifier: MIT */
#include "tempo.h"

#include "number.h"

#define LOOK_NS UINT64_C(1000000000)
#define STIR_PAGES 256u     /* touched within a second: something is going on */
#define FAULT_COST_NS 2000u /* to the process, of one for the sensor's sake */
#define PPM 1000000u

static const struct scan_config config = {
	.period_ns = 1000000000,
	.min_ns = 500000000,
	.max_ns = UINT64_C(16000000000),
	.share_ppm = TEMPO_CPU_PPM,
};

void tempo_begin(struct tempo *tempo, uint64_t now_ns)
{
	*tempo = (struct tempo){ 0 };
	scan_init(&tempo->scan, &config, SCAN_WEIGHT_MAX, now_ns);
}

uint64_t tempo_again(struct tempo *tempo, uint64_t now_ns)
{
	struct scan_config tuned = tempo->scan.config;

	scan_init(&tempo->scan, &tuned, SCAN_WEIGHT_MAX, now_ns);
	return tuned.period_ns;
}

static bool stir(const struct tempo *tempo, const struct tiering_counts *total, uint64_t now_ns)
{
	uint64_t nr = total->touched - tempo->touched + total->promoted - tempo->promoted;

	return nr >= STIR_PAGES && now_ns - tempo->at_ns >= LOOK_NS;
}

bool tempo_due(const struct tempo *tempo, const struct tiering_counts *total, uint64_t now_ns)
{
	return scan_due(&tempo->scan, now_ns) || stir(tempo, total, now_ns);
}

/* What a pass cost that led to nothing. */
static uint64_t idle_cost_ns(struct tempo *tempo, const struct sense_usage *usage, uint64_t promoted)
{
	if (usage->nr_passes != tempo->now.passes) {
		tempo->before = tempo->now;
		tempo->now = (struct tempo_mark){ usage->nr_passes, usage->nr_faults, usage->nr_own_faults, promoted };
	}
	const struct tempo_mark *now = &tempo->now, *before = &tempo->before;
	uint64_t own = now->own_faults - before->own_faults;
	uint64_t elsewhere_ns = minus(now->faults - before->faults, own) * FAULT_COST_NS;
	uint64_t most_ns = TEMPO_ELSEWHERE_NS / PPM * tempo->scan.config.share_ppm;

	return minus(own, 2 * (promoted - before->promoted)) * FAULT_COST_NS +
	       (elsewhere_ns < most_ns ? elsewhere_ns : most_ns);
}

uint64_t tempo_look(struct tempo *tempo, const struct tiering_counts *total, const struct sense_usage *usage,
		   uint64_t now_ns)
{
	bool found = stir(tempo, total, now_ns) || total->promoted != tempo->promoted;

	scan_done(&tempo->scan, now_ns, idle_cost_ns(tempo, usage, total->promoted), found);
	tempo->at_ns = now_ns;
	tempo->touched = total->touched;
	tempo->promoted = total->promoted;
	return scan_wait_ns(&tempo->scan, now_ns);
}
