"""A low limit of descriptors (ulimit -n): a pool that would not fit is refused, whole."""

from __future__ import annotations

from scripts import run_script

LOW = """
    import errno, os, resource
    from helpers import descendants, descriptors, eventually, full, square
    from prefork import TaskPool

    def limit_descriptors(count):
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, 1024))

    def refused(function, *args):
        try:
            function(*args)
        except OSError as error:
            assert error.errno == errno.EMFILE, error
            assert "RLIMIT_NOFILE" in str(error)
            return True

    limit_descriptors(100)
"""


def test_a_start_that_descriptors_do_not_suffice_for_leaves_nothing(tmp_path):
    done = run_script(
        tmp_path,
        LOW
        + """
    before = descriptors()
    pool = TaskPool(30)
    assert refused(pool.start)
    assert pool.state == "new"
    assert descriptors() == before
    assert not descendants(os.getpid())
    limit_descriptors(300)
    with pool:
        assert pool.map(square, range(9)) == [i * i for i in range(9)]
    print("fine")
    """,
    )
    assert done.stdout == "fine\n", done.stderr


def test_a_pool_that_fits_works_and_grows_as_far_as_it_fits(tmp_path):
    done = run_script(
        tmp_path,
        LOW
        + """
    with TaskPool(2, putlocks=False) as pool:
        eventually(lambda: full(pool, 2), pool)
        before = descriptors()
        assert refused(pool.grow, 30)
        assert pool.limit == 2
        assert descriptors() == before
        pool.grow(1)
        eventually(lambda: full(pool, 3), pool)
        assert pool.map(square, range(9)) == [i * i for i in range(9)]
    print("fine")
    """,
    )
    assert done.stdout == "fine\n", done.stderr


def test_captured_output_costs_one_more_for_each_worker(tmp_path):
    done = run_script(
        tmp_path,
        LOW
        + """
    limit_descriptors(300)
    used = []
    for captures in (False, True):
        with TaskPool(20, capture_output=captures) as pool:
            assert pool.map(square, range(9)) == [i * i for i in range(9)]
            eventually(lambda: full(pool, 20), pool)
            used.append(sum("memfd:prefork-output" in what for what in descriptors().values()))
    assert used == [0, 20], used
    limit_descriptors(len(descriptors()) + 64 + 20 * 3 + 10)
    assert refused(TaskPool(20, capture_output=True).start)
    with TaskPool(20) as pool:
        pass
    print("fine")
    """,
    )
    assert done.stdout == "fine\n", done.stderr
