/* SPDX-License-Identifier: MIT */
#include "rule.h"

#include <errno.h>
#include <limits.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "cgroup.h"
#include "file.h"
#include "json.h"
#include "text.h"
#include "tiering.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define NR(array) (sizeof(array) / sizeof((array)[0]))
#define WHOLE_BP 10000u

_Static_assert(RULE_WEIGHT_MAX == TIERING_WEIGHT_MAX, "a weight is the engine's");

struct rule_word {
	struct rule_word *next;
	regex_t regex;  /* of RULE_EXE */
	enum rule_selector selector;
	char text[];
};

/* ---- words ---- */

static void words_free(struct rule_word **words)
{
	while (*words) {
		struct rule_word *word = *words;

		*words = word->next;
		if (word->selector == RULE_EXE)
			regfree(&word->regex);
		free(word);
	}
}

static int regex_make(struct rule_word *word, char ret_message[TIDE_MESSAGE_MAX])
{
	char why[80];
	int error = regcomp(&word->regex, word->text, REG_EXTENDED | REG_NOSUB);

	if (!error)
		return 0;
	regerror(error, &word->regex, why, sizeof why);
	MESSAGE("%.80s: not an extended regular expression: %s", word->text, why);
	return -EINVAL;
}

static int word_add(struct rule_word **words, enum rule_selector selector, const char *root,
		    const char *text, char ret_message[TIDE_MESSAGE_MAX])
{
	char pattern[PATH_MAX];
	int error = 0;

	if (!*text) {
		words_free(words);
		return 0;
	}
	if (selector == RULE_CGROUP && cgroup_pattern(root, text, pattern)) {
		MESSAGE("%.80s...: longer than a path may be", text);
		return -EINVAL;
	}
	if (selector == RULE_CGROUP)
		text = pattern;
	struct rule_word *word = calloc(1, sizeof *word + strlen(text) + 1);
	if (!word) {
		MESSAGE("no memory");
		return -ENOMEM;
	}
	word->selector = selector;
	strcpy(word->text, text);
	if (selector == RULE_EXE)
		error = regex_make(word, ret_message);
	if (error) {
		free(word);
		return error;
	}
	while (*words)
		words = &(*words)->next;
	*words = word;
	return 0;
}

/* ---- keys ---- */

static int size_refuse(int error, const char *key, const char *value, const char *forms,
		       char ret_message[TIDE_MESSAGE_MAX])
{
	bool large = error == -ERANGE && !strchr(value, '%');

	MESSAGE("%s = %.80s: %s: write %s", key, value, large ? "more than any machine has" : "not a size", forms);
	return -EINVAL;
}

static int bytes_set(const char *key, const char *value, uint64_t *ret_bytes,
		     char ret_message[TIDE_MESSAGE_MAX])
{
	int error = text_size_parse(value, 0, ret_bytes);

	return error ? size_refuse(error, key, value, "64M, 1.5G", ret_message) : 0;
}

static int size_set(const char *key, const char *value, struct rule_size *ret_size,
		    char ret_message[TIDE_MESSAGE_MAX])
{
	struct rule_size size = { 0 };
	int error = text_size_parse(value, 0, &size.bytes);

	if (error && (!strchr(value, '%') || text_share_parse(value, &size.share_bp) || !size.share_bp))
		return size_refuse(error, key, value, "512M, 2G, or a share of fast memory, 40%", ret_message);
	*ret_size = size;
	return 0;
}

static int weight_set(const char *value, uint32_t *ret_weight, char ret_message[TIDE_MESSAGE_MAX])
{
	char *end;
	unsigned long weight = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || weight > RULE_WEIGHT_MAX) {
		MESSAGE("weight = %.80s: write 0 (leave alone) to %u", value, RULE_WEIGHT_MAX);
		return -EINVAL;
	}
	*ret_weight = (uint32_t)weight;
	return 0;
}

/* Words first, in the order of enum rule_selector, then those to exclude. */
enum { KEY_EXCLUDE = RULE_SELECTORS, KEY_RSS_MIN = 2 * RULE_SELECTORS, KEY_WEIGHT, KEY_FAST_MIN, KEY_FAST_MAX };
static const char *const keys[] = {
	"cgroup", "unit", "exe", "exclude_cgroup", "exclude_unit", "exclude_exe",
	"rss_min", "weight", "fast_min", "fast_max",
};

