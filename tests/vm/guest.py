#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A guest with real NUMA nodes: Debian's stock 6.12 kernel in QEMU under software emulation.

    tests/vm/guest.py --fetch                        get the kernel package, once
    tests/vm/guest.py --build build -- pagetide check
    tests/vm/guest.py --nodes 4 --cpu-nodes 2 --memory 1G -- cat /sys/devices/system/node/online
    tests/vm/guest.py --file build/tests/vm/vm_move -- vm_move small-pages
    tests/vm/guest.py --thp madvise --build build --file build/tests/vm/vm_hot -- sh -c \\
        'vm_hot --pattern huge & sleep 20; pagetide attach -p $! --for 20s --json; kill $!; wait'

One guest runs one command as root and is gone. What the command prints comes out here while it
runs, its exit status is ours. The product comes in by --build, other files by --file: a program
with the libraries it wants, a folder with all below it. They are in /guest, which is in PATH, unless
another place is given after a colon. What the command leaves in /results comes back as a tar file
named by --results. Other drivers use the class Guest in the same way.

How it works: the kernel is taken out of the package, not installed, and so are a few modules (--module). Everything else is in the
initramfs that is written here: busybox, the files, the libraries that ldd names, and an init that
sets the machine up, runs the command and turns the machine off. Output, errors, exit status and
results leave by one virtio port each, behind which QEMU keeps a regular file: a write in the guest
has ended only when the bytes are in that file, so nothing is lost when the machine goes off. The
kernel's own messages go to a serial line and are shown only when something went wrong.

The first --cpu-nodes nodes share the CPUs. The others have memory only and are slower, which the
kernel is told by distances and (--hmat, the default) by an HMAT, from which it makes two memory
tiers.
The fast node has no more than 1 GiB unless said: so it always counts as short of memory, and
NUMA balancing by memory tiers obeys its threshold instead of moving all it sees.

One fault of the emulator (seen with QEMU 7.2) is met often enough to be dealt with: while the
kernel patches its own code, as it does when NUMA balancing or a first perf event is turned on or
off, the other CPU may translate the old code and keep it, and dies of the breakpoint that was there:
"Oops: int3". No real CPU does that. Such a guest is started again, up to three times in all, and says so.

With --icount the guest's clock counts instructions, of its CPUs in turn: what else the machine below does
reaches no time in the guest.

NUMA balancing is off in the guest until the command turns it on. No time in the guest is that of a
real machine: compare only figures of one guest with each other.
"""
import argparse
import ctypes
import glob
import lzma
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.path.join(ROOT, "build-check", "vm-kernel")
PACKAGE = re.compile(r"^(linux-image-6\.12\.[0-9]+[^ ]*-amd64) ", re.M)
# Kept of those in the package, with what they depend on: virtual machines; memory that comes by a driver; swap.
MODULES = ("kvm_amd", "nfit", "dax_pmem", "kmem", "zram")
OTHER_FLAVOUR = re.compile(r"-(cloud|rt)-amd64$")

MIB = 1 << 20
FAST_MIB, SLOW_MIB = 1024, 2048
# ERMS says that copying by bytes is fast, and the kernel then copies so: emulated it takes eight times as
# long as by words, 60 ms for a huge page.
CPU = "max,la57=off,erms=off"
SKIP = 77
TIMED_OUT = 124
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)
EMULATOR_OOPS = "Oops: int3"
ATTEMPTS = 3

INIT = """#!/bin/sh
export PATH=/guest:/bin HOME=/ TERM=dumb RESULTS=/results
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir /dev/shm /dev/pts
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mount -t debugfs debugfs /sys/kernel/debug
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ip link set lo up
for module in @MODULES@; do insmod /modules/$module.ko; done
echo 0 > /proc/sys/kernel/numa_balancing
echo @THP@ > /sys/kernel/mm/transparent_hugepage/enabled
mkfifo /run/out /run/err
cat /run/out > /dev/vport0p1 &
out=$!
cat /run/err > /dev/vport0p2 &
err=$!
sh /command > /run/out 2> /run/err < /dev/null
status=$?
# Whoever is left would keep the pipes open. Kernel threads have no command line.
for one in /proc/[0-9]*; do
	pid=${one#/proc/}
	case $pid in 1|$out|$err) continue;; esac
	if [ -s $one/cmdline ] || grep -q . $one/cmdline 2> /dev/null; then
		kill -9 $pid
	fi
