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
  add_link_options(-fsanitize=${SEALIFT_SANITIZE})
endif()
if(SEALIFT_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
endif()

# sealift_library(NAME SOURCES a.cc b.cc DEPS sealift_base absl::status ...)
function(sealift_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(sealift_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(sealift_${name} PUBLIC sealift_flags ${ARG_DEPS})
endfunction()

# sealift_executable(NAME SOURCES main.cc DEPS ...): the binary is written to build/bin.
function(sealift_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE sealift_flags ${ARG_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
endfunction()

# sealift_test(NAME SOURCES x_test.cc DEPS ... [LABEL unit] [TIMEOUT 60]): one gtest binary per module.
function(sealift_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE sealift_flags ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE SEALIFT_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  # What is tested is optimised, the tests themselves are not worth the compile time.
  target_compile_options(${name} PRIVATE -O0 -U_FORTIFY_SOURCE)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()

if(DEFINED ENV{SEALIFT_CACHE})
  set(sealift_guest_dir "$ENV{SEALIFT_CACHE}/guest")
else()
  set(sealift_guest_dir "${CMAKE_SOURCE_DIR}/.cache/guest")
endif()

# sealift_python_test(NAME script.py LABEL TIMEOUT): a unittest file of the current folder, run with Debian's
# python3. It finds the programs in SEALIFT_BIN, the checkout in SEALIFT_SOURCE, the test guest in
# SEALIFT_GUEST. An e2e test runs guests and measures time: it has two cores for itself.
function(sealift_python_test name script label timeout)
  add_test(NAME ${name} COMMAND /usr/bin/python3 -B "${CMAKE_CURRENT_SOURCE_DIR}/${script}")
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${timeout} ENVIRONMENT
    "SEALIFT_BIN=${CMAKE_BINARY_DIR}/bin;SEALIFT_SOURCE=${CMAKE_SOURCE_DIR};SEALIFT_GUEST=${sealift_guest_dir}")
  if(label STREQUAL "e2e")
    set_tests_properties(${name} PROPERTIES PROCESSORS 2)
  endif()
endfunction()
