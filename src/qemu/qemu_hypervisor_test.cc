// Everything here runs real QEMU processes under TCG, with guests of one disk sector.
#include "qemu/qemu_hypervisor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <future>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "base/file.h"
#include "base/process.h"
#include "base/socket.h"
#include "base/status.h"
#include "base/testing.h"

namespace sealift::qemu {
namespace {

using hypervisor::Accelerator;
using hypervisor::DiskFormat;
using hypervisor::Exit;
using hypervisor::MigrationParameters;
using hypervisor::MigrationState;
using hypervisor::NicType;
using hypervisor::RunState;
using hypervisor::StartMode;
using hypervisor::Vm;
using hypervisor::VmDefinition;
using std::chrono::seconds;
using ::testing::HasSubstr;

// Another process that holds one with ptrace, as a debugger does, while it exists.
class Debugger {
 public:
  explicit Debugger(int pid) {
    int end[2];
    int held[2];
    EXPECT_EQ(pipe2(end, O_CLOEXEC) + pipe2(held, O_CLOEXEC), 0);
    child_ = fork();
    if (child_ == 0) {
      char none = 0;
      close(end[1]);
      if (ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0) _exit(1);
      if (write(held[1], &none, 1) != 1) _exit(1);
      static_cast<void>(read(end[0], &none, 1));
      _exit(0);
    }
    close(end[0]);
    close(held[1]);
    end_.reset(end[1]);
    const base::UniqueFd holds(held[0]);
    char none = 0;
    EXPECT_EQ(read(holds.get(), &none, 1), 1) << "the debugger could not attach";
  }
  ~Debugger() {
    end_.reset();
    waitpid(child_, nullptr, 0);
  }
  Debugger(const Debugger&) = delete;
  Debugger& operator=(const Debugger&) = delete;

 private:
  pid_t child_ = -1;
  base::UniqueFd end_;  // closed: it lets go
};

constexpr auto kPatience = seconds(30);  // for a machine that is busy and sanitized

// Boot sectors. The BIOS runs them in 16-bit mode.
constexpr std::string_view kEchoGuest(
    "\xba\xfd\x03"  // again: mov $0x3fd, %dx   serial port: status
    "\xec"          // in (%dx), %al
    "\xa8\x01"      // test $1, %al             something received?
    "\x74\xf8"      // jz again
    "\xba\xf8\x03"  // mov $0x3f8, %dx          data
    "\xec"          // in (%dx), %al
    "\xee"          // out %al, (%dx)
    "\xeb\xf1",     // jmp again
    15);
constexpr std::string_view kPowerOffGuest(
    "\xba\x04\x06"  // mov $0x604, %dx          ACPI PM1a control of q35
    "\xb8\x00\x20"  // mov $0x2000, %ax         sleep enable, type 0: S5
    "\xef"          // out %ax, (%dx)
    "\xf4",         // hlt
    8);
constexpr std::string_view kPanicGuest(
    "\xba\x05\x05"  // mov $0x505, %dx          pvpanic
    "\xb0\x01"      // mov $1, %al              panicked
    "\xee"          // out %al, (%dx)
    "\xf4",         // hlt
    7);

// Two hosts on this machine that see the same disks, as with a shared file system.
class QemuHypervisorTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new base::TestFolder;
    host_a_ = NewHost("a").release();
    host_b_ = NewHost("b").release();
  }
  static void TearDownTestSuite() {
    delete host_a_;
    delete host_b_;
    delete folder_;
  }
  static std::unique_ptr<QemuHypervisor> NewHost(const std::string& name) {
    absl::StatusOr<std::unique_ptr<QemuHypervisor>> host =
        QemuHypervisor::Create({.run_dir = *folder_ / name, .user = base::TestUser()});
    EXPECT_TRUE(host.ok()) << host.status();
    return *std::move(host);
  }

  // Whatever a test leaves running ends with it.
  void TearDown() override {
    for (const std::shared_ptr<Vm>& vm : started_) EXPECT_TRUE(vm->Quit().ok());
  }

  // A definition with a disk that holds `guest` in its boot sector.
  static VmDefinition Definition(std::string_view guest = kEchoGuest) {
    static int number = 0;
    const std::string name = fmt::format("vm-{}", ++number);
    std::string sector(guest);
    sector.resize(510, '\0');
    sector += "\x55\xaa";
    sector.resize(1 << 20, '\0');
    EXPECT_TRUE(base::WriteFileDurably(*folder_ / name, sector, 0666).ok());
    chmod((*folder_ / name).c_str(), 0666);
    absl::StatusOr<VmDefinition> vm = hypervisor::ParseVmDefinition(
        fmt::format("{{name: {}, memory: 64MiB, accel: tcg, uuid: 6fa3b2c4-0d1e-4f5a-8b9c-{:012}, "
                    "disks: [{{path: {}, format: raw}}], nics: [{{user: true}}]}}",
                    name, number, *folder_ / name));
    EXPECT_TRUE(vm.ok()) << vm.status();
    return *vm;
  }

