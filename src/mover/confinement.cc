#include "mover/confinement.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>
#include <memory>

#include "base/sanitizers.h"
#include "base/status.h"
#include "mover/pagemap_scan.h"

#if defined(SEALIFT_ADDRESS_SANITIZER)
// The leak checker of AddressSanitizer stops the process from a clone that attaches to it with
// ptrace. A confined process cannot: its leaks are looked for in the tests of its parts.
extern "C" int __lsan_is_turned_off();
extern "C" int __lsan_is_turned_off() { return 1; }
#endif

namespace sealift::mover {
namespace {

using Filter = std::unique_ptr<void, decltype(&seccomp_release)>;

// What a mover does, by what it is for. None of these names a file, reaches another process or
// makes a socket out of nothing.
constexpr int kAllowed[] = {
    // records, hellos, channels, the agent, the log
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(accept4),
    SCMP_SYS(setsockopt),
    SCMP_SYS(shutdown),
    SCMP_SYS(close),
    SCMP_SYS(poll),
    SCMP_SYS(eventfd2),
    SCMP_SYS(fstat),
    SCMP_SYS(lseek),  // populated parts of guest memory
    // memory, secret memory (ftruncate gives a memfd_secret its size)
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(memfd_secret),
    SCMP_SYS(ftruncate),
    // threads
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    SCMP_SYS(sigaltstack),
    // time and random numbers
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getrandom),
    // signals and the end
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
#if defined(SEALIFT_ADDRESS_SANITIZER)
    // the runtimes probe whether an address can be read by writing from it into a pipe
    SCMP_SYS(pipe),
    SCMP_SYS(pipe2),
#endif
};

// Calls by which a process that was taken over leaves its confinement or reaches into another one.
// No library calls them to find something out, so there is no error for them: the process ends.
// Everything else fails with EPERM, because a C library may well try a call that it can do without,
// and a migration must not die of that.
constexpr int kDeadly[] = {
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(kcmp),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(bpf),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
};

absl::Status LimitResources() {
  // Not RLIMIT_FSIZE and RLIMIT_NPROC: the first would also stop memfd_secret and a log that is a
  // file, the second counts the threads of all movers of a host together.
  const rlimit no_core{0, 0};
  const rlimit descriptors{kMaxDescriptors, kMaxDescriptors};
  if (setrlimit(RLIMIT_CORE, &no_core) != 0 || setrlimit(RLIMIT_NOFILE, &descriptors) != 0) {
    return base::ErrnoStatus("lower the limits of the process", errno);
  }
  return absl::OkStatus();
}

// Without CAP_SETPCAP the bounding set stays as it is. It says what an exec could give at most;
// with no new privileges and without execve that is nothing.
absl::Status EmptyBoundingSet() {
  for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0;
       ++capability) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
    return errno == EPERM ? absl::OkStatus() : base::ErrnoStatus("drop a capability", errno);
  }
  return absl::OkStatus();
}

absl::Status DropCapabilities() {
  SEALIFT_RETURN_IF_ERROR(EmptyBoundingSet());
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  // The ambient set is part of the permitted one and falls with it.
  if (syscall(SYS_capset, &header, none) != 0) {
    return base::ErrnoStatus("give up all capabilities", errno);
  }
  return absl::OkStatus();
}

// Collects rules and keeps the first error.
class Rules {
 public:
  explicit Rules(scmp_filter_ctx filter) : filter_(filter) {}

  void Add(std::uint32_t action, int call, std::initializer_list<scmp_arg_cmp> conditions = {}) {
    if (error_ != 0) return;
    error_ = seccomp_rule_add_array(filter_, action, call, static_cast<unsigned>(conditions.size()),
                                    conditions.begin());
  }
  void Set(scmp_filter_attr attribute, std::uint32_t value) {
    if (error_ == 0) error_ = seccomp_attr_set(filter_, attribute, value);
  }
  void Load() {
    if (error_ == 0) error_ = seccomp_load(filter_);
  }
  // A negative errno, or 0.
  [[nodiscard]] int error() const { return error_; }

 private:
  scmp_filter_ctx filter_;
  int error_ = 0;
};

scmp_arg_cmp Equals(unsigned argument, std::uint64_t value) {
  return {argument, SCMP_CMP_EQ, value, 0};
}

// Calls that are allowed with some arguments only.
void AddConditionalRules(Rules& rules) {
  // No memory is ever made executable.
  rules.Add(SCMP_ACT_ALLOW, SCMP_SYS(mmap), {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)});
  rules.Add(SCMP_ACT_ALLOW, SCMP_SYS(mprotect), {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)});
  // Threads, not processes. The flags of clone3 are in memory, where no filter can see them: the C
  // library takes clone when it is told that there is no clone3.
  rules.Add(SCMP_ACT_ALLOW, SCMP_SYS(clone),
            {SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)});
  rules.Add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
  // abort() signals its own thread.
  rules.Add(SCMP_ACT_ALLOW, SCMP_SYS(tgkill), {Equals(0, static_cast<std::uint64_t>(getpid()))});
  // What the guest has written.
  for (const unsigned long call :
       {kPagemapScanCall, static_cast<unsigned long>(UFFDIO_WRITEPROTECT)}) {
    rules.Add(SCMP_ACT_ALLOW, SCMP_SYS(ioctl), {Equals(1, call)});
  }
  for (const int command : {F_GETFL, F_SETFL, F_GETFD, F_SETFD}) {
    rules.Add(SCMP_ACT_ALLOW, SCMP_SYS(fcntl), {Equals(1, static_cast<std::uint64_t>(command))});
  }
}

absl::Status FilterSystemCalls() {
  const Filter filter(seccomp_init(SCMP_ACT_ERRNO(EPERM)), &seccomp_release);
  if (filter == nullptr) return absl::ResourceExhaustedError("seccomp: out of memory");
  Rules rules(filter.get());
  // The call numbers of another architecture (x32, i386) mean other calls.
  rules.Set(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  for (const int call : kAllowed) rules.Add(SCMP_ACT_ALLOW, call);
  for (const int call : kDeadly) rules.Add(SCMP_ACT_KILL_PROCESS, call);
  AddConditionalRules(rules);
  rules.Load();
  if (rules.error() == 0) return absl::OkStatus();
  return base::ErrnoStatus("filter the system calls of the process (seccomp)", -rules.error());
}

}  // namespace

absl::Status Confine() {
  SEALIFT_RETURN_IF_ERROR(LimitResources());
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return base::ErrnoStatus("forbid new privileges", errno);
  }
  SEALIFT_RETURN_IF_ERROR(DropCapabilities());
  return FilterSystemCalls();
}

}  // namespace sealift::mover
