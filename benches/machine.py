"""What a measurement was taken on: the machine, its kernel's settings, and the versions of everything that took part.

A figure without these is a rumour; the benchmarks store them beside every part they measure.
"""

import importlib.metadata
import json
import os
import platform
import re
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What decides the speed of the heap. Uncommitted changes elsewhere do not make a measurement doubtful.
MEASURED_SOURCES = ("crates", "python", "Cargo.lock", "Cargo.toml")


def facts():
    """The machine and its settings, as plain data."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "virtual": "hypervisor" in Path("/proc/cpuinfo").read_text(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "huge_pages": huge_page_setting(),
        "glibc": os.confstr("CS_GNU_LIBC_VERSION").removeprefix("glibc "),
    }


def cpu_model():
    """The processor's name as the kernel knows it; its architecture where the kernel names none."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def huge_page_setting():
    """The setting of transparent huge pages: `always`, `madvise`, `never`, or `not built in`."""
    try:
        setting = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return "not built in"
    return setting.partition("[")[2].partition("]")[0]


@dataclass(frozen=True)
class CpuTime:
    """Seconds of processor time since the machine started, and of this process and the children it has waited for."""

    total_s: float
    busy_s: float
    stolen_s: float
    ours_s: float

    @classmethod
    def now(cls):
        """Read from the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal."""
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        seconds = [count / os.sysconf("SC_CLK_TCK") for count in ticks]
        waiting_s, stolen_s = seconds[3] + seconds[4], seconds[7]
        own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        ours_s = sum(usage.ru_utime + usage.ru_stime for usage in own)
        return cls(sum(seconds), sum(seconds) - waiting_s - stolen_s, stolen_s, ours_s)

    def disturbance(self, earlier):
        """Shares of the processor time since `earlier` that went to others: to processes here, and to other machines."""
        total_s = max(self.total_s - earlier.total_s, 1e-9)
        others_s = (self.busy_s - earlier.busy_s) - (self.ours_s - earlier.ours_s)
        stolen_s = self.stolen_s - earlier.stolen_s
        return {"others": round(max(others_s / total_s, 0), 4), "stolen": round(stolen_s / total_s, 4)}


def disturbance_now():
    """`CpuTime.disturbance` of the second that this takes."""
    earlier = CpuTime.now()
    time.sleep(1)
    return CpuTime.now().disturbance(earlier)


def commit(sources=MEASURED_SOURCES, last_change=False):
    """The commit of this checkout, or the one that last changed the sources; `+` where the sources differ from it.

    `unknown` outside a checkout.
    """
    try:
        name = git("log", "-1", "--format=%H", *(["--", *sources] if last_change else [])).strip()[:10]
        changed = git("status", "--porcelain", "--", *sources).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+" if changed else "")


def git(*arguments):
    """What `git` prints, run in this checkout."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout


def interpreter(python):
    """Version and build of an interpreter, and of the heapkeeper installed for it (null where there is none)."""
    question = (
        "import importlib.metadata as m, json, platform, sys, sysconfig\n"
        "built = sys.version.partition('[')[2].partition(']')[0]\n"  # PyPy names itself there, and its compiler.
        "installed = [d.version for d in m.distributions(name='heapkeeper')]\n"
        "print(json.dumps({'implementation': platform.python_implementation(), 'version': platform.python_version(),\n"
        "  'compiler': platform.python_compiler() or built, 'optimized': '--enable-optimizations' in"
        " (sysconfig.get_config_var('CONFIG_ARGS') or ''),\n"
        "  'shared': bool(sysconfig.get_config_var('Py_ENABLE_SHARED')), 'heapkeeper': (installed or [None])[0]}))"
    )
    answer = subprocess.run([str(python), "-c", question], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(answer.stdout)


def locked_versions(lock, names):
    """Name → version of crates, as a Cargo.lock has them."""
    found = dict(re.findall(r'^name = "([^"]+)"\nversion = "([^"]+)"$', Path(lock).read_text(), re.MULTILINE))
    return {name: found.get(name) for name in names}


def tool_version(*command):
    """The first line that a tool prints about itself, or null where it is not installed."""
    try:
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.strip().splitlines()[0]


def package_version(name, folder=None):
    """The installed version of a Python package, looked for in `folder` or where this process imports from."""
    found = importlib.metadata.distributions(name=name, **({"path": [str(folder)]} if folder else {}))
    return next((distribution.version for distribution in found), None)