  std::shared_ptr<Vm> Start(QemuHypervisor* host, const VmDefinition& definition, StartMode mode) {
    absl::StatusOr<std::shared_ptr<Vm>> vm = host->Start(definition, mode);
    EXPECT_TRUE(vm.ok()) << vm.status();
    if (!vm.ok()) return nullptr;
    started_.push_back(*vm);
    return *vm;
  }
  std::shared_ptr<Vm> Boot(const VmDefinition& definition) {
    return Start(host_a_, definition, StartMode::kBoot);
  }

  // Starts a migration from `source` to a new process on host B up to pre-switchover and returns
  // that.
  std::shared_ptr<Vm> MigrateUpToSwitchover(const std::shared_ptr<Vm>& source,
                                            const MigrationParameters& parameters = {}) {
    return MigrateUpToSwitchover(source, parameters, source->definition());
  }
  std::shared_ptr<Vm> MigrateUpToSwitchover(const std::shared_ptr<Vm>& source,
                                            const MigrationParameters& parameters,
                                            const VmDefinition& at_target) {
    const std::shared_ptr<Vm> target = Start(host_b_, at_target, StartMode::kIncoming);
    EXPECT_EQ(target->State().value(), RunState::kIncoming);
    const std::string path = host_b_->MigrationSocketPath(source->definition(), "in");
    EXPECT_TRUE(target->StartIncoming(path, parameters).ok());
    const absl::Status started = source->StartOutgoing(path, parameters);
    EXPECT_TRUE(started.ok()) << started;
    EXPECT_EQ(WaitFor(*source, MigrationState::kPreSwitchover), MigrationState::kPreSwitchover);
    return target;
  }
  // Waits until the migration is in `wanted` or over, and returns its state.
  static MigrationState WaitFor(Vm& vm, MigrationState wanted) {
    MigrationState state = MigrationState::kSetup;
    while (state != wanted && state != MigrationState::kFailed &&
           state != MigrationState::kCancelled && state != MigrationState::kCompleted) {
      const absl::StatusOr<MigrationState> next = vm.WaitOutgoing(state, kPatience, {});
      EXPECT_TRUE(next.ok()) << next.status();
      if (!next.ok() || *next == state) break;
      state = *next;
    }
    return state;
  }

  // How the process of a VM ends; call before it does.
  static std::future<Exit> ExitOf(Vm& vm) {
    auto promise = std::make_shared<std::promise<Exit>>();
    vm.OnExit([promise](Exit exit) { promise->set_value(exit); });
    return promise->get_future();
  }
  static Exit Await(std::future<Exit>& exit) {
    if (exit.wait_for(kPatience) == std::future_status::ready) return exit.get();
    ADD_FAILURE() << "the process does not end";
    return Exit::kStopped;
  }

  // Sends a byte to the guest until it comes back: the BIOS swallows those that come too early.
  static bool Echoes(Vm& vm) {
    const absl::StatusOr<base::UniqueFd> console = vm.OpenConsole();
    EXPECT_TRUE(console.ok()) << console.status();
    for (int tries = 0; console.ok() && tries < 300; ++tries) {
      EXPECT_EQ(send(console->get(), "e", 1, MSG_NOSIGNAL), 1);
      pollfd wait{.fd = console->get(), .events = POLLIN, .revents = 0};
      char byte = 0;
      if (poll(&wait, 1, 100) > 0 && recv(console->get(), &byte, 1, 0) == 1 && byte == 'e') {
        return true;
      }
    }
    return false;
  }

  static constexpr MigrationParameters kParameters{};
  static inline base::TestFolder* folder_ = nullptr;
  static inline QemuHypervisor* host_a_ = nullptr;
  static inline QemuHypervisor* host_b_ = nullptr;
  std::vector<std::shared_ptr<Vm>> started_;
};

std::string StatusLine(int pid, const std::string& key) {
  const std::string text = base::ReadFile(fmt::format("/proc/{}/status", pid)).value_or("");
  const std::size_t at = text.find("\n" + key + ":");
  if (at == std::string::npos) return "";
  const std::size_t start = at + key.size() + 3;
  return text.substr(start, text.find_first_of("\t\n", start) - start);
}

TEST_F(QemuHypervisorTest, RunsAGuestUnprivilegedAndQuits) {
  const VmDefinition definition = Definition();
  const auto vm = Boot(definition);
  ASSERT_NE(vm, nullptr);
  EXPECT_EQ(vm->State().value(), RunState::kRunning);
  EXPECT_TRUE(Echoes(*vm));
  EXPECT_EQ(StatusLine(vm->pid(), "Uid"), std::to_string(base::LookUpUser(base::TestUser())->uid));
  EXPECT_EQ(StatusLine(vm->pid(), "NoNewPrivs"), "1");
  EXPECT_EQ(StatusLine(vm->pid(), "Seccomp"), "2");
  EXPECT_EQ(getsid(vm->pid()), vm->pid());
  auto exit = ExitOf(*vm);
  EXPECT_TRUE(vm->Quit().ok());
  EXPECT_EQ(Await(exit), Exit::kStopped);
  EXPECT_EQ(vm->State().value(), RunState::kGone);
  EXPECT_TRUE(absl::IsUnavailable(vm->Continue()));
  EXPECT_TRUE(vm->Quit().ok());
  EXPECT_TRUE(absl::IsNotFound(host_a_->Adopt(definition).status()));
}