done 2> /dev/null
wait $out $err
if [ "$(ls -A /results)" ]; then
	tar -C /results -cf /dev/vport0p4 .
fi
echo $status > /dev/vport0p3
poweroff -f
"""


class Missing(Exception):
    """What is needed to run a guest is not here; the text says what to do about it."""


# ---- the kernel ----------------------------------------------------------------------------------

def version(name):
    """Of a kernel's package or image, to compare with others."""
    return [int(part) for part in re.findall(r"\d+", os.path.basename(name))]


def kernel():
    """The path of the newest stock kernel's image."""
    found = glob.glob(os.path.join(CACHE, "vmlinuz-6.12.*"))
    if not found:
        raise Missing("no 6.12 kernel for guests: run tests/vm/guest.py --fetch")
    return max(found, key=version)


def modules_of(image):
    """The folder of the modules of a kernel, beside it."""
    return os.path.join(os.path.dirname(image), os.path.basename(image).replace("vmlinuz-", "modules-"))


def with_dependencies(names, read):
    """Names of modules, each behind those it depends on; read(name) gives a module's bytes."""
    order = []
    for name in names:
        wanted = re.search(rb"\0depends=([^\0]*)\0", read(name))[1].decode()
        order += with_dependencies([one for one in wanted.replace("-", "_").split(",") if one], read)
        order.append(name)
    return list(dict.fromkeys(order))


def keep_modules(package, image):
    """Of an unpacked package."""
    found = {os.path.basename(path)[:-len(".ko.xz")].replace("-", "_"): path for path in
             glob.glob(os.path.join(package, "**", "*.ko.xz"), recursive=True)}

    def read(name):
        with lzma.open(found[name]) as file:
            return file.read()
    folder = os.path.join(package, "modules")
    os.mkdir(folder)
    for name in with_dependencies(MODULES, read):
        with open(os.path.join(folder, name + ".ko"), "wb") as file:
            file.write(read(name))
    shutil.rmtree(modules_of(image), ignore_errors=True)
    os.rename(folder, modules_of(image))


def module(name):
    path = os.path.join(modules_of(kernel()), name + ".ko")
    if not os.path.exists(path):
        raise Missing(f"no module {name} of the guests' kernel: run tests/vm/guest.py --fetch")
    with open(path, "rb") as file:
        return file.read()


def output_of(*command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, **more).stdout


def newest_package():
    """The name of Debian's newest package of a 6.12 kernel, as apt knows it."""
    offered = PACKAGE.findall(output_of("apt-cache", "search", "--names-only",
                                        "^linux-image-6.12").decode())
    offered = [name for name in offered if not OTHER_FLAVOUR.search(name)]
    return max(offered, key=version, default=None)


