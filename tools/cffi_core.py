"""Writes the C source of the cffi binding, of what csrc/prefork.h declares between its two marks:
tools/cffi_core.py HEADER OUTPUT"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from cffi import FFI

# What is of the binding itself. A batch of events is given up with the memory that it is in.
DECLARATIONS = """
typedef int... pid_t;
enum { BATCH = 256 };
void clear_batch(pf_event *events);
extern "Python" pid_t fork_with_hooks(void *context);
"""
SOURCE = """
#include "prefork.h"

enum { BATCH = 256 };

static void clear_batch(pf_event *events)
{
    for (int i = 0; i < BATCH; i++)
        pf_event_clear(&events[i]);
}
"""


def declarations(header: str) -> str:
    """What the header says between its marks. Of its macros all are numbers."""
    found = re.search(r"/\* cffi: begin \*/(.*)/\* cffi: end \*/", header, re.DOTALL)
    if found is None:
        raise SystemExit("the header has no marks for cffi")
    numbers = dict.fromkeys(re.findall(r"^#define (PF_\w+)", header, re.MULTILINE))
    code = re.sub(r"^#.*\n", "", found[1], flags=re.MULTILINE)
    return code + "".join(f"static const int {name};\n" for name in numbers)


def main(header: str, output: str) -> None:
    """Exits non-zero if cffi does not understand what the header says."""
    ffi = FFI()
    first, *rest = DECLARATIONS.strip().splitlines()
    ffi.cdef(first)
    ffi.cdef(declarations(Path(header).read_text(encoding="utf-8")) + "\n".join(rest))
    ffi.set_source("prefork._cffi_core", SOURCE)
    ffi.emit_c_code(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
