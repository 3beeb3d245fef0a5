# One folder is one static library, one namespace and one target. The dependencies written here are the
# allowed include arrows: scripts/check_layers fails on an include that no link line allows.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(absl REQUIRED)
find_package(GTest REQUIRED)

add_library(sealift_flags INTERFACE)
target_compile_options(sealift_flags INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Werror -fstack-protector-strong)
if(NOT SEALIFT_SANITIZE)
  target_compile_options(sealift_flags INTERFACE $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
endif()
target_include_directories(sealift_flags INTERFACE "${CMAKE_SOURCE_DIR}/src")
if(SEALIFT_SANITIZE)
  add_compile_options(-fsanitize=${SEALIFT_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # g++ 12 takes the sanitizers' own code for it.
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  add_link_options(-fsanitize=${SEALIFT_SANITIZE})
endif()
if(SEALIFT_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# Four ways to compile, each with its precompiled headers, which are most of the compile time. What carries
# guests (core) is optimised; the edges wait for the network and include gRPC and JSON; tests run once.
set(sealift_core_flags "")
set(sealift_edge_flags -O1)
if(SEALIFT_SANITIZE)
  set(sealift_edge_flags -O0)  # compiling is what costs there
endif()
set(sealift_core_test_flags -O0 -U_FORTIFY_SOURCE)
set(sealift_edge_test_flags ${sealift_core_test_flags})

find_package(spdlog REQUIRED)
# sealift_precompile(WAY HEADERS <x.h> ... DEPS x::x ...): beyond those of cmake/precompiled.h.
function(sealift_precompile way)
  cmake_parse_arguments(ARG "" "" "HEADERS;DEPS" ${ARGN})
  set(target sealift_precompiled_${way})
  add_library(${target} STATIC "${CMAKE_SOURCE_DIR}/cmake/precompiled.cc")
  target_link_libraries(${target} PRIVATE sealift_flags absl::statusor spdlog::spdlog Threads::Threads ${ARG_DEPS})
  target_compile_options(${target} PRIVATE ${sealift_${way}_flags})
  target_precompile_headers(${target} PRIVATE "${CMAKE_SOURCE_DIR}/cmake/precompiled.h" ${ARG_HEADERS})
endfunction()
sealift_precompile(core)
sealift_precompile(core_test HEADERS <gmock/gmock.h> <gtest/gtest.h> DEPS GTest::gmock)
# Those of the edges need the messages of api/, where they are made.

function(sealift_compile target way)
  target_compile_options(${target} PRIVATE ${sealift_${way}_flags})
  target_precompile_headers(${target} REUSE_FROM sealift_precompiled_${way})
endfunction()

# EDGE in the functions below picks the way.
macro(sealift_parse one_value)
  cmake_parse_arguments(ARG "EDGE" "${one_value}" "SOURCES;DEPS" ${ARGN})
  set(way core)
  if(ARG_EDGE)
    set(way edge)
  endif()
endmacro()

# sealift_library(NAME [EDGE] SOURCES a.cc b.cc DEPS sealift_base absl::status ...)
function(sealift_library name)
  sealift_parse("" ${ARGN})
  add_library(sealift_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(sealift_${name} PUBLIC sealift_flags ${ARG_DEPS})
  sealift_compile(sealift_${name} ${way})
endfunction()

# sealift_executable(NAME [EDGE] SOURCES main.cc DEPS ...): the binary is written to build/bin.
function(sealift_executable name)
  sealift_parse("" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE sealift_flags ${ARG_DEPS})
  sealift_compile(${name} ${way})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
endfunction()

# What has no gRPC in it, which ThreadSanitizer does not understand: label and target of its tests.
add_custom_target(core_tests)

# sealift_test(NAME [EDGE] SOURCES x_test.cc DEPS ... [LABEL unit] [TIMEOUT 120] [SHARDS 1]): one gtest binary per
# module, which is run as so many ctest entries with a part of its tests each: a long one would keep one core only.
function(sealift_test name)
  sealift_parse("LABEL;TIMEOUT;SHARDS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE sealift_flags ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE SEALIFT_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  sealift_compile(${name} ${way}_test)
  # Each file of tests has names of its own.
  set_target_properties(${name} PROPERTIES UNITY_BUILD OFF)
  if(NOT ARG_EDGE)
    list(APPEND ARG_LABEL core)
    add_dependencies(core_tests ${name})
  endif()
  if(NOT ARG_SHARDS)
    set(ARG_SHARDS 1)
  endif()
  math(EXPR last "${ARG_SHARDS} - 1")
  foreach(index RANGE ${last})
    set(entry ${name})
    if(ARG_SHARDS GREATER 1)
      string(APPEND entry "_${index}")
    endif()
    add_test(NAME ${entry} COMMAND ${name})
    set_tests_properties(${entry} PROPERTIES LABELS "${ARG_LABEL}" TIMEOUT ${ARG_TIMEOUT}
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${ARG_SHARDS};GTEST_SHARD_INDEX=${index}")
  endforeach()
endfunction()

if(DEFINED ENV{SEALIFT_CACHE})
  set(sealift_guest_dir "$ENV{SEALIFT_CACHE}/guest")
else()
  set(sealift_guest_dir "${CMAKE_SOURCE_DIR}/.cache/guest")
endif()

# sealift_python_test(NAME script.py LABEL TIMEOUT [ALONE]): a unittest file of the current folder, run with Debian's
# python3. It finds the programs in SEALIFT_BIN, the checkout in SEALIFT_SOURCE, the test guest in
# SEALIFT_GUEST. ALONE: what measures time, or fills the machine, has both cores for itself.
function(sealift_python_test name script label timeout)
  cmake_parse_arguments(ARG "ALONE" "" "" ${ARGN})
  add_test(NAME ${name} COMMAND /usr/bin/python3 -B "${CMAKE_CURRENT_SOURCE_DIR}/${script}")
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${timeout} ENVIRONMENT
    "SEALIFT_BIN=${CMAKE_BINARY_DIR}/bin;SEALIFT_SOURCE=${CMAKE_SOURCE_DIR};SEALIFT_GUEST=${sealift_guest_dir}")
  if(ARG_ALONE)
    set_tests_properties(${name} PROPERTIES PROCESSORS 2)
  endif()
endfunction()
