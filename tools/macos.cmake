# A toolchain file: compiles for macOS with zig, which brings the headers and libraries for it.
#   cmake --toolchain tools/macos.cmake -DZIG=/path/to/zig -DARCH=aarch64
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR ${ARCH})
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ZIG ARCH)
set(CMAKE_C_COMPILER ${ZIG} cc)
set(CMAKE_C_COMPILER_TARGET ${ARCH}-macos)
set(CMAKE_C_ARCHIVE_CREATE "${ZIG} ar qc <TARGET> <OBJECTS>")
set(CMAKE_C_ARCHIVE_FINISH "${ZIG} ranlib <TARGET>")
# Without runtimes of its own, which zig would first compile; and what nobody calls must link, too.
set(CMAKE_C_FLAGS_INIT -fno-sanitize=undefined)
set(CMAKE_EXE_LINKER_FLAGS_INIT "-rtlib=none -Wl,--no-gc-sections")
