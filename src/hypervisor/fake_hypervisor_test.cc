#include "hypervisor/fake_hypervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <future>
#include <thread>

namespace sealift::hypervisor {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;

VmDefinition Definition() {
  VmDefinition vm;
  vm.name = "a";
  return vm;
}

TEST(FakeHypervisor, ReplaysAMigrationByItself) {
  FakeHypervisor host("/run");
  const auto vm = *host.Start(Definition(), StartMode::kBoot);
  EXPECT_EQ(*vm->State(), RunState::kRunning);
  ASSERT_TRUE(vm->StartOutgoing("/run/a-out.sock", {}).ok());
  EXPECT_EQ(*vm->WaitOutgoing(MigrationState::kActive, seconds(10), {}),
            MigrationState::kPreSwitchover);
  EXPECT_EQ(*vm->State(), RunState::kSwitching);
  ASSERT_TRUE(vm->ContinueSwitchover(seconds(3)).ok());
  EXPECT_EQ(vm->Outgoing()->state, MigrationState::kCompleted);
  EXPECT_EQ(*vm->State(), RunState::kMigrated);
  EXPECT_EQ(vm->CancelOutgoing().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(host.Find("a")->Calls(), ElementsAre("StartOutgoing /run/a-out.sock",
                                                   "ContinueSwitchover 3000 ms", "CancelOutgoing"));
}

TEST(FakeHypervisor, AWaitEndsWhenTheTestMovesOn) {
  FakeVm vm(Definition(), RunState::kRunning, Pace::kByTest, 1);
  ASSERT_TRUE(vm.StartOutgoing("/x", {}).ok());
  auto state = std::async(std::launch::async, [&] {
    return vm.WaitOutgoing(MigrationState::kActive, seconds(10), {});
  });
  vm.SetOutgoing(MigrationState::kFailed, "no route");
  EXPECT_EQ(*state.get(), MigrationState::kFailed);
  EXPECT_EQ(vm.Outgoing()->error, "no route");
  EXPECT_EQ(*vm.State(), RunState::kRunning);
}

TEST(FakeHypervisor, AWaitForTheMigrationEndsWhenItIsStopped) {
  FakeVm vm(Definition(), RunState::kRunning, Pace::kByTest, 1);
  ASSERT_TRUE(vm.StartOutgoing("/x", {}).ok());
  std::stop_source stop;
  auto state = std::async(std::launch::async, [&] {
    return vm.WaitOutgoing(MigrationState::kActive, std::chrono::hours(1), stop.get_token());
  });
  stop.request_stop();
  EXPECT_EQ(*state.get(), MigrationState::kActive);
}

TEST(FakeHypervisor, DeathEndsWaitsAndRunsTheCallback) {
  FakeVm vm(Definition(), RunState::kIncoming, Pace::kByTest, 1);
  std::promise<Exit> exit;
  vm.OnExit([&](Exit how) { exit.set_value(how); });
  auto received = std::async(std::launch::async, [&] { return vm.WaitIncoming(seconds(10)); });
  vm.Die(Exit::kCrashed);
  EXPECT_EQ(received.get().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(exit.get_future().get(), Exit::kCrashed);
  EXPECT_EQ(vm.Continue().code(), absl::StatusCode::kUnavailable);
}

TEST(FakeHypervisor, FailsTheCallsATestNames) {
  FakeVm vm(Definition(), RunState::kPaused, Pace::kByItself, 1);
  vm.FailCall("Continue", absl::InternalError("stuck"));
  EXPECT_EQ(vm.Continue().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(*vm.State(), RunState::kPaused);
  vm.FailCall("Continue", absl::OkStatus());
  EXPECT_TRUE(vm.Continue().ok());
  EXPECT_TRUE(vm.WaitForCall("Continue", seconds(0), 2));
  EXPECT_FALSE(vm.WaitForCall("Continue", seconds(0), 3));
}

TEST(FakeHypervisor, HasMemoryThatATestCanWrite) {
  VmDefinition definition = Definition();
  definition.memory_bytes = 1 << 20;
  FakeVm vm(definition, RunState::kRunning, Pace::kByItself, 1);
  const auto first = vm.SharedMemory();
  const auto second = vm.SharedMemory();
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_EQ(first->size(), 1U);
  EXPECT_EQ(first->front().size, definition.memory_bytes);
  EXPECT_EQ(pwrite(first->front().file.get(), "x", 1, (1 << 20) - 1), 1);
  char byte = 0;
  EXPECT_EQ(pread(second->front().file.get(), &byte, 1, (1 << 20) - 1), 1);
  EXPECT_EQ(byte, 'x');
  definition.backing = MemoryBacking::kPrivate;
  EXPECT_TRUE(absl::IsFailedPrecondition(
      FakeVm(definition, RunState::kRunning, Pace::kByItself, 1).SharedMemory().status()));
}

TEST(FakeHypervisor, TracksOnlyWhenToldTo) {
  FakeVm vm(Definition(), RunState::kRunning, Pace::kByItself, 1);
  EXPECT_TRUE(absl::IsUnimplemented(vm.BeginTracking().status()));
  vm.SetTracking(true);
  EXPECT_TRUE(vm.BeginTracking().ok());
  vm.FailCall("EndTracking", absl::InternalError("stuck"));
  EXPECT_EQ(vm.EndTracking(), absl::InternalError("stuck"));
  EXPECT_TRUE(vm.Suspend().ok());
  EXPECT_TRUE(vm.Resume().ok());
  EXPECT_THAT(vm.Calls(),
              ElementsAre("BeginTracking", "BeginTracking", "EndTracking", "Suspend", "Resume"));
}

TEST(FakeHypervisor, AdoptsOnlyWhatLives) {
  FakeHypervisor host("/run");
  EXPECT_EQ(host.Adopt(Definition()).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(host.Start(Definition(), StartMode::kIncoming).ok());
  EXPECT_EQ(host.Start(Definition(), StartMode::kBoot).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE((*host.Adopt(Definition()))->WaitIncoming(seconds(1)).ok());
  EXPECT_TRUE(host.Find("a")->Quit().ok());
  EXPECT_EQ(host.Adopt(Definition()).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace sealift::hypervisor
