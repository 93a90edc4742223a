#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real programs at a third of their memory: their results must be those of a run with all of it.

Each case runs a program by itself first, which gives the expected result and the peak of its
resident memory, and then under `pagetide run` with a third of that peak as dram. The peak of what is over before it
can be looked at is said in its case.
"""
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time

from harness import (MIB, Skipped, Unproved, check, judge_budget, judge_end,
                     judge_stats, tail, tests_main)


def needs(program):
    path = shutil.which(program)
    if not path:
        raise Skipped(f"{program} is not installed")
    return path


def file_hash(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def third_mib(peak_bytes):
    if peak_bytes <= 48 * MIB: # it is looked at 20 times a second
        raise Unproved(f"uses {peak_bytes / MIB:.0f} MiB only: no test of memory")
    return max(16, peak_bytes // 3 // MIB)


def report(alone, under, budget_mib):
    return (f"peak {alone.peak_bytes / MIB:.0f} MiB alone, {under.peak_bytes / MIB:.0f} with "
            f"dram {budget_mib} MiB; {alone.seconds:.1f} s alone, {under.seconds:.1f} s; demoted "
            f"{under.stats['demoted_pages']}, faults {under.stats['faults']['count']}, p50 "
            f"{under.stats['faults']['p50_ns'] / 1000:.0f} us, p99 "
            f"{under.stats['faults']['p99_ns'] / 1000:.0f} us")


def compared(place, argv, result_file=None, budget=True, peak_mib=None):
    """Both runs of a command; standard output and the named file must be the same."""
    def one(where, budget_mib):
        path = result_file and os.path.join(place.folder, result_file)
        if path and os.path.exists(path):
            os.unlink(path)
        result = where.run(argv, budget_mib)
        judge_end(result)
        return result, path and file_hash(path)

    alone, alone_hash = one(place.alone(), 0)
    budget_mib = third_mib(peak_mib * MIB if peak_mib else alone.peak_bytes)
    if place.native:
        return f"peak {alone.peak_bytes / MIB:.0f} MiB in {alone.seconds:.1f} s"
    under, under_hash = one(place, budget_mib)
    check(alone.output == under.output,
          f"printed {tail(under.output, 200)}, not {tail(alone.output, 200)}")
    check(alone_hash == under_hash, f"{result_file} differs")
    judge_stats(under.stats)
    if budget:
        judge_budget(under, budget_mib)
    return report(alone, under, budget_mib)


# ---- the programs --------------------------------------------------------------------------------

PYTHON_DICTS = """
import hashlib
table = {}
for i in range(350000):
    table["key%d" % (i * 7919 % 1000003)] = (i, "value %d of %d" % (i % 1000, i), [i, i + 1])
for i in range(0, 350000, 3):
    table.pop("key%d" % (i * 7919 % 1000003))
for i in range(0, 350000, 5):
    table["key%d" % (i * 7919 % 1000003)] = (i, "new", [])
digest = hashlib.sha256()
for item in table.items():
    digest.update(repr(item).encode())
# In an order that has nothing to do with where things lie.
for i in range(0, 1000003, 97):
    digest.update(repr(table.get("key%d" % i)).encode())
print(len(table), digest.hexdigest())
"""


def python_large_dicts(place):
    script = os.path.join(place.folder, "dicts.py")
    with open(script, "w", encoding="ascii") as file:
        file.write(PYTHON_DICTS)
    return compared(place, [sys.executable, script])


SQL = """
PRAGMA temp_store = memory;
CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT, c TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700000)
INSERT INTO t SELECT i, (i * 7919) % 1000003, printf('name-%d-%d', i % 977, i * 31 % 1009),
  hex(i * 2654435761 % 4294967296) || printf('%040d', i % 97) FROM n;
