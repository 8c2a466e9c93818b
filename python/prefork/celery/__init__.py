"""prefork under Celery: `worker_pool = "prefork.celery:TaskPool"`, and nothing else changes.

Or `CELERY_CUSTOM_WORKER_POOL=prefork.celery:TaskPool` with `--pool custom`, or `install()`.

Request.execute_using_pool    Celery's
TaskPool.apply_async          Celery's BasePool, and what it expects of us   (prefork.py)
Pool.apply_async              billiard's words; one Job for each request     (pool.py, job.py)
prefork.TaskPool.apply_async  the pool                                       (../pool.py)
Call.__call__                 in the worker                                  (child.py)
Job.succeeded, Job.failed     Celery's callbacks, with billiard's classes    (job.py, einfo.py)
"""

from .prefork import TaskPool, install, process_destructor, process_initializer

__all__ = ["TaskPool", "install", "process_destructor", "process_initializer"]
