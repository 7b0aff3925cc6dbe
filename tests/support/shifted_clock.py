"""A clock that jumps while a program runs, for the whole program and the processes that it starts.

A library that is loaded before the C library adds the seconds in a file to CLOCK_REALTIME, and
leaves CLOCK_MONOTONIC as it is, as the kernel does when NTP or an administrator sets the clock.
`libfaketime` works in the same way. A time namespace cannot do this: it shifts the monotonic clocks
only, and before its first process starts. Times of files are the kernel's and do not jump.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    char text[32] = "";
    const char *path = getenv("SHIFTED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += shift();
    return status;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
"""


@dataclass(frozen=True, slots=True)
class ShiftedClock:
    """The clock of all programs that are started with `environment`."""

    library: Path
    file: Path

    @classmethod
    def make(cls, folder: Path) -> "ShiftedClock":
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler is installed: apt-get install gcc libc6-dev")
        source, library = folder / "clock.c", folder / "clock.so"
        source.write_text(_SOURCE)
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
        return cls(library, folder / "shift")

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "LD_PRELOAD": str(self.library), "SHIFTED_CLOCK": str(self.file)}

    def jump(self, seconds: int) -> None:
        """Set the clock to `seconds` after the true time."""
        self.file.with_suffix(".new").write_text(str(seconds))
        self.file.with_suffix(".new").replace(self.file)