CREATE INDEX t_a ON t (a);
CREATE INDEX t_b ON t (b);
UPDATE t SET c = c || 'x' WHERE a % 11 = 3;
DELETE FROM t WHERE a % 13 = 5;
SELECT count(*), sum(a), sum(length(c)), min(b), max(b) FROM t;
SELECT count(*), sum(x.a * 3 + y.a) FROM t x JOIN t y ON y.a = x.a + 1;
SELECT b, count(*), sum(a) FROM t GROUP BY b ORDER BY b LIMIT 20000;
SELECT a, c FROM t ORDER BY c, a LIMIT 20000;
PRAGMA integrity_check;
"""


def sqlite_in_memory(place):
    needs("sqlite3")
    script = os.path.join(place.folder, "work.sql")
    with open(script, "w", encoding="ascii") as file:
        file.write(SQL)
    return compared(place, ["sqlite3", "-batch", ":memory:", f".read {script}"])


def gnu_sort(place):
    needs("sort")
    source = random.Random(5)
    path = os.path.join(place.folder, "lines")
    words = [f"{source.getrandbits(40):x}" for _ in range(5000)]
    with open(path, "w", encoding="ascii") as file:
        for i in range(1200000):
            file.write(f"{words[source.getrandbits(12)]} {source.getrandbits(32):08x} row {i}\n")
    try:
        return compared(place, ["sort", "-S", "200M", "--parallel=2", "-k2,2", "-o", "sorted",
                                path], result_file="sorted")
    finally:
        os.unlink(path)


def gcc_optimizing(place):
    needs("gcc")
    source = random.Random(6)
    path = os.path.join(place.folder, "big.c")
    with open(path, "w", encoding="ascii") as file:
        file.write("struct s { int a[8]; struct s *next; };\nextern int out(int, struct s *);\n")
        for i in range(700):
            file.write(f"int f{i}(struct s *p, int n)\n{{\n\tint x = n;\n")
            file.write("\tfor (int i = 0; i < n; i++) {\n")
            for _ in range(6):
                one, two, add = (source.getrandbits(3) for _ in range(3))
                file.write(f"\t\tx += p->a[{one}] * (p->next->a[{two}] + {add});\n"
                           f"\t\tif (x & {1 << add}) p = p->next;\n"
                           f"\t\telse x = out(x ^ i, p) + f{source.randrange(i + 1)}(p, x);\n")
            file.write("\t}\n\treturn x;\n}\n")
    return compared(place, ["gcc", "-O2", "-pipe", "-c", "big.c", "-o", "big.o"],
                    result_file="big.o")


PERL_HASHES = """
my %seen;
for my $i (1 .. 85000) {
	my $key = ($i * 7919) % 1000003;
	$seen{"key$key"} = [ $i, "value $i of $key", { half => $key / 2 } ];
}
delete $seen{"key" . ($_ * 7919) % 1000003} for grep { $_ % 3 == 0 } 1 .. 85000;
my $sum = 0;
for my $i (1 .. 85000) {
	my $key = "key" . ($i * 7919) % 1000003;
	next unless $seen{$key};
	$sum = ($sum * 31 + $seen{$key}[0] + length($seen{$key}[1]) + $seen{$key}[2]{half} * 2) % 1000000007;
}
print scalar(keys %seen), " $sum\\n";
"""


def perl_hashes(place):
    needs("perl")
    return compared(place, ["env", "PERL_HASH_SEED=0", "perl", "-e", PERL_HASHES], peak_mib=55)


# Its heap is some hundred mappings of 256 KiB, and pieces of code with other protection.
NODE_HEAP = """
const table = new Map();
for (let i = 0; i < 500000; i++) {
	const key = i * 7919 % 1000003;
	table.set("key" + key, { number: i, text: "value " + i + " of " + key, list: [i, i + 1] });
}
for (let i = 0; i < 500000; i += 3) table.delete("key" + i * 7919 % 1000003);
let sum = 0, text = "";
for (let i = 0; i < 1000003; i += 7) {
	const found = table.get("key" + i);
	if (found) sum = (sum * 31 + found.number + found.text.length + found.list[1]) % 1000000007;
}
for (const [key, value] of table) text = key + value.text;
console.log(table.size, sum, text);
"""


def node_heap(place):
    return compared(place, [needs("node"), "-e", NODE_HEAP])


def stress_ng_verified(place):
    needs("stress-ng")
    argv = ["stress-ng", "--vm", "1", "--vm-bytes", "256M", "--verify", "--vm-method", "all",
            "--timeout", "12s", "--temp-path", place.folder]
    result = place.run(argv, 86)
    judge_end(result)
    # It ends with 0 although a check failed, if it could be repeated; so look for the word.
    text = (result.output + result.errors).lower()
    for word in (b"fail:", b"error", b"corrupt"):
        check(word not in text.replace(b"failed: 0", b""), tail(text))
    if not place.native:
        judge_stats(result.stats)
        judge_budget(result, 86)
        return f"demoted {result.stats['demoted_pages']}, peak {result.peak_bytes / MIB:.0f} MiB"
    return None


def eight_threads(place):
    return compared(place, [os.path.join(place.programs, "live_thread"), "eight-threads-random"], peak_mib=96)


def compressor_with_threads(place):
    needs("xz")
    path = os.path.join(place.folder, "input")
    source = random.Random(7)
    with open(path, "wb") as file:
        for _ in range(24):
            block = bytes(source.getrandbits(5) + 64 for _ in range(MIB // 8))
            file.write(block * 8)
    return compared(place, ["sh", "-c", f"xz -T8 -4 --block-size=3MiB -c {path} > packed"],
                    result_file="packed")


# ---- redis-server --------------------------------------------------------------------------------

class Redis:
    """Just enough of the protocol to give commands."""

    def __init__(self, path, process=None):
        deadline = time.monotonic() + 60
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self.socket.settimeout(300)
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                check(time.monotonic() < deadline, "redis-server does not answer")
                check(process is None or process.poll() is None, "redis-server ended at once")
                time.sleep(0.05)
        self.file = self.socket.makefile("rb")

    def ask(self, *words):
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            data = str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self.socket.sendall(b"".join(parts))
        line = self.file.readline().rstrip()
        if line.startswith(b"$"):
            return self.file.read(int(line[1:]) + 2)[:-2].decode()
        return line.decode()

    def info(self, key):
        for line in self.ask("INFO").splitlines():
            if line.startswith(key + ":"):
                return line.split(":", 1)[1]
        return None

    def wait_ready(self):
        deadline = time.monotonic() + 300
        while self.info("loading") != "0":
            check(time.monotonic() < deadline, "redis-server never finished loading")
            time.sleep(0.1)

    def close(self):
        self.file.close()
        self.socket.close()


REDIS = ["redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--loglevel",
         "warning", "--dbfilename", "dump.rdb"]


def redis_command(place, name):
    path = os.path.join(place.folder, name)
    return path, REDIS + ["--unixsocket", path, "--dir", place.folder]


def redis_client(place, path, *words):
    client = os.path.join(os.path.dirname(place.pagetide), "tools", "redis_zipf")
    if not os.access(client, os.X_OK):
        raise Skipped(f"{client} is not built")
    return subprocess.Popen([client, path, *map(str, words)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def redis_client_done(client):
    _, errors = client.communicate(timeout=300)
    check(client.returncode == 0, f"the client: {tail(errors)}")


NR_KEYS = 80000
NR_EXTRA = 4000


def bgsave_under_load(redis, place, path):
    """Save in the background while a client reads and another connection writes."""
    reader = redis_client(place, path, "read", NR_KEYS, 6, 3)
    try:
        for round_number in range(2):
            check("started" in redis.ask("BGSAVE"), "BGSAVE did not start")
            number = 0
            while redis.info("rdb_bgsave_in_progress") != "0" or number < NR_EXTRA:
                for _ in range(200):
                    number += 1
                    redis.ask("SET", f"extra:{number % NR_EXTRA}",
                              f"{round_number}-{number % NR_EXTRA}-" + "y" * 1500)
            check(redis.info("rdb_last_bgsave_status") == "ok", "BGSAVE failed")
    finally:
        redis_client_done(reader)
    # What the last save holds must be known: one more, at rest.
    check(redis.ask("SAVE") == "+OK", "SAVE failed")
    redis_client_done(redis_client(place, path, "check", NR_KEYS))


def check_dump(place):
    """Another redis-server, with all its memory, reads the dump: every value must be right."""
    path, argv = redis_command(place, "second.sock")

    def during(process):
        redis = Redis(path, process)
        redis.wait_ready()
        check(redis.ask("DBSIZE") == f":{NR_KEYS + NR_EXTRA}",
              f"the dump holds {redis.ask('DBSIZE')} keys")
        redis_client_done(redis_client(place, path, "check", NR_KEYS))
        for number in range(NR_EXTRA):
            check(redis.ask("GET", f"extra:{number}") == f"1-{number}-" + "y" * 1500,
                  f"extra:{number} is wrong in the dump")
        redis.ask("SHUTDOWN", "NOSAVE")
        redis.close()

    judge_end(place.alone().run(argv, 0, during=during))


def redis_bgsave_under_load(place):
    needs("redis-server")
    path, argv = redis_command(place, "first.sock")
    # Keys of 2.2 KiB on average, with what Redis adds.
    budget_mib = NR_KEYS * 2435 // MIB // 3

    def during(process):
        redis = Redis(path, process)
        redis_client_done(redis_client(place, path, "load", NR_KEYS))
        bgsave_under_load(redis, place, path)
        redis.ask("SHUTDOWN", "NOSAVE")
        redis.close()

    result = place.run(argv, budget_mib, during=during)
    judge_end(result)
    check_dump(place)
    if place.native:
        return f"peak {result.peak_bytes / MIB:.0f} MiB"
    judge_stats(result.stats)
    return (f"dram {budget_mib} MiB, demoted {result.stats['demoted_pages']}, faults "
            f"{result.stats['faults']['count']}")


CASES = {
    "redis-bgsave-under-load": redis_bgsave_under_load,
    "python-large-dicts": python_large_dicts,
    "sqlite-in-memory": sqlite_in_memory,
    "stress-ng-vm-verify": stress_ng_verified,
    "gnu-sort": gnu_sort,
    "gcc-O2": gcc_optimizing,
    "eight-threads": eight_threads,
    "xz-eight-threads": compressor_with_threads,
    "perl-hashes": perl_hashes,
    "node-heap": node_heap,
}


if __name__ == "__main__":
    sys.exit(tests_main(CASES))