TEST_F(QemuHypervisorTest, KeepsTheConsoleLog) {
  const auto vm = Boot(Definition());
  EXPECT_TRUE(Echoes(*vm));
  EXPECT_TRUE(Echoes(*vm));  // QEMU writes the log after the socket: now the first byte is there
  const std::string log = *folder_ / "a/" + vm->definition().name + "/console.log";
  EXPECT_THAT(base::ReadFile(log).value_or(""), HasSubstr("e"));
}

TEST_F(QemuHypervisorTest, RefusesASecondProcessOfAVm) {
  const auto vm = Boot(Definition());
  EXPECT_TRUE(absl::IsAlreadyExists(host_a_->Start(vm->definition(), StartMode::kBoot).status()));
  EXPECT_EQ(vm->State().value(), RunState::kRunning);
}

TEST_F(QemuHypervisorTest, MemoryThatAGuestHasNotTouchedYetIsPromisedOnce) {
  constexpr std::uint64_t kGiB = 1ULL << 30;
  const std::uint64_t all = host_a_->AvailableMemoryBytes();
  VmDefinition first = Definition();
  first.memory_bytes = all / 2 / kGiB * kGiB;
  if (first.memory_bytes < 2 * kGiB) GTEST_SKIP() << "too little memory to tell it from noise";
  const auto coming = Start(host_a_, first, StartMode::kIncoming);
  // Others use memory, too.
  EXPECT_LT(host_a_->AvailableMemoryBytes(), all - first.memory_bytes + kGiB);
  VmDefinition second = Definition();
  second.memory_bytes = first.memory_bytes + 2 * kGiB;
  const absl::Status refused = host_a_->Start(second, StartMode::kIncoming).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(base::MessageOf(refused), HasSubstr("that no other VM has been promised"));
  // What it gets, the kernel counts, and nobody else.
  const auto memory = coming->SharedMemory();
  ASSERT_TRUE(memory.ok()) << memory.status();
  ASSERT_EQ(fallocate(memory->at(0).file.get(), 0, 0, static_cast<off_t>(kGiB)), 0);
  EXPECT_GT(host_a_->AvailableMemoryBytes() + kGiB, all - first.memory_bytes);
  ASSERT_TRUE(coming->Quit().ok());
  EXPECT_TRUE(hypervisor::CheckMemory(second, host_a_->AvailableMemoryBytes()).ok());
}

TEST_F(QemuHypervisorTest, AdoptsAProcessThatItsAgentLeftBehind) {
  const VmDefinition definition = Definition();
  const int pid = Boot(definition)->pid();
  started_.clear();  // the last reference
  EXPECT_EQ(host_a_->Processes(), std::vector{definition});
  VmDefinition edited = definition;
  edited.cpus = 7;
  const auto adopted = host_a_->Adopt(edited);
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  started_.push_back(*adopted);
  EXPECT_EQ((*adopted)->pid(), pid);
  EXPECT_EQ((*adopted)->State().value(), RunState::kRunning);
  EXPECT_EQ((*adopted)->definition(), definition);  // as started, not as edited since
  auto exit = ExitOf(**adopted);
  EXPECT_TRUE((*adopted)->Quit().ok());
  EXPECT_EQ(Await(exit), Exit::kStopped);
  EXPECT_TRUE(host_a_->Processes().empty());
}

