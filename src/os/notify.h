/* SPDX-License-Identifier: MIT */
/*
 * Telling the service manager how we are: the protocol of sd_notify(3), lines "NAME=value" in one
 * datagram to the socket that $NOTIFY_SOCKET names. Not thread-safe against setenv().
 */
#ifndef TIDE_NOTIFY_H
#define TIDE_NOTIFY_H

#include <stdint.h>

/* "READY=1\nSTATUS=..." 0, also when nobody listens; -errno: it did not arrive. Never blocks. */
int notify_send(const char *text);

/* Within how long the manager wants to hear "WATCHDOG=1"; 0: it does not. */
uint64_t notify_watchdog_ns(void);

#endif