def fetch():
    """Get the kernel package, and keep its image and some modules. Nothing is done when they are there."""
    try:
        for name in MODULES:
            module(name)
        return
    except Missing:
        pass
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Missing("the guests' kernel is a Debian package: this machine has no apt-get")
    try:
        name = newest_package()
        if not name and os.geteuid() == 0:
            output_of("apt-get", "update", "-qq")
            name = newest_package()
        if not name:
            raise Missing("apt offers no linux-image-6.12*-amd64: add Debian's security or "
                          "backports archive and run apt-get update")
        os.makedirs(CACHE, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            # The user that apt downloads as may not write here.
            output_of("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name,
                      cwd=folder)
            package, = glob.glob(os.path.join(folder, "*.deb"))
            output_of("dpkg-deb", "-x", package, folder)
            image, = glob.glob(os.path.join(folder, "boot", "vmlinuz-6.12.*"))
            kept = os.path.join(CACHE, os.path.basename(image))
            keep_modules(folder, kept)
            os.rename(image, kept)
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as reason:
        raise Missing(f"the guests' kernel could not be fetched: {reason}") from reason


def product(build):
    """The files of a build folder that make up the product: as built it finds its library below."""
    inject = os.path.join("src", "inject", "libpagetide-inject.so")
    return [(os.path.join(build, "pagetide"), None),
            (os.path.join(build, inject), os.path.join("/guest", inject))]


def prerequisites():
    """Raise Missing unless all that a guest needs is here."""
    if os.uname().machine != "x86_64":
        raise Missing("guests run what was built for x86-64 only")
    for program, package in (("qemu-system-x86_64", "qemu-system-x86"),
                             ("busybox", "busybox-static")):
        if not shutil.which(program):
            raise Missing(f"no {program} for guests: install {package}")
    kernel()


# ---- the initramfs -------------------------------------------------------------------------------

class Archive:
    """A cpio archive as the kernel reads it ("newc"), made in memory."""

    def __init__(self):
        self.parts = []
        self.names = set()

    def add(self, name, mode, data=b""):
        """One entry; the folders above it come first, what is there already stays."""
        name = name.strip("/")
        if name in self.names:
            return
        above = os.path.dirname(name)
        if above and name != "TRAILER!!!":
            self.add(above, stat.S_IFDIR | 0o755)
        self.names.add(name)
        encoded = name.encode() + b"\0"
        fields = [len(self.names), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0]
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
        self.parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]

    def folder(self, name):
        self.add(name, stat.S_IFDIR | 0o755)

    def text(self, name, text, mode=0o755):
        self.add(name, stat.S_IFREG | mode, text.encode())

    def link(self, name, target):
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def file(self, path, name):
        """A file with the libraries it wants, or a folder with all below it."""
        if os.path.isdir(path):
            self.folder(name)
            for entry in sorted(os.listdir(path)):
                self.file(os.path.join(path, entry), os.path.join(name, entry))
            return
        with open(path, "rb") as file:
            data = file.read()
        self.add(name, stat.S_IFREG | stat.S_IMODE(os.stat(path).st_mode), data)
        if data[:4] == b"\x7fELF":
            for library in libraries(path):
                self.file_as_is(library)

    def file_as_is(self, path):
        with open(path, "rb") as file:
            self.add(path, stat.S_IFREG | 0o755, file.read())

    def write(self, path):
        self.add("TRAILER!!!", 0)
        with open(path, "wb") as file:
            file.write(b"".join(self.parts))