TEST_F(QemuHypervisorTest, NobodyListensForAMigrationOfAnAdoptedProcess) {
  const VmDefinition definition = Definition();
  Boot(definition);
  const std::string path = host_a_->MigrationSocketPath(definition, "out");
  const auto listener = base::ListenUnix(path, SOCK_STREAM, 0666);
  ASSERT_TRUE(listener.ok()) << listener.status();
  started_.clear();
  const auto adopted = host_a_->Adopt(definition);
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  started_.push_back(*adopted);
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(QemuHypervisorTest, DoesNotAdoptAnotherVmOfTheSameName) {
  VmDefinition definition = Definition();
  const auto vm = Boot(definition);
  definition.uuid = "00000000-0000-0000-0000-000000000000";
  EXPECT_TRUE(absl::IsFailedPrecondition(host_a_->Adopt(definition).status()));
}

TEST_F(QemuHypervisorTest, ReportsAKilledProcessAsACrash) {
  const VmDefinition definition = Definition();
  const auto vm = Boot(definition);
  auto exit = ExitOf(*vm);
  kill(vm->pid(), SIGKILL);
  EXPECT_EQ(Await(exit), Exit::kCrashed);
  EXPECT_EQ(vm->State().value(), RunState::kGone);
  EXPECT_TRUE(absl::IsNotFound(host_a_->Adopt(definition).status()));
  EXPECT_NE(Boot(definition), nullptr);
}

TEST_F(QemuHypervisorTest, DiscardsWhatAKilledProcessHasLeftAndNoOtherOne) {
  const VmDefinition definition = Definition();
  const auto vm = Boot(definition);
  const std::string folder = std::filesystem::path(host_a_->MigrationSocketPath(definition, "in"))
                                 .parent_path()
                                 .parent_path();
  EXPECT_TRUE(absl::IsFailedPrecondition(host_a_->Discard(definition)));
  EXPECT_TRUE(std::filesystem::exists(folder));
  auto exit = ExitOf(*vm);
  kill(vm->pid(), SIGKILL);
  EXPECT_EQ(Await(exit), Exit::kCrashed);
  EXPECT_TRUE(host_a_->Discard(definition).ok());
  EXPECT_FALSE(std::filesystem::exists(folder));
  EXPECT_TRUE(host_a_->Discard(definition).ok());
}

TEST_F(QemuHypervisorTest, NothingIsDoneToAVmWhoseRecordCannotBeRead) {
  const VmDefinition definition = Definition();
  const auto vm = Boot(definition);
  const std::string record = *folder_ / "a/" + definition.name + "/process.json";
  const std::string content = base::ReadFile(record).value();
  ASSERT_TRUE(base::WriteFileDurably(record, "damaged").ok());
  for (const absl::Status& status :
       {host_a_->Start(definition, StartMode::kBoot).status(), host_a_->Discard(definition),
        host_a_->Adopt(definition).status()}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(base::MessageOf(status), HasSubstr(record));
  }
  EXPECT_TRUE(host_a_->Processes().empty());
  EXPECT_NE(Boot(Definition()), nullptr) << "others start";
  EXPECT_EQ(vm->State().value(), RunState::kRunning);
  ASSERT_TRUE(base::WriteFileDurably(record, content).ok());
  EXPECT_TRUE(host_a_->Adopt(definition).ok());
}

TEST_F(QemuHypervisorTest, ReapsAProcessThatADebuggerHeldAtItsEnd) {
  auto vm = Boot(Definition());
  const std::string process = fmt::format("/proc/{}", vm->pid());
  std::optional<Debugger> debugger(vm->pid());
  auto exit = ExitOf(*vm);
  kill(vm->pid(), SIGKILL);
  EXPECT_EQ(Await(exit), Exit::kCrashed);
  started_.clear();
  vm.reset();
  EXPECT_TRUE(std::filesystem::exists(process)) << "the debugger was to keep it";
  debugger.reset();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (std::filesystem::exists(process) && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_FALSE(std::filesystem::exists(process));
}

TEST_F(QemuHypervisorTest, TellsAShutdownFromAPanic) {
  const auto off = Boot(Definition(kPowerOffGuest));
  auto off_exit = ExitOf(*off);
  EXPECT_EQ(Await(off_exit), Exit::kGuestShutdown);
  const auto panicked = Boot(Definition(kPanicGuest));
  auto panic_exit = ExitOf(*panicked);
  EXPECT_EQ(Await(panic_exit), Exit::kCrashed);
}

TEST_F(QemuHypervisorTest, RunsAnExitCallbackSetTooLateAndDropsTheVmInIt) {
  auto vm = Boot(Definition());
  started_.clear();
  ASSERT_TRUE(vm->Quit().ok());
  std::promise<Exit> done;
  Vm& reference = *vm;
  reference.OnExit([&, last = std::make_shared<std::shared_ptr<Vm>>(std::move(vm))](Exit exit) {
    last->reset();
    done.set_value(exit);
  });
  auto exit = done.get_future();
  EXPECT_EQ(Await(exit), Exit::kStopped);
}

TEST_F(QemuHypervisorTest, EndsAProcessThatDoesNotListen) {
  const auto vm = Boot(Definition());
  kill(vm->pid(), SIGSTOP);
  auto exit = ExitOf(*vm);
  EXPECT_TRUE(vm->Quit().ok());
  EXPECT_EQ(Await(exit), Exit::kStopped);
}

TEST_F(QemuHypervisorTest, ReportsWhyQemuDoesNotStart) {
  VmDefinition definition = Definition();
  definition.disks[0].format = DiskFormat::kQcow2;
  const absl::Status status = host_a_->Start(definition, StartMode::kBoot).status();
  EXPECT_THAT(base::MessageOf(status), HasSubstr("Image is not in qcow2 format"));
  EXPECT_TRUE(absl::IsNotFound(host_a_->Adopt(definition).status()));
}

TEST_F(QemuHypervisorTest, ChecksADefinitionBeforeAnythingIsTouched) {
  const auto error = [](void (*change)(VmDefinition&)) {
    VmDefinition definition = Definition();
    change(definition);
    const absl::Status status = host_a_->Start(definition, StartMode::kBoot).status();
    EXPECT_NE(access((*folder_ / "a/" + definition.name).c_str(), F_OK), 0);
    return base::MessageOf(status);
  };
  EXPECT_TRUE(host_a_->CheckDefinition(Definition()).ok());
  EXPECT_THAT(error([](VmDefinition& vm) { vm.disks[0].path = "/nowhere/disk"; }),
              HasSubstr("disk /nowhere/disk does not exist on this host"));
  EXPECT_THAT(error([](VmDefinition& vm) { vm.kernel = "/nowhere/kernel"; }),
              HasSubstr("kernel /nowhere/kernel does not exist on this host"));
  EXPECT_THAT(error([](VmDefinition& vm) { vm.machine = "pc-q35-99.0"; }),
              HasSubstr("has no machine type pc-q35-99.0"));
  EXPECT_THAT(error([](VmDefinition& vm) { vm.cpu_model = "Unobtainium"; }),
              HasSubstr("cannot run CPU model Unobtainium"));
  EXPECT_THAT(error([](VmDefinition& vm) {
                vm.nics = {{NicType::kBridge, "sealift-no-br", "", {}}};
              }),
              HasSubstr("this host has no bridge sealift-no-br: make one"));
  EXPECT_THAT(error([](VmDefinition& vm) { vm.uuid.clear(); }), HasSubstr("has no uuid"));
  if (host_a_->capabilities().accelerator == Accelerator::kTcg) {
    EXPECT_THAT(error([](VmDefinition& vm) { vm.accelerator = Accelerator::kKvm; }),
                HasSubstr("KVM is not available on this host"));
  }
}

TEST_F(QemuHypervisorTest, ExplainsAUserThatDoesNotExist) {
  EXPECT_THAT(base::MessageOf(QemuHypervisor::Create(
                                  {.run_dir = *folder_ / "x", .user = "sealift-no-such-user"})
                                  .status()),
              HasSubstr("create it with 'useradd"));
}

TEST_F(QemuHypervisorTest, MovesAGuest) {
  const auto source = Boot(Definition());
  EXPECT_TRUE(Echoes(*source));
  const auto target = MigrateUpToSwitchover(source);
  EXPECT_EQ(source->State().value(), RunState::kSwitching);
  EXPECT_EQ(target->State().value(), RunState::kIncoming);
  EXPECT_TRUE(source->SetDowntimeLimit(std::chrono::milliseconds(60)).ok());
  ASSERT_TRUE(source->ContinueSwitchover(kPatience).ok());
  EXPECT_EQ(WaitFor(*source, MigrationState::kCompleted), MigrationState::kCompleted);
  const absl::Status received = target->WaitIncoming(kPatience);
  EXPECT_TRUE(received.ok()) << received;
  EXPECT_EQ(source->State().value(), RunState::kMigrated);
  EXPECT_EQ(target->State().value(), RunState::kPaused);
  const auto progress = source->Outgoing();
  ASSERT_TRUE(progress.ok());
  EXPECT_GT(progress->ram_total_bytes, 64ULL << 20);
  EXPECT_GE(progress->iterations, 1U);

  // After `completed` nothing brings the source back by accident.
  EXPECT_TRUE(absl::IsFailedPrecondition(source->CancelOutgoing()));
  EXPECT_EQ(source->State().value(), RunState::kMigrated);

  ASSERT_TRUE(target->Continue().ok());
  EXPECT_TRUE(target->Settle().ok());
  EXPECT_TRUE(source->Quit().ok());
  EXPECT_EQ(target->State().value(), RunState::kRunning);
  EXPECT_TRUE(Echoes(*target));
  EXPECT_EQ(target->Outgoing()->state, MigrationState::kNone);
  EXPECT_TRUE(target->CancelOutgoing().ok());
  EXPECT_EQ(target->State().value(), RunState::kRunning);
}

// Memory files and private memory are the same to a migration stream.
TEST_F(QemuHypervisorTest, MovesBetweenKindsOfMemory) {
  using hypervisor::MemoryBacking;
  for (const char* machine : {"pc-q35-7.2", "pc-i440fx-2.12"}) {
    for (const auto from : {MemoryBacking::kShared, MemoryBacking::kPrivate}) {
      VmDefinition definition = Definition();
      definition.machine = machine;
      definition.backing = from;
      const auto source = Boot(definition);
      ASSERT_NE(source, nullptr);
      EXPECT_TRUE(Echoes(*source));
      definition.backing =
          from == MemoryBacking::kShared ? MemoryBacking::kPrivate : MemoryBacking::kShared;
      const auto target = MigrateUpToSwitchover(source, {}, definition);
      ASSERT_TRUE(source->ContinueSwitchover(kPatience).ok());
      EXPECT_TRUE(target->WaitIncoming(kPatience).ok());
      EXPECT_EQ(source->SharedMemory().ok(), from == MemoryBacking::kShared);
      EXPECT_EQ(target->SharedMemory().ok(), from == MemoryBacking::kPrivate);
      ASSERT_TRUE(target->Continue().ok());
      EXPECT_TRUE(source->Quit().ok());
      EXPECT_TRUE(Echoes(*target));
    }
  }
}

// Copies all guest memory, as movers do.
void CopyMemory(Vm& source, Vm& target) {
  const auto from = source.SharedMemory();
  const auto to = target.SharedMemory();
  ASSERT_TRUE(from.ok() && to.ok()) << from.status() << to.status();
  ASSERT_EQ(from->front().id, to->front().id);
  std::string memory(from->front().size, '\0');
  const auto size = static_cast<ssize_t>(memory.size());
  ASSERT_EQ(pread(from->front().file.get(), memory.data(), memory.size(), 0), size);
  ASSERT_EQ(pwrite(to->front().file.get(), memory.data(), memory.size(), 0), size);
}

TEST_F(QemuHypervisorTest, MovesAllButSharedMemoryWhenOthersMoveThat) {
  if (!host_a_->capabilities().direct_reason.empty()) {
    GTEST_SKIP() << host_a_->capabilities().direct_reason;
  }
  const MigrationParameters devices_only{.multifd_channels = 0, .ignore_shared = true};
  const auto source = Boot(Definition());
  EXPECT_TRUE(Echoes(*source));
  const auto target = MigrateUpToSwitchover(source, devices_only);
  CopyMemory(*source, *target);
  ASSERT_TRUE(source->ContinueSwitchover(kPatience).ok());
  const absl::Status received = target->WaitIncoming(kPatience);
  EXPECT_TRUE(received.ok()) << received;
  EXPECT_LT(source->Outgoing()->ram_transferred_bytes, 1U << 20);
  ASSERT_TRUE(target->Continue().ok());
  EXPECT_TRUE(source->Quit().ok());
  EXPECT_TRUE(Echoes(*target));
}

// A capability stays set in QEMU until it is unset.
TEST_F(QemuHypervisorTest, AStreamAfterAFailedDirectMigrationHasTheMemoryInIt) {
  if (!host_a_->capabilities().direct_reason.empty()) {
    GTEST_SKIP() << host_a_->capabilities().direct_reason;
  }
  const auto source = Boot(Definition());
  EXPECT_TRUE(Echoes(*source));
  const auto lost = MigrateUpToSwitchover(source, {.multifd_channels = 0, .ignore_shared = true});
  EXPECT_TRUE(source->CancelOutgoing().ok());
  EXPECT_TRUE(lost->Quit().ok());
  const auto target = MigrateUpToSwitchover(source);
  ASSERT_TRUE(source->ContinueSwitchover(kPatience).ok());
  EXPECT_TRUE(target->WaitIncoming(kPatience).ok());
  ASSERT_TRUE(target->Continue().ok());
  EXPECT_TRUE(source->Quit().ok());
  EXPECT_TRUE(Echoes(*target));
}

TEST_F(QemuHypervisorTest, DoesWithoutHugePagesWhenTold) {
  VmDefinition definition = Definition();
  EXPECT_EQ(StatusLine(Boot(definition)->pid(), "THP_enabled"), "1");
  VmDefinition without = Definition();
  without.huge_pages = hypervisor::HugePages::kOff;
  EXPECT_EQ(StatusLine(Boot(without)->pid(), "THP_enabled"), "0");
}

TEST_F(QemuHypervisorTest, RunsInReservedHugePagesOrSaysThatThereAreTooFew) {
  VmDefinition definition = Definition();
  definition.huge_pages = hypervisor::HugePages::k2M;
  const absl::Status status = host_a_->CheckDefinition(definition);
  if (!status.ok()) {
    EXPECT_THAT(base::MessageOf(status), HasSubstr("needs 32 huge pages of 2MiB"));
    EXPECT_EQ(host_a_->Start(definition, StartMode::kBoot).status(), status);
    GTEST_SKIP() << base::MessageOf(status);
  }
  const auto vm = Boot(definition);
  ASSERT_NE(vm, nullptr);
  EXPECT_TRUE(Echoes(*vm));
  const auto tracking = vm->BeginTracking();
  EXPECT_TRUE(tracking.ok()) << tracking.status();
  EXPECT_TRUE(vm->EndTracking().ok());
}

TEST_F(QemuHypervisorTest, MovesWithAnyNumberOfChannels) {
  for (const unsigned channels : {0U, 3U}) {
    const auto source = Boot(Definition());
    const auto target = MigrateUpToSwitchover(source, {.multifd_channels = channels});
    ASSERT_TRUE(source->ContinueSwitchover(kPatience).ok());
    EXPECT_TRUE(target->WaitIncoming(kPatience).ok());
    EXPECT_EQ(WaitFor(*source, MigrationState::kCompleted), MigrationState::kCompleted);
  }
}

// Whoever waits has to look for a cancel in between.
TEST_F(QemuHypervisorTest, AProcessThatIsTooBusyReceivingToAnswerIsAskedAgain) {
  const auto source = Boot(Definition());
  const auto target = MigrateUpToSwitchover(source);
  kill(target->pid(), SIGSTOP);
  EXPECT_TRUE(absl::IsDeadlineExceeded(target->WaitIncoming(base::Duration::zero())));
  kill(target->pid(), SIGCONT);
  ASSERT_TRUE(source->ContinueSwitchover(kPatience).ok());
  EXPECT_TRUE(target->WaitIncoming(kPatience).ok());
}

TEST_F(QemuHypervisorTest, CancelsInPreSwitchoverAndMovesLater) {
  const auto source = Boot(Definition());
  const auto target = MigrateUpToSwitchover(source);
  auto exit = ExitOf(*target);
  EXPECT_TRUE(source->CancelOutgoing().ok());
  EXPECT_EQ(source->State().value(), RunState::kRunning);
  EXPECT_EQ(source->Outgoing()->state, MigrationState::kCancelled);
  EXPECT_TRUE(Echoes(*source));
  const absl::Status received = target->WaitIncoming(kPatience);
  EXPECT_TRUE(absl::IsUnavailable(received)) << received;
  EXPECT_THAT(base::MessageOf(received), HasSubstr("load of migration failed"));
  EXPECT_EQ(Await(exit), Exit::kCrashed);

  const auto second = MigrateUpToSwitchover(source);
  ASSERT_TRUE(source->ContinueSwitchover(kPatience).ok());
  EXPECT_TRUE(second->WaitIncoming(kPatience).ok());
  EXPECT_EQ(WaitFor(*source, MigrationState::kCompleted), MigrationState::kCompleted);
}

TEST_F(QemuHypervisorTest, AnAdoptedSourceCanBeCancelled) {
  const VmDefinition definition = Definition();
  const auto target = MigrateUpToSwitchover(Boot(definition));
  started_ = {target};
  const auto source = host_a_->Adopt(definition);
  ASSERT_TRUE(source.ok()) << source.status();
  started_.push_back(*source);
  EXPECT_EQ((*source)->State().value(), RunState::kSwitching);
  EXPECT_EQ((*source)->WaitOutgoing(MigrationState::kActive, kPatience, {}).value(),
            MigrationState::kPreSwitchover);
  EXPECT_TRUE((*source)->CancelOutgoing().ok());
  EXPECT_EQ((*source)->State().value(), RunState::kRunning);
}

// QEMU takes one connection at a time.
TEST_F(QemuHypervisorTest, AWaitForTheMigrationConnectsAgain) {
  const VmDefinition definition = Definition();
  std::shared_ptr<Vm> first = Boot(definition);
  const auto target = MigrateUpToSwitchover(first);
  const auto source = host_a_->Adopt(definition);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_FALSE((*source)->State().ok());
  started_ = {target, *source};
  first.reset();
  EXPECT_EQ((*source)->WaitOutgoing(MigrationState::kActive, kPatience, {}).value(),
            MigrationState::kPreSwitchover);
}

TEST_F(QemuHypervisorTest, AnAdoptedTargetGoesOnReceiving) {
  const VmDefinition definition = Definition();
  const auto source = Boot(definition);
  (void)MigrateUpToSwitchover(source);
  started_ = {source};  // drops the target
  const auto target = host_b_->Adopt(definition);
  ASSERT_TRUE(target.ok()) << target.status();
  started_.push_back(*target);
  EXPECT_EQ((*target)->State().value(), RunState::kIncoming);
  ASSERT_TRUE(source->ContinueSwitchover(kPatience).ok());
  EXPECT_TRUE((*target)->WaitIncoming(kPatience).ok());
}

TEST_F(QemuHypervisorTest, AnAdoptedTargetKnowsThatItHasReceived) {
  const VmDefinition definition = Definition();
  const auto source = Boot(definition);
  std::shared_ptr<Vm> target = MigrateUpToSwitchover(source);
  ASSERT_TRUE(source->ContinueSwitchover(kPatience).ok());
  ASSERT_TRUE(target->WaitIncoming(kPatience).ok());
  started_ = {source};
  target.reset();
  const auto adopted = host_b_->Adopt(definition);
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  started_.push_back(*adopted);
  EXPECT_TRUE((*adopted)->WaitIncoming(kPatience).ok());
  EXPECT_EQ((*adopted)->Outgoing()->state, MigrationState::kNone);
  EXPECT_EQ((*adopted)->State().value(), RunState::kPaused);
}

// QEMU leaves a guest that was paused before in the same state as a completed source.
TEST_F(QemuHypervisorTest, ACancelledMigrationOfAPausedGuestLeavesItPaused) {
  const auto first = Boot(Definition());
  const auto paused = MigrateUpToSwitchover(first);
  ASSERT_TRUE(first->ContinueSwitchover(kPatience).ok());
  ASSERT_TRUE(paused->WaitIncoming(kPatience).ok());
  ASSERT_TRUE(first->Quit().ok());
  const auto target = Start(host_a_, paused->definition(), StartMode::kIncoming);
  const std::string path = host_a_->MigrationSocketPath(paused->definition(), "in");
  ASSERT_TRUE(target->StartIncoming(path, kParameters).ok());
  ASSERT_TRUE(paused->StartOutgoing(path, kParameters).ok());
  ASSERT_EQ(WaitFor(*paused, MigrationState::kPreSwitchover), MigrationState::kPreSwitchover);
  EXPECT_TRUE(paused->CancelOutgoing().ok());
  EXPECT_EQ(paused->State().value(), RunState::kPaused);
  EXPECT_TRUE(paused->Continue().ok());
  EXPECT_TRUE(Echoes(*paused));
}

TEST_F(QemuHypervisorTest, TheSourceGoesOnWhenTheTargetDiesInPreSwitchover) {
  const auto source = Boot(Definition());
  const auto target = MigrateUpToSwitchover(source);
  auto exit = ExitOf(*target);
  kill(target->pid(), SIGKILL);
  EXPECT_EQ(Await(exit), Exit::kCrashed);
  EXPECT_TRUE(absl::IsUnavailable(target->WaitIncoming(kPatience)));
  EXPECT_TRUE(source->CancelOutgoing().ok());
  EXPECT_EQ(source->State().value(), RunState::kRunning);
  EXPECT_TRUE(Echoes(*source));
}

// With two or more multifd channels it may hang instead (decision 0005).
TEST_F(QemuHypervisorTest, TheSourceGoesOnWhenTheTargetDiesDuringTheSwitch) {
  for (const unsigned channels : {0U, 1U}) {
    const auto source = Boot(Definition());
    const auto target = MigrateUpToSwitchover(source, {.multifd_channels = channels});
    auto exit = ExitOf(*target);
    kill(target->pid(), SIGKILL);
    EXPECT_EQ(Await(exit), Exit::kCrashed);
    ASSERT_TRUE(source->ContinueSwitchover(kPatience).ok());
    EXPECT_EQ(WaitFor(*source, MigrationState::kFailed), MigrationState::kFailed);
    EXPECT_TRUE(source->CancelOutgoing().ok());
    EXPECT_EQ(source->State().value(), RunState::kRunning);
    // QEMU 7.2 has no words for a main channel that broke.
    EXPECT_TRUE(channels == 0 || !source->Outgoing()->error.empty());
  }
}

TEST_F(QemuHypervisorTest, ASourceWithoutATargetFailsAndGoesOn) {
  const auto source = Boot(Definition());
  const absl::Status started = source->StartOutgoing(*folder_ / "nobody.sock", kParameters);
  if (started.ok()) {
    EXPECT_EQ(WaitFor(*source, MigrationState::kFailed), MigrationState::kFailed);
  }
  EXPECT_EQ(source->State().value(), RunState::kRunning);
}

TEST_F(QemuHypervisorTest, ATargetWhoseSourceDiesReportsIt) {
  const auto source = Boot(Definition());
  const auto target = MigrateUpToSwitchover(source);
  kill(source->pid(), SIGKILL);
  EXPECT_TRUE(absl::IsUnavailable(target->WaitIncoming(kPatience)));
  EXPECT_EQ(target->State().value(), RunState::kGone);
}

// QEMU 7.2 refuses it, with multifd on the first such channel; the target does not notice and goes
// on waiting.
TEST_F(QemuHypervisorTest, RefusesAMigrationIntoAnotherVm) {
  for (const unsigned channels : {0U, 1U}) {
    const MigrationParameters parameters{.multifd_channels = channels};
    const auto source = Boot(Definition());
    const auto other = Start(host_b_, Definition(), StartMode::kIncoming);
    const std::string path = host_b_->MigrationSocketPath(other->definition(), "in");
    ASSERT_TRUE(other->StartIncoming(path, parameters).ok());
    ASSERT_TRUE(source->StartOutgoing(path, parameters).ok());
    EXPECT_EQ(WaitFor(*source, MigrationState::kFailed), MigrationState::kFailed);
    EXPECT_TRUE(source->CancelOutgoing().ok());
    EXPECT_EQ(source->State().value(), RunState::kRunning);
    EXPECT_FALSE(other->WaitIncoming(std::chrono::milliseconds(50)).ok());
  }
}

TEST_F(QemuHypervisorTest, ASourceThatIsWedgedAtTheSwitchOverIsNotWaitedForLongerThanAsked) {
  const auto source = Boot(Definition());
  const auto target = MigrateUpToSwitchover(source);
  ASSERT_TRUE(source->Suspend().ok());
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(absl::IsDeadlineExceeded(source->ContinueSwitchover(std::chrono::milliseconds(200))));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_TRUE(source->Resume().ok());
}

TEST_F(QemuHypervisorTest, AWaitForTheMigrationEndsWhenItIsStopped) {
  const auto source = Boot(Definition());
  const auto target = MigrateUpToSwitchover(source);
  std::stop_source stop;
  auto state = std::async(std::launch::async, [&] {
    return source->WaitOutgoing(MigrationState::kPreSwitchover, std::chrono::hours(1),
                                stop.get_token());
  });
  stop.request_stop();
  EXPECT_EQ(state.get().value(), MigrationState::kPreSwitchover);
}

TEST_F(QemuHypervisorTest, ATargetThatIsWedgedHasFailed) {
  const auto source = Boot(Definition());
  const auto target = MigrateUpToSwitchover(source);
  ASSERT_TRUE(target->Suspend().ok());
  absl::Status received;
  do {
    received = target->WaitIncoming(std::chrono::milliseconds(50));
  } while (absl::IsDeadlineExceeded(received));
  EXPECT_TRUE(absl::IsAborted(received)) << received;
  EXPECT_THAT(base::MessageOf(received), HasSubstr("has not answered for 15 s"));
  EXPECT_TRUE(target->Resume().ok());
}

TEST_F(QemuHypervisorTest, AnIncomingThatDoesNotComeTimesOut) {
  const auto target = Start(host_b_, Definition(), StartMode::kIncoming);
  ASSERT_TRUE(
      target->StartIncoming(host_b_->MigrationSocketPath(target->definition(), "in"), kParameters)
          .ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(target->WaitIncoming(std::chrono::milliseconds(50))));
  EXPECT_EQ(target->State().value(), RunState::kIncoming);
}

}  // namespace
}  // namespace sealift::qemu
