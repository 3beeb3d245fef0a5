// What a mover gives up before it looks at anything that comes from the network.
//
// A mover works with the descriptors that the agent hands it and needs nothing else of the machine:
// no files, no sockets of its own, no other process. Whoever takes it over through the bytes it
// parses has the one migration whose key it holds, and no way out.
#pragma once

#include "absl/status/status.h"

namespace sealift::mover {

// Descriptors a mover may have open: three for each of 34 streams, 64 hellos, one datagram full of
// descriptors, and a handful.
inline constexpr unsigned kMaxDescriptors = 512;

// Confine takes from this process, and from every thread that it makes later, for good: core files
// (RLIMIT_CORE), more than kMaxDescriptors descriptors, all capabilities, new privileges through
// exec (PR_SET_NO_NEW_PRIVS), and every system call that is not on the allow-list of confinement.cc
// (seccomp). The bounding set of capabilities falls too where the process still may touch it; one
// that was started without CAP_SETPCAP has nothing in it that could come back.
//
// A refused call fails with EPERM; those that have no place in a mover at all, such as execve and
// ptrace, end the process. To be called once, after everything that opens files - OpenSSL's
// configuration, the time zone - and while the process has one thread. An error names the step and
// means that the process must end.
[[nodiscard]] absl::Status Confine();

}  // namespace sealift::mover