int rule_set(struct rule *rule, const char *root, const char *key, const char *value,
	     char ret_message[TIDE_MESSAGE_MAX])
{
	unsigned int which = 0;

	while (which < NR(keys) && strcmp(key, keys[which]))
		which++;
	switch (which) {
	case KEY_RSS_MIN:
		return bytes_set(key, value, &rule->rss_min_bytes, ret_message);
	case KEY_WEIGHT:
		return weight_set(value, &rule->weight, ret_message);
	case KEY_FAST_MIN:
		return size_set(key, value, &rule->fast_min, ret_message);
	case KEY_FAST_MAX:
		return size_set(key, value, &rule->fast_max, ret_message);
	case NR(keys):
		break;
	default:
		return word_add(which < KEY_EXCLUDE ? &rule->include[which]
						    : &rule->exclude[which - KEY_EXCLUDE],
				(enum rule_selector)(which % RULE_SELECTORS), root, value, ret_message);
	}
	const char *nearest = text_nearest(key, keys, NR(keys));
	if (nearest)
		MESSAGE("unknown key %.40s: did you mean %s?", key, nearest);
	else
		MESSAGE("unknown key %.40s of a rule: pagetide(1) lists them", key);
	return -EINVAL;
}

int rule_finish(const struct rule *rule, char ret_message[TIDE_MESSAGE_MAX])
{
	const struct rule_size *min = &rule->fast_min, *max = &rule->fast_max;
	bool any = rule->nr_pids || rule->rss_min_bytes;

	for (unsigned s = 0; s < RULE_SELECTORS; s++)
		any |= rule->include[s] != NULL;
	if (!any) {
		MESSAGE("rule %s selects nothing: give it cgroup, unit, exe or rss_min", rule->name);
		return -EINVAL;
	}
	bool shares = min->share_bp && max->share_bp, sizes = !min->share_bp && !max->share_bp;
	if ((shares && min->share_bp > max->share_bp) || (sizes && min->bytes > max->bytes)) {
		MESSAGE("rule %s: fast_min is more than fast_max: lower it", rule->name);
		return -EINVAL;
	}
	return 0;
}

void rule_init(struct rule *rule, const char *name)
{
	*rule = (struct rule){
		.weight = TIERING_WEIGHT_DEFAULT,
		.fast_max = { .bytes = RULE_NO_MAX },
	};
	snprintf(rule->name, sizeof rule->name, "%s", name);
}

void rule_free(struct rule *rule)
{
	for (unsigned s = 0; s < RULE_SELECTORS; s++) {
		words_free(&rule->include[s]);
		words_free(&rule->exclude[s]);
	}
}

uint64_t rule_size_bytes(const struct rule_size *size, uint64_t fast_bytes)
{
	if (!size->share_bp)
		return size->bytes;
	return (uint64_t)((unsigned __int128)fast_bytes * size->share_bp / WHOLE_BP);
}

/* ---- processes ---- */

/* What is known of a process; read when first asked for. */
struct facts {
	const char *root;
	pid_t pid;
	bool gone, groups_read;
	char exe[PATH_MAX];
	struct cgroup_names groups;
};

static int exe_read(struct facts *facts)
{
	static const char deleted[] = " (deleted)";
	int error = file_link(facts->root, facts->exe, sizeof facts->exe, "/proc/%d/exe", (int)facts->pid);
	size_t length = error ? 0 : strlen(facts->exe), tail = sizeof deleted - 1;

	/* Its file was replaced while it runs: it is the same program to the user. */
	if (length > tail && !strcmp(facts->exe + length - tail, deleted))
		facts->exe[length - tail] = '\0';
	return error;
}

static const struct cgroup_names *groups_of(struct facts *facts)
{
	if (!facts->groups_read && cgroup_names_read(facts->root, facts->pid, &facts->groups)) {
		facts->gone = true;
		memset(&facts->groups, 0, sizeof facts->groups);
	}
	facts->groups_read = true;
	return &facts->groups;
}

static bool word_fits(const struct rule_word *word, struct facts *facts)
{
	if (word->selector == RULE_EXE)
		return !regexec(&word->regex, facts->exe, 0, NULL, 0);
	const struct cgroup_names *groups = groups_of(facts);
	for (unsigned h = 0; h < CGROUP_HIERARCHIES; h++)
		if (word->selector == RULE_UNIT ? cgroup_in_unit(groups->name[h], word->text)
						: cgroup_fits(groups->name[h], word->text))
			return true;
	return false;
}

static bool words_fit(const struct rule_word *words, struct facts *facts)
{
	while (words && !word_fits(words, facts))
		words = words->next;
	return words;
}

