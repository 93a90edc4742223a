/* SPDX-License-Identifier: MIT */
/*
 * The syntax is libinih's business, the meaning ours. Lines reach the library through our own reader:
 * it counts them, and refuses those that the library would cut in two.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "json.h"
#include "text.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define RULE_SECTION "rule "

void config_free(struct config *config)
{
	for (size_t i = 0; i < config->nr_rules; i++)
		rule_free(&config->rules[i]);
	free(config->rules);
	free(config->fast);
	free(config->slow);
	*config = (struct config){ 0 };
}

struct rule *config_rule(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->nr_rules; i++)
		if (!strcmp(config->rules[i].name, name))
			return &config->rules[i];
	return NULL;
}

static int rule_add(struct config *config, const char *name, struct rule **ret_rule)
{
	struct rule *more = reallocarray(config->rules, config->nr_rules + 1, sizeof *more);

	if (!more)
		return -ENOMEM;
	config->rules = more;
	*ret_rule = &more[config->nr_rules++];
	rule_init(*ret_rule, name);
	return 0;
}

/* ---- one file ---- */

struct reading {
	struct config *config;
	const char *root, *path;
	FILE *file;
	int line;
	bool only_tiers;
	int error, error_line;  /* the first one, with its message */
	char *ret_message;
};

__attribute__((format(printf, 3, 4)))
static void refuse(struct reading *reading, int error, const char *format, ...)
{
	va_list args;

	if (reading->error)
		return;
	reading->error = error;
	reading->error_line = reading->line;
	int head = snprintf(reading->ret_message, TIDE_MESSAGE_MAX, "%.100s:%d: ", reading->path, reading->line);
	va_start(args, format);
	vsnprintf(reading->ret_message + head, TIDE_MESSAGE_MAX - (size_t)head, format, args);
	va_end(args);
}

/* A name that can be printed and written in a file. */
static bool name_good(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	size_t length = strlen(name);

	return length && length < RULE_NAME_BYTES && strspn(name, letters) == length;
}

/* Whether there may be such a section; if not, that was said. */
static bool section_good(struct reading *reading, const char *section)
{
	static const char *const names[] = { "tiers", "rule" };
	char word[TEXT_NAME_MAX + 1];

	if (!strcmp(section, "tiers"))
		return true;
	bool rule = !strncmp(section, RULE_SECTION, strlen(RULE_SECTION));
	if (rule && !reading->only_tiers && name_good(section + strlen(RULE_SECTION)))
		return true;
	snprintf(word, sizeof word, "%.*s", (int)strcspn(section, " "), section);
	const char *nearest = text_nearest(word, names, 2);
	if (reading->only_tiers)
		refuse(reading, -EINVAL, "[%.40s] does not belong here: a file of tiers has [tiers]", section);
	else if (rule || !strcmp(word, "rule"))
		refuse(reading, -EINVAL, "[%.40s]: name the rule with up to %d letters, digits and _.-: [rule web]",
		       section, RULE_NAME_BYTES - 1);
	else if (nearest)
		refuse(reading, -EINVAL, "unknown section [%.40s]: did you mean [%s%s]?", section, nearest,
		       *nearest == 'r' ? " NAME" : "");
	else
		refuse(reading, -EINVAL, "unknown section [%.40s]: there are [tiers] and [rule NAME]", section);
	return false;
}

static void tiers_set(struct reading *reading, const char *key, const char *value)
{
	static const char *const names[] = { "fast", "slow" };
	bool fast = !strcmp(key, "fast");
	char **nodes = fast ? &reading->config->fast : &reading->config->slow;

	if (!fast && strcmp(key, "slow")) {
		const char *nearest = text_nearest(key, names, 2);
		refuse(reading, -EINVAL, "unknown key %.40s of [tiers]: %s%s%s", key,
		       nearest ? "did you mean " : "there are fast and slow", nearest ? nearest : "",
		       nearest ? "?" : "");
		return;
	}
	free(*nodes);
	*nodes = *value ? strdup(value) : NULL;
	if (*value && !*nodes)
		refuse(reading, -ENOMEM, "no memory");
}