def libraries(path):
    """What the dynamic linker wants for a program: nothing for a static one."""
    said = subprocess.run(["ldd", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          check=False).stdout.decode()
    missing = re.findall(r"^\s*(\S+) => not found", said, re.M)
    if missing:
        raise Missing(f"{path} wants {missing[0]}, which is not here")
    return re.findall(r"(?:=>|^)\s*(/\S+)", said, re.M)


def write_initramfs(path, command, files, machine):
    """The whole system of the guest. `files` are (path here, path there)."""
    busybox = shutil.which("busybox")
    archive = Archive()
    for folder in ("proc", "sys", "dev", "tmp", "run", "root", "guest", "results", "bin"):
        archive.folder(folder)
    archive.file(busybox, "/bin/busybox")
    for applet in output_of(busybox, "--list").decode().split():
        if applet != "busybox":
            archive.link(f"/bin/{applet}", "busybox")
    modules = with_dependencies(machine.modules, module)
    for name in modules:
        archive.add(f"/modules/{name}.ko", stat.S_IFREG | 0o644, module(name))
    archive.text("/init", INIT.replace("@THP@", machine.thp).replace("@MODULES@", " ".join(modules)))
    archive.text("/command", command)
    # For programs that print who runs them.
    archive.text("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n", 0o644)
    archive.text("/etc/group", "root:x:0:\n", 0o644)
    for source, target in files:
        archive.file(source, target)
    archive.write(path)


# ---- the machine ---------------------------------------------------------------------------------

class Machine:
    """What the guest is made of: nodes, memory (MiB each), CPUs, tiers, huge pages, modules. `late`: the last
    node has none until the guest gives it some of a device that it has (as COMING_SCRIPT in run.py does).
    `icount`: its clock counts instructions, 2^icount ns each, whatever else the machine below does."""

    def __init__(self, nodes=2, cpu_nodes=1, memory_mib=None, cpus=2, hmat=True, thp="never",
                 kernel_options="", late=False, modules=(), icount=None):
        self.late, self.icount = late, icount
        if late:
            kernel_options += " memhp_default_state=offline"
            modules = [*modules, "nfit", "dax_pmem", "kmem"]
        self.nodes, self.cpu_nodes, self.cpus = nodes, cpu_nodes, cpus
        self.modules = modules
        self.hmat, self.thp, self.kernel_options = hmat, thp, kernel_options
        given = list(memory_mib or [])
        self.memory_mib = [given[min(node, len(given) - 1)] if given else
                           FAST_MIB if node < cpu_nodes else SLOW_MIB for node in range(nodes)]
        if not 1 <= cpu_nodes <= nodes or cpus < cpu_nodes:
            raise ValueError(f"{cpu_nodes} nodes with CPUs of {nodes} nodes and {cpus} CPUs")

    def initiator(self, node):
        """The node with CPUs that is next to this one."""
        return node if node < self.cpu_nodes else node % self.cpu_nodes

    def distance(self, one, other):
        if one == other:
            return 10
        far = self.initiator(one) != self.initiator(other)
        if one < self.cpu_nodes and other < self.cpu_nodes:
            return 20
        return 40 if far else 30

    def node_options(self):
        words = []
        for node, mib in enumerate(self.memory_mib):
            words += ["-object", f"memory-backend-ram,id=ram{node},size={mib}M"]
            initiator = f",initiator={self.initiator(node)}" if self.hmat else ""
            if self.late and node == self.nodes - 1:
                words += ["-numa", f"node,nodeid={node}{initiator}",
                          "-device", f"nvdimm,id=late,memdev=ram{node},node={node}"]
                continue
            share = ""
            if node < self.cpu_nodes:
                first = node * self.cpus // self.cpu_nodes
                last = (node + 1) * self.cpus // self.cpu_nodes - 1
                share = f",cpus={first}-{last}"
            words += ["-numa", f"node,nodeid={node},memdev=ram{node}{share}{initiator}"]
        for one in range(self.nodes):
            for other in range(self.nodes):
                words += ["-numa", f"dist,src={one},dst={other},val={self.distance(one, other)}"]
        return words + (self.hmat_options() if self.hmat else [])

    def memory_options(self):
        late = self.memory_mib[-1] if self.late else 0
        slots = f",slots=1,maxmem={sum(self.memory_mib) + 1024}M" if late else ""
        return ["-m", f"{sum(self.memory_mib) - late}M{slots}"]

    def hmat_options(self):
        """Latency (ns) and bandwidth (MiB/s) from each node with CPUs to each node."""
        words = []
        for one in range(self.cpu_nodes):
            for other in range(self.nodes):
                times = self.distance(one, other) // 10
                to = f"hmat-lb,initiator={one},target={other},hierarchy=memory,data-type=access-"
                words += ["-numa", f"{to}latency,latency={100 * times}",
                          "-numa", f"{to}bandwidth,bandwidth={20480 // times}M"]
        return words

    def command(self, image, initramfs, folder):
        """QEMU's command line; what the guest says goes to files in `folder`."""
        # On a machine with much else to do its timer looks broken to a kernel that checks it.
        append = ("console=ttyS0 quiet panic=-1 oops=panic mitigations=off tsc=reliable no_timer_check "
                  + self.kernel_options)
        clock = [] if self.icount is None else ["-icount", f"shift={self.icount},align=off,sleep=off"]
        threads = "single" if clock else "multi"
        words = ["qemu-system-x86_64", "-accel", f"tcg,thread={threads}", *clock, "-cpu", CPU,
                 "-machine", f"pc,hmat={'on' if self.hmat else 'off'},nvdimm={'on' if self.late else 'off'}",
                 "-smp", str(self.cpus), *self.memory_options(), *self.node_options(),
                 "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                 "-kernel", image, "-initrd", initramfs, "-append", append,
                 "-serial", "file:" + os.path.join(folder, "console"),
                 "-device", "virtio-serial-pci"]
        for number, name in enumerate(("output", "errors", "status", "results"), 1):
            words += ["-chardev", f"file,id={name},path={os.path.join(folder, name)}",
                      "-device", f"virtserialport,chardev={name},nr={number}"]
        return words


class Result:
    """How a command in a guest ended: status None when it never did, then `reason` says why."""

    def __init__(self, folder, seconds, timed_out):
        def read(name):
            try:
                with open(os.path.join(folder, name), "rb") as file:
                    return file.read()
            except FileNotFoundError:
                return b""
        self.output, self.errors, self.results = read("output"), read("errors"), read("results")
        self.console = read("console").decode(errors="replace")
        self.seconds, self.attempts = seconds, 1
        said = read("status").strip()
        self.status = int(said) if said.isdigit() else None
        self.reason = None
        if self.status is None:
            what = f"no end after {seconds:.0f} s" if timed_out else "the guest died"
            oops = re.search("Oops:|Kernel panic", self.console)
            said = (self.console[oops.start():][:2000] if oops
                    else self.console.strip()[-2000:])
            self.reason = f"{what}; its kernel said: {said}"


def die_with_us():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Guest:
    """A guest for one command: Guest(machine, files).run("shell commands") gives a Result."""

    def __init__(self, machine=None, files=()):
        self.machine = machine or Machine()
        self.files = [(path, there or "/guest/" + os.path.basename(path.rstrip("/")))
                      for path, there in files]

    def run(self, command, timeout_s=120, show=False):
        """Run shell commands as root. With `show` what they say is passed on while they run."""
        prerequisites()
        for attempt in range(1, ATTEMPTS + 1):
            with tempfile.TemporaryDirectory(prefix="pagetide-vm-") as folder:
                result = self.run_once(command, timeout_s, show, folder)
            result.attempts = attempt
            if EMULATOR_OOPS not in result.console: # it may also die of it while it is turned off
                break
            if show:
                print("guest.py: the emulator failed; once more from the start", file=sys.stderr)
        return result

    def run_once(self, command, timeout_s, show, folder):
        initramfs = os.path.join(folder, "initramfs")
        write_initramfs(initramfs, command, self.files, self.machine)
        started = time.monotonic()
        with open(os.path.join(folder, "qemu"), "w+b") as said:
            process = subprocess.Popen(self.machine.command(kernel(), initramfs, folder),
                                       stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                                       preexec_fn=die_with_us)
            try:
                timed_out = not self.attend(process, folder, started + timeout_s, show)
            finally:
                process.kill()
                process.wait()
            result = Result(folder, time.monotonic() - started, timed_out)
            said.seek(0)
            trouble = said.read().decode(errors="replace").strip()
        if result.status is None and trouble:
            result.reason += f"; QEMU said: {trouble[-2000:]}"
        return result

    @staticmethod
    def attend(process, folder, deadline, show):
        """Wait for the end, passing on what comes. False when time is up."""
        places = {"output": [sys.stdout.buffer, 0], "errors": [sys.stderr.buffer, 0]}

        def pass_on():
            for name, place in places.items():
                path = os.path.join(folder, name)
                if not os.path.exists(path):
                    continue
                with open(path, "rb") as file:
                    file.seek(place[1])
                    data = file.read()
                place[0].write(data)
                place[0].flush()
                place[1] += len(data)

        while True:
            try:
                process.wait(timeout=0.1)
                ended = True
            except subprocess.TimeoutExpired:
                ended = False
            if show:
                pass_on()
            if ended or time.monotonic() > deadline:
                return ended


# ---- the command line ----------------------------------------------------------------------------

def mebibytes(text):
    found = re.fullmatch(r"(\d+)([MG])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"not a size like 512M or 2G: {text}")
    return int(found[1]) * (1024 if found[2] == "G" else 1)


def parse():
    parser = argparse.ArgumentParser(
        description="Run one command as root in a guest with NUMA nodes.")
    parser.add_argument("--fetch", action="store_true", help="only get the guests' kernel")
    parser.add_argument("--nodes", type=int, default=2, help="nodes in all (2)")
    parser.add_argument("--cpu-nodes", type=int, default=1, help="so many have CPUs (1)")
    parser.add_argument("--cpus", type=int, default=2, help="CPUs in all (2)")
    parser.add_argument("--memory", type=lambda text: [mebibytes(part) for part in text.split(",")],
                        metavar="SIZE[,SIZE]...", help="of each node, the last goes on "
                        f"for the rest ({FAST_MIB}M with CPUs, {SLOW_MIB}M without)")
    parser.add_argument("--hmat", action=argparse.BooleanOptionalAction, default=True,
                        help="tell the kernel how much slower the others are: two tiers")
    parser.add_argument("--thp", choices=("always", "madvise", "never"), default="never",
                        help="transparent huge pages (never)")
    parser.add_argument("--kernel-options", default="", help="more words for the kernel")
    parser.add_argument("--icount", type=int, metavar="N", help="its clock counts instructions, 2^N ns each: "
                        "no load of this machine reaches its times")
    parser.add_argument("--module", action="append", default=[], choices=MODULES,
                        help="a module of the kernel to load, with those it depends on")
    parser.add_argument("--build", metavar="FOLDER", help="have pagetide as built there")
    parser.add_argument("--file", action="append", default=[], metavar="PATH[:THERE]",
                        help="a file or folder to have in the guest, in /guest unless said")
    parser.add_argument("--results", metavar="FILE", help="a tar file for what is in /results")
    parser.add_argument("--timeout", type=float, default=120, help="seconds (120)")
    parser.add_argument("--console", action="store_true", help="show what the kernel said")
    parser.add_argument("command", nargs="*", help="after --, like sh -c '...'")
    options = parser.parse_args()
    if not options.fetch and not options.command:
        parser.error("a command is needed, after --")
    return options


def quote(word):
    return "'" + word.replace("'", "'\\''") + "'"


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if options.fetch:
            fetch()
            return 0
        machine = Machine(options.nodes, options.cpu_nodes, options.memory, options.cpus,
                          options.hmat, options.thp, options.kernel_options,
                          modules=options.module, icount=options.icount)
        files = [(path, there) for path, _, there in
                 (word.partition(":") for word in options.file)]
        files += product(options.build) if options.build else []
        result = Guest(machine, files).run(" ".join(map(quote, options.command)),
                                           options.timeout, show=True)
    except Missing as reason:
        print(f"guest.py: {reason}", file=sys.stderr)
        return SKIP
    except (OSError, ValueError) as reason:
        print(f"guest.py: {reason}", file=sys.stderr)
        return 2
    if options.results:
        with open(options.results, "wb") as file:
            file.write(result.results)
    if options.console:
        print(result.console, file=sys.stderr)
    if result.status is None:
        print(f"guest.py: {result.reason}", file=sys.stderr)
        return TIMED_OUT
    return result.status


if __name__ == "__main__":
    sys.exit(main())