static bool rss_reached(const struct rule *rule, const struct facts *facts)
{
	unsigned long rss_pages = 0;
	char text[128];

	return !file_read(facts->root, text, sizeof text, "/proc/%d/statm", (int)facts->pid) &&
	       sscanf(text, "%*u %lu", &rss_pages) == 1 && rss_pages >= rule->rss_min_bytes / 4096;
}

static bool rule_fits(const struct rule *rule, struct facts *facts, bool has)
{
	if (rule->nr_pids)
		return false;
	for (unsigned s = 0; s < RULE_SELECTORS; s++)
		if (rule->include[s] && !words_fit(rule->include[s], facts))
			return false;
	for (unsigned s = 0; s < RULE_SELECTORS; s++)
		if (words_fit(rule->exclude[s], facts))
			return false;
	return has || !rule->rss_min_bytes || rss_reached(rule, facts);
}

const struct rule *rule_find(const struct rule *rules, size_t nr, const char *root, pid_t pid,
			     const struct rule *has)
{
	struct facts facts = { .root = root, .pid = pid };

	if (!nr || exe_read(&facts))
		return NULL;
	for (size_t i = 0; i < nr; i++)
		if (rule_fits(&rules[i], &facts, &rules[i] == has))
			return facts.gone ? NULL : &rules[i];
	return NULL;
}

/* ---- text ---- */

static void words_print(const struct rule_word *words, const char *key, FILE *file)
{
	for (; words; words = words->next)
		fprintf(file, "%s = %s\n", key, words->text);
}

/* `none`: what it is when nobody says it. */
static void size_print(const struct rule_size *size, uint64_t none, const char *key, FILE *file)
{
	if (size->share_bp)
		fprintf(file, "%s = %u.%02u%%\n", key, size->share_bp / 100, size->share_bp % 100);
	else if (size->bytes != none)
		fprintf(file, "%s = %llu\n", key, (unsigned long long)size->bytes);
}

/* As it is, or where that is no text, what of it is. */
static json_t *text_json(const char *text)
{
	json_t *string = json_string(text);
	char *clean = string ? NULL : strdup(text);

	if (clean) {
		text_utf8_clean(clean);
		string = json_string(clean);
		free(clean);
	}
	return string;
}

static void words_set(json_t *object, const char *key, const struct rule_word *words)
{
	json_t *list = json_array();

	for (; words; words = words->next)
		json_array_append_new(list, text_json(words->text));
	json_object_set_new(object, key, list);
}

/* In bytes, or in percent of what the fast nodes have; what is not said is not there. */
static void size_json(json_t *object, const char *key, const struct rule_size *size, uint64_t nothing)
{
	char name[32];

	snprintf(name, sizeof name, "%s_%s", key, size->share_bp ? "percent" : "bytes");
	if (size->share_bp)
		json_object_set_new(object, name, json_real(size->share_bp / 100.0));
	else if (size->bytes != nothing)
		number_set(object, name, size->bytes);
}

json_t *rule_json(const struct rule *rule)
{
	json_t *object = json_object();

	json_object_set_new(object, "name", json_string(rule->name));
	for (unsigned s = 0; s < RULE_SELECTORS; s++)
		words_set(object, keys[s], rule->include[s]);
	for (unsigned s = 0; s < RULE_SELECTORS; s++)
		words_set(object, keys[KEY_EXCLUDE + s], rule->exclude[s]);
	number_set(object, "rss_min_bytes", rule->rss_min_bytes);
	number_set(object, keys[KEY_WEIGHT], rule->weight);
	size_json(object, keys[KEY_FAST_MIN], &rule->fast_min, 0);
	size_json(object, keys[KEY_FAST_MAX], &rule->fast_max, RULE_NO_MAX);
	return object;
}

void rule_print(const struct rule *rule, FILE *file)
{
	const struct rule_size rss_min = { .bytes = rule->rss_min_bytes };

	fprintf(file, "[rule %s]\n", rule->name);
	for (unsigned s = 0; s < RULE_SELECTORS; s++)
		words_print(rule->include[s], keys[s], file);
	for (unsigned s = 0; s < RULE_SELECTORS; s++)
		words_print(rule->exclude[s], keys[KEY_EXCLUDE + s], file);
	size_print(&rss_min, 0, keys[KEY_RSS_MIN], file);
	fprintf(file, "%s = %u\n", keys[KEY_WEIGHT], rule->weight);
	size_print(&rule->fast_min, 0, keys[KEY_FAST_MIN], file);
	size_print(&rule->fast_max, RULE_NO_MAX, keys[KEY_FAST_MAX], file);
}