/* Of libinih: 0 makes the file a bad one. */
static int key_take(void *arg, const char *section, const char *key, const char *value)
{
	struct reading *reading = arg;
	char why[TIDE_MESSAGE_MAX];

	if (reading->error || !section_good(reading, section))
		return 0;
	if (!strcmp(section, "tiers")) {
		tiers_set(reading, key, value);
		return !reading->error;
	}
	const char *name = section + strlen(RULE_SECTION);
	struct rule *rule = config_rule(reading->config, name);
	int error = rule ? 0 : rule_add(reading->config, name, &rule);
	if (error)
		snprintf(why, sizeof why, "no memory");
	else
		error = rule_set(rule, reading->root, key, value, why);
	if (error)
		refuse(reading, error, "%.140s", why);
	return !error;
}

/* Of libinih, as fgets(). */
static char *line_read(char *line, int room, void *arg)
{
	struct reading *reading = arg;
	char section[64];

	if (!fgets(line, room, reading->file))
		return NULL;
	reading->line++;
	size_t length = strlen(line);
	if ((!length || line[length - 1] != '\n') && !feof(reading->file)) {
		refuse(reading, -EINVAL, "the line is longer than %d bytes, or no text", room - 2);
		for (int c; (c = fgetc(reading->file)) != '\n' && c != EOF;)
			;
		strcpy(line, "\n");
	}
	/* An indented line would go on the value of the one before it. */
	memmove(line, line + strspn(line, " \t"), strlen(line + strspn(line, " \t")) + 1);
	/* A section without keys would not be seen otherwise. */
	if (sscanf(line, "[%63[^]\n]]", section) == 1)
		section_good(reading, section);
	return line;
}

static int file_take(struct reading *reading, const char *path)
{
	char *ret_message = reading->ret_message;

	reading->path = path;
	reading->line = 0;
	int error = file_plain("", path, &reading->file);
	if (error == -EEXIST)
		MESSAGE("%.150s: it is no plain file: name another", path);
	else if (error)
		MESSAGE("%.150s: %s: %s, or name another file", path, strerror(-error),
			error == -ENOENT ? "write it as pagetide(1) says" : "let it be read");
	if (error)
		return -EINVAL;
	int line = ini_parse_stream(line_read, reading, key_take, reading);
	bool unread = ferror(reading->file);
	fclose(reading->file);
	reading->file = NULL;
	if (unread) {
		MESSAGE("%.150s: cannot be read: name another file", path);
		return -EINVAL;
	}
	if (line > 0 && (!reading->error || line < reading->error_line)) {
		MESSAGE("%.100s:%d: neither [section] nor key = value", path, line);
		return -EINVAL;
	}
	return line < 0 ? -ENOMEM : reading->error;
}

/* ---- all of them ---- */

static int dropin_is(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return *entry->d_name != '.' && dot && !strcmp(dot, ".conf");
}

static int dropins_take(struct reading *reading, const char *path)
{
	char folder[PATH_MAX - NAME_MAX - 1], file[PATH_MAX];
	struct dirent **names;
	char *ret_message = reading->ret_message;
	int error = 0;

	if ((size_t)snprintf(folder, sizeof folder, "%s.d", path) >= sizeof folder) {
		MESSAGE("%.100s...: longer than a path may be", path);
		return -EINVAL;
	}
	int nr = scandir(folder, &names, dropin_is, alphasort);
	if (nr < 0 && errno == ENOENT)
		return 0;
	if (nr < 0) {
		MESSAGE("%.150s: %s: let it be read, or take it away", folder, strerror(errno));
		return -EINVAL;
	}
	for (int i = 0; i < nr; i++) {
		snprintf(file, sizeof file, "%s/%s", folder, names[i]->d_name);
		if (!error)
			error = file_take(reading, file);
		free(names[i]);
	}
	free(names);
	reading->path = NULL; /* the last one's */
	return error;
}

