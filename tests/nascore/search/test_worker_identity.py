"""Whether the process of a worker is alive."""

import dataclasses
import subprocess
import sys
import time

import psutil
import pytest

from nascore.search.worker_identity import WorkerIdentity, born_s


def test_a_process_is_gone_when_it_has_ended_or_its_number_is_used_again() -> None:
    me = WorkerIdentity.here()
    assert not me.is_gone()
    assert not dataclasses.replace(me, host="elsewhere", pid=1).is_gone(), "nothing is known"
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.DEVNULL
    )
    other = dataclasses.replace(
        me, id="other", pid=process.pid, born_s=born_s(psutil.Process(process.pid))
    )
    assert not other.is_gone()
    assert dataclasses.replace(other, born_s=other.born_s - 100).is_gone(), "it had this number"
    process.kill()
    end = time.monotonic() + 10
    while not other.is_gone():  # a zombie, until its exit status is read
        assert time.monotonic() < end
        time.sleep(0.01)
    process.wait()
    assert other.is_gone()
    me.retire()
    assert me.is_gone()


def test_a_clock_that_is_set_ends_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux computes the time of boot from the clock, and psutil the start of a process from it."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.DEVNULL
    )
    here = WorkerIdentity.here()
    other = dataclasses.replace(here, pid=process.pid, born_s=born_s(psutil.Process(process.pid)))
    boot_s = psutil.boot_time()
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot_s - 3600)
    assert abs(psutil.Process(process.pid).create_time() - time.time()) > 3000
    assert not other.is_gone()
    process.kill()
    process.wait()
    assert other.is_gone()
    here.retire()
