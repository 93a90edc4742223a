/* SPDX-License-Identifier: MIT */
/* tide_control(): one question to the control socket of a running pagetide. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "pagetide.h"
#include "request.h"
#include "stream.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define WAIT_NS UINT64_C(30000000000) /* to be let in, on a machine that is very busy; for the answer: ask_wait() */
#define ANSWER_FIRST_BYTES (64u << 10)
#define ANSWER_MAX_BYTES (256u << 20)

/* "pagetide.control/1 VERB WORD...\n" */
static int line_make(const char *verb, const char *const *words, size_t nr, char ret_line[REQUEST_BYTES],
		     char ret_message[TIDE_MESSAGE_MAX])
{
	struct request request;
	int length = snprintf(ret_line, REQUEST_BYTES - 1, REQUEST_PROTOCOL " %s", verb);

	for (size_t i = 0; i < nr && length < (int)REQUEST_BYTES - 1; i++)
		length += snprintf(ret_line + length, REQUEST_BYTES - 1 - (size_t)length, " %s", words[i]);
	if (length >= (int)REQUEST_BYTES - 1 || strpbrk(ret_line, "\n\r\t")) {
		MESSAGE("%s: too long, or with a blank in a word: ask in parts", verb);
		return -EINVAL;
	}
	int error = request_parse(ret_line, &request, ret_message);
	strcat(ret_line, "\n");
	return error;
}

static int text_send(int fd, const char *text)
{
	size_t bytes = strlen(text);

	while (bytes) {
		ssize_t n = stream_write(fd, text, bytes);
		if (n < 0)
			return (int)n;
		text += n;
		bytes -= (size_t)n;
	}
	stream_finish(fd);
	return 0;
}

static int text_receive(int fd, char **ret_text, char ret_message[TIDE_MESSAGE_MAX])
{
	size_t room = ANSWER_FIRST_BYTES, bytes = 0;
	char *text = malloc(room), *more;
	int n = text ? 1 : -ENOMEM;

	while (n > 0) {
		if (bytes + 1 == room) {
			more = room < ANSWER_MAX_BYTES ? realloc(text, room * 2) : NULL;
			if (!more) {
				n = -ENOMEM;
				break;
			}
			text = more;
			room *= 2;
		}
		n = ask_wait(fd, ret_message);
		if (!n)
			n = (int)stream_read(fd, text + bytes, room - 1 - bytes);
		bytes += n > 0 ? (size_t)n : 0;
	}
	if (n < 0) {
		free(text);
		return n;
	}
	text[bytes] = '\0';
	*ret_text = text;
	return 0;
}

static int refuse(const char *path, int error, char ret_message[TIDE_MESSAGE_MAX])
{
	switch (error) {
	case -ENOENT:
	case -ENOTDIR:
	case -ECONNREFUSED:
		MESSAGE("no pagetide answers at %.100s: start pagetide attach or pagetide daemon, or name "
			"its socket with --control PATH", path);
		return -ESRCH;
	case -EACCES:
	case -EPERM:
		MESSAGE("%.120s: only its owner and root may ask: run as root", path);
		return -EACCES;
	case -ENAMETOOLONG:
		MESSAGE("--control %.80s...: too long for a socket: at most 107 bytes", path);
		return -EINVAL;
	case -EBUSY:
	case -ETIMEDOUT: /* ask_wait() has said it */
		return error;
	case -EAGAIN:
		MESSAGE("%.120s: too many wait there for an answer: if pagetide is stopped, kill -CONT it", path);
		return -ETIMEDOUT;
	default:
		MESSAGE("%.120s: does not answer: %s", path, strerror(-error));
		return error;
	}
}

/* What was refused is said in the answer. */
static int answer_look(const char *path, const char *text, char ret_message[TIDE_MESSAGE_MAX])
{
	json_t *root = json_loads(text, 0, NULL);
	const char *refusal = json_string_value(json_object_get(root, "error"));
	int error = !root ? -EPROTO : refusal ? -EINVAL : 0;

	if (!root && !*text)
		MESSAGE("%.120s: only its owner and root are answered: run as root", path);
	else if (!root)
		MESSAGE("%.120s: the answer is not whole: is it a pagetide, and was it ended?", path);
	else if (refusal)
		MESSAGE("%.200s", refusal);
	json_decref(root);
	return error;
}

int tide_control(const char *path, const char *verb, const char *const *words, size_t nr_words,
		 char **ret_json, char ret_message[TIDE_MESSAGE_MAX])
{
	char line[REQUEST_BYTES], *text = NULL;
	int fd, error = line_make(verb, words, nr_words, line, ret_message);

	if (error)
		return error;
	path = path ? path : TIDE_CONTROL_PATH;
	error = stream_connect(path, WAIT_NS, &fd);
	if (error)
		return refuse(path, error, ret_message);
	error = text_send(fd, line);
	/* Who closed without reading may have said why. */
	if (!error || error == -EPIPE)
		error = text_receive(fd, &text, ret_message);
	close(fd);
	if (error)
		return refuse(path, error, ret_message);
	error = answer_look(path, text, ret_message);
	if (error)
		free(text);
	else
		*ret_json = text;
	return error;
}