int config_read(const char *path, const char *root, struct config *ret_config,
		char ret_message[TIDE_MESSAGE_MAX])
{
	struct config config = { 0 };
	struct reading reading = { .config = &config, .root = root, .ret_message = ret_message };
	int error = file_take(&reading, path);

	if (!error)
		error = dropins_take(&reading, path);
	if (!error && !config.nr_rules) {
		MESSAGE("%.150s: there is no [rule NAME], so nobody to look after", path);
		error = -EINVAL;
	}
	for (size_t i = 0; i < config.nr_rules && !error; i++)
		error = rule_finish(&config.rules[i], ret_message);
	if (error)
		config_free(&config);
	else
		*ret_config = config;
	return error;
}

/* ---- the command line ---- */

static int words_set(struct rule *rule, const char *key, const char *const *words, size_t nr,
		     char ret_message[TIDE_MESSAGE_MAX])
{
	int error = 0;

	for (size_t i = 0; i < nr && !error; i++)
		error = rule_set(rule, "", key, words[i], ret_message);
	return error;
}

int config_from_options(const struct tide_attach_options *o, struct config *ret_config,
			char ret_message[TIDE_MESSAGE_MAX])
{
	struct config config = {
		.fast = o->fast ? strdup(o->fast) : NULL,
		.slow = o->slow ? strdup(o->slow) : NULL,
	};
	struct reading reading = { .config = &config, .root = "", .ret_message = ret_message,
				   .only_tiers = true };
	struct rule *rule;
	int error = o->tiers_path ? file_take(&reading, o->tiers_path) : 0;

	if (!error)
		error = rule_add(&config, "command-line", &rule);
	if (!error) {
		rule->pids = o->pids;
		rule->nr_pids = o->nr_pids;
		error = words_set(rule, "cgroup", o->cgroups, o->nr_cgroups, ret_message);
	}
	if (!error)
		error = words_set(rule, "exe", o->exes, o->nr_exes, ret_message);
	if (!error)
		error = rule_finish(rule, ret_message);
	if (error)
		config_free(&config);
	else
		*ret_config = config;
	return error;
}

/* ---- text ---- */

char *config_text(const struct config *config)
{
	char *text = NULL;
	size_t bytes;
	FILE *file = open_memstream(&text, &bytes);

	if (!file)
		return NULL;
	if (config->fast || config->slow)
		fprintf(file, "[tiers]\n");
	if (config->fast)
		fprintf(file, "fast = %s\n", config->fast);
	if (config->slow)
		fprintf(file, "slow = %s\n", config->slow);
	for (size_t i = 0; i < config->nr_rules; i++) {
		fprintf(file, "%s", i || config->fast || config->slow ? "\n" : "");
		rule_print(&config->rules[i], file);
	}
	if (fclose(file)) {
		free(text);
		return NULL;
	}
	return text;
}

char *config_json(const struct config *config)
{
	json_t *rules = json_array();

	for (size_t i = 0; i < config->nr_rules; i++)
		json_array_append_new(rules, rule_json(&config->rules[i]));
	json_t *root = json_pack("{s:s, s:s, s:{s:s?, s:s?}, s:o}", "schema", "pagetide.config/1", "version",
				 TIDE_VERSION, "tiers", "fast", config->fast, "slow", config->slow, "rules", rules);
	return document_write(root);
}

int tide_config_fetch(const char *path, bool json, char **ret_text, char ret_message[TIDE_MESSAGE_MAX])
{
	struct config config;
	int error = config_read(path, "", &config, ret_message);

	if (error)
		return error;
	char *text = json ? config_json(&config) : config_text(&config);
	config_free(&config);
	if (!text) {
		MESSAGE("no memory");
		return -ENOMEM;
	}
	*ret_text = text;
	return 0;
}
