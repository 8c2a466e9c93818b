"""Memory that runs out, in the application or in a worker: the task at hand fails, and says so."""

from __future__ import annotations

from scripts import run_script

LIMIT = """
    import resource

    def vm_kib():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmSize"))

    def allow(mib):
        most = (vm_kib() << 10) + (mib << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
"""


def test_a_result_that_does_not_fit_fails_its_task_only(tmp_path):
    done = run_script(
        tmp_path,
        LIMIT
        + """
    from prefork import TaskPool

    def much(mib):
        return b"x" * (mib << 20)

    with TaskPool(1) as pool:
        pool.apply(len, ("up",))
        allow(150)
        behind = None
        for mib in (300, 100):  # it cannot be read; it cannot be copied
            task = pool.apply_async(much, (mib,))
            behind = pool.apply_async(len, ("abc",), waitforslot=False)
            print(repr(task.exception()), behind.get())
        print(pool.stats["workers_exited"], pool.state)
    """,
    )
    error = "MemoryError('there is no room for what much has returned') 3\n"
    assert (done.returncode, done.stdout) == (0, error * 2 + "0 running\n"), done.stderr


def test_arguments_that_do_not_fit_into_the_worker_fail_their_task_only(tmp_path):
    done = run_script(
        tmp_path,
        LIMIT
        + """
    from prefork import TaskPool

    with TaskPool(1, initializer=allow, initargs=(150,)) as pool:
        for mib in (300, 100):
            task = pool.apply_async(len, (b"x" * (mib << 20),))
            behind = pool.apply_async(len, ("abc",), waitforslot=False)
            print(type(task.exception()).__name__, behind.get())
        print(pool.stats["workers_exited"], pool.state)
    """,
    )
    assert (done.returncode, done.stdout) == (
        0,
        "MemoryError 3\nMemoryError 3\n0 running\n",
    ), done.stderr


def test_arguments_are_not_copied_again_when_they_are_sent(tmp_path):
    done = run_script(
        tmp_path,
        LIMIT
        + """
    from prefork import TaskPool

    with TaskPool(1) as pool:
        pool.apply(len, ("up",))
        allow(350)  # for the bytes, their pickle, and the pool's copy
        print(pool.apply(len, (b"x" * (100 << 20),)) >> 20)
    """,
    )
    assert (done.returncode, done.stdout) == (0, "100\n"), done.stderr
