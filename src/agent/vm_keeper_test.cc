#include "agent/vm_keeper.h"

#include <gmock/gmock.h>

#include "agent/testing.h"
#include "base/file.h"
#include "base/status.h"

namespace sealift::agent {
namespace {

using hypervisor::Exit;
using hypervisor::RunState;

class VmKeeperTest : public AgentFixture {
 protected:
  void SetUp() override {
    AgentFixture::SetUp();
    inventory_ = std::make_unique<Inventory>(folder_.path());
    keeper_ = std::make_unique<VmKeeper>(hypervisor_, *inventory_, "boot-1");
  }
  // A new agent on the same host.
  void Restart(const std::string& boot_id) {
    keeper_ = std::make_unique<VmKeeper>(hypervisor_, *inventory_, boot_id);
    ASSERT_TRUE(keeper_->Recover().ok());
  }
  void PutAndStart() {
    ASSERT_TRUE(keeper_->Put(Record()).ok());
    ASSERT_TRUE(keeper_->Start("web1").ok());
  }
  [[nodiscard]] VmStatus Status() { return keeper_->Get("web1")->status; }
  void WaitForStatus(VmStatus status) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (Status() != status && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_EQ(Status(), status);
  }
  // Until it is on the disk that web1 does not run.
  void WaitUntilWrittenOff() {
    const auto boot_id = [&] {
      return DecodeVmRecord(*base::ReadFile(folder_ / "web1.json"))->boot_id;
    };
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!boot_id().empty() && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_EQ(boot_id(), "");
  }

  hypervisor::FakeHypervisor hypervisor_{"/nowhere"};
  std::unique_ptr<Inventory> inventory_;
  std::unique_ptr<VmKeeper> keeper_;
};

TEST_F(VmKeeperTest, SaysWhetherTheDirectEngineCanMoveAVm) {
  PutAndStart();
  EXPECT_TRUE(keeper_->Get("web1")->direct);
  ASSERT_TRUE(keeper_->ForceOff("web1").ok());
  EXPECT_FALSE(keeper_->Get("web1")->direct);
  EXPECT_EQ(keeper_->Get("web1")->direct_reason, "");
  VmRecord record = Record();
  record.definition.backing = hypervisor::MemoryBacking::kPrivate;
  ASSERT_TRUE(keeper_->Put(record).ok());
  ASSERT_TRUE(keeper_->Start("web1").ok());
  for (const char* boot : {"boot-1", "boot-1"}) {
    EXPECT_FALSE(keeper_->Get("web1")->direct);
    EXPECT_THAT(keeper_->Get("web1")->direct_reason, ::testing::HasSubstr("private memory"));
    Restart(boot);
  }
}

TEST_F(VmKeeperTest, StartsOnceAndStops) {
  PutAndStart();
  EXPECT_EQ(Status(), VmStatus::kRunning);
  EXPECT_EQ(keeper_->Start("web1").status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(keeper_->ForceOff("web1").ok());
  EXPECT_EQ(Status(), VmStatus::kStopped);
  EXPECT_EQ(keeper_->ForceOff("web1").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(keeper_->Forget("web1").ok());
  EXPECT_EQ(keeper_->Get("web1").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(VmKeeperTest, ProcessesThatDoNotAnswerHoldUpNobody) {
  const std::vector<std::string> names = {"web1", "web2", "web3", "web4"};
  for (const std::string& name : names) {
    ASSERT_TRUE(keeper_->Put(Record(name)).ok());
    ASSERT_TRUE(keeper_->Start(name).ok());
    if (name != "web4") hypervisor_.Find(name)->SetSilent(true);
  }
  const auto begun = std::chrono::steady_clock::now();
  const std::vector<VmView> views = keeper_->List();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(2500));
  ASSERT_EQ(views.size(), names.size());
  for (const VmView& view : views) {
    EXPECT_EQ(view.status, VmStatus::kRunning) << "as it was last seen";
    EXPECT_EQ(view.reason.empty(), view.name == "web4") << view.reason;
  }
  EXPECT_THAT(views[0].reason, ::testing::HasSubstr("does not answer"));
  for (const std::string& name : names) hypervisor_.Find(name)->SetSilent(false);
}

TEST_F(VmKeeperTest, ARunningVmIsNotForgotten) {
  PutAndStart();
  EXPECT_EQ(keeper_->Forget("web1").code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(VmKeeperTest, AGuestThatIgnoresThePowerButtonIsATimeout) {
  PutAndStart();
  hypervisor_.Find("web1")->FailCall("PowerDown", absl::OkStatus());
  const auto stopped = keeper_->PowerDown("web1", std::chrono::seconds(0));
  // The fake powers off by itself or not; either way the answer says which.
  if (stopped.ok()) {
    EXPECT_EQ(stopped->status, VmStatus::kStopped);
  } else {
    EXPECT_NE(base::MessageOf(stopped.status()).find("--force"), std::string::npos);
  }
}

TEST_F(VmKeeperTest, AStartThatHangsInItsStorageHoldsUpNoOtherVm) {
  PutAndStart();
  ASSERT_TRUE(keeper_->Put(Record("stuck")).ok());
  hypervisor_.HangStart("stuck");
  std::thread starting([this] { EXPECT_TRUE(keeper_->Start("stuck").ok()); });
  ASSERT_TRUE(hypervisor_.WaitForHangingStart(std::chrono::seconds(10)));
  // What a migration needs, at either side, and what the controller asks.
  EXPECT_EQ(keeper_->List().size(), 2U);
  EXPECT_TRUE(keeper_->Put(Record()).ok());
  EXPECT_TRUE(keeper_->Lend("web1", "m1").ok());
  keeper_->Return("web1");
  const auto arrived =
      hypervisor_.Start(Record("web2").definition, hypervisor::StartMode::kIncoming);
  ASSERT_TRUE(arrived.ok());
  EXPECT_TRUE(keeper_->Own(Record("web2"), *arrived).ok());
  hypervisor_.Find("web2")->Die(Exit::kCrashed);
  hypervisor_.Find("web1")->Die(Exit::kCrashed);
  WaitForStatus(VmStatus::kCrashed);
  EXPECT_TRUE(keeper_->Release("web2").ok());
  // The VM itself is refused rather than waited for without end.
  EXPECT_EQ(keeper_->Put(Record("stuck")).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(keeper_->Get("stuck")->status, VmStatus::kStopped);
  hypervisor_.HangStart("");
  starting.join();
  EXPECT_EQ(keeper_->Get("stuck")->status, VmStatus::kRunning);
}

TEST_F(VmKeeperTest, TwoStartsOfAVmMakeOneProcess) {
  ASSERT_TRUE(keeper_->Put(Record()).ok());
  hypervisor_.HangStart("web1");
  std::thread starting([this] { EXPECT_TRUE(keeper_->Start("web1").ok()); });
  ASSERT_TRUE(hypervisor_.WaitForHangingStart(std::chrono::seconds(10)));
  std::thread again([this] {
    EXPECT_EQ(keeper_->Start("web1").status().code(), absl::StatusCode::kFailedPrecondition);
  });
  hypervisor_.HangStart("");
  starting.join();
  again.join();
  EXPECT_EQ(Status(), VmStatus::kRunning);
}

TEST_F(VmKeeperTest, ADeadProcessIsACrash) {
  PutAndStart();
  hypervisor_.Find("web1")->Die(Exit::kCrashed);
  WaitForStatus(VmStatus::kCrashed);
  EXPECT_TRUE(keeper_->Start("web1").ok());
  EXPECT_EQ(Status(), VmStatus::kRunning);
}

TEST_F(VmKeeperTest, AnEpochDoesNotGoBack) {
  ASSERT_TRUE(keeper_->Put(Record()).ok());
  VmRecord older = Record();
  older.epoch = 2;
  EXPECT_EQ(keeper_->Put(older).status().code(), absl::StatusCode::kAborted);
}

TEST_F(VmKeeperTest, SaysWhatItHasStored) {
  PutAndStart();
  EXPECT_EQ(keeper_->Record("web1")->epoch, Record().epoch);
  EXPECT_EQ(keeper_->Record("web1")->definition, Record().definition);
  EXPECT_EQ(keeper_->Record("web9").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(VmKeeperTest, ARestartAdoptsWhatRuns) {
  PutAndStart();
  Restart("boot-1");
  EXPECT_EQ(Status(), VmStatus::kRunning);
}

TEST_F(VmKeeperTest, AVmWhoseProcessCannotBeFoundOutAboutIsLeftAlone) {
  PutAndStart();
  hypervisor_.FailAdopt(absl::FailedPreconditionError("process.json cannot be used"));
  Restart("boot-1");
  EXPECT_EQ(Status(), VmStatus::kUnknown);
  EXPECT_THAT(keeper_->Get("web1")->reason, ::testing::HasSubstr("process.json cannot be used"));
  for (const absl::Status& refused :
       {keeper_->Start("web1").status(), keeper_->ForceOff("web1").status(),
        keeper_->PowerDown("web1", std::chrono::seconds(0)).status(), keeper_->Forget("web1"),
        keeper_->Lend("web1", "m1").status(), keeper_->OpenConsole("web1").status()}) {
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(base::MessageOf(refused), ::testing::HasSubstr("process.json cannot be used"));
  }
  EXPECT_TRUE(keeper_->Put(Record()).ok());
  EXPECT_EQ(Status(), VmStatus::kUnknown);
  hypervisor_.FailAdopt(absl::OkStatus());
  Restart("boot-1");
  EXPECT_EQ(Status(), VmStatus::kRunning);
}

TEST_F(VmKeeperTest, AnAdoptionThatTakesLongHoldsUpNoOther) {
  for (const char* name : {"web1", "web2", "web3"}) {
    ASSERT_TRUE(keeper_->Put(Record(name)).ok());
    ASSERT_TRUE(keeper_->Start(name).ok());
  }
  hypervisor_.MeetInAdopt(3);
  Restart("boot-1");
  for (const VmView& view : keeper_->List()) EXPECT_EQ(view.status, VmStatus::kRunning);
}

TEST_F(VmKeeperTest, AProcessLostWhileTheAgentWasAwayIsACrash) {
  PutAndStart();
  keeper_.reset();
  hypervisor_.Find("web1")->Die(Exit::kCrashed);
  Restart("boot-1");
  EXPECT_EQ(Status(), VmStatus::kCrashed);
}

TEST_F(VmKeeperTest, ACrashIsRememberedUntilTheNextStart) {
  PutAndStart();
  hypervisor_.Find("web1")->Die(Exit::kCrashed);
  WaitUntilWrittenOff();
  for (const char* boot : {"boot-1", "boot-2"}) {
    Restart(boot);
    EXPECT_EQ(Status(), VmStatus::kCrashed) << boot;
    EXPECT_EQ(keeper_->Get("web1")->reason, "its process ended unexpectedly") << boot;
  }
  ASSERT_TRUE(keeper_->Put(Record()).ok());
  EXPECT_EQ(Status(), VmStatus::kCrashed);
  ASSERT_TRUE(keeper_->Start("web1").ok());
  hypervisor_.Find("web1")->Die(Exit::kGuestShutdown);
  WaitUntilWrittenOff();
  Restart("boot-2");
  EXPECT_EQ(Status(), VmStatus::kStopped);
}

TEST_F(VmKeeperTest, AfterARebootOnlyAutostartIsDueAndNothingStartsByItself) {
  PutAndStart();
  VmRecord automatic = Record("auto");
  automatic.definition.autostart = true;
  ASSERT_TRUE(keeper_->Put(automatic).ok());
  ASSERT_TRUE(keeper_->Start("auto").ok());
  VmRecord off = Record("off");
  off.definition.autostart = true;
  ASSERT_TRUE(keeper_->Put(off).ok());
  keeper_.reset();
  hypervisor_.Find("web1")->Die(Exit::kCrashed);
  hypervisor_.Find("auto")->Die(Exit::kCrashed);
  Restart("boot-2");
  EXPECT_FALSE(keeper_->Get("web1")->autostart_due);
  EXPECT_TRUE(keeper_->Get("auto")->autostart_due);
  EXPECT_FALSE(keeper_->Get("off")->autostart_due) << "it was off before the reboot";
  EXPECT_EQ(keeper_->Get("web1")->status, VmStatus::kCrashed);
  EXPECT_EQ(keeper_->Get("auto")->status, VmStatus::kCrashed);
  EXPECT_EQ(keeper_->Get("off")->status, VmStatus::kStopped);
  ASSERT_TRUE(keeper_->Start("auto").ok());
  EXPECT_FALSE(keeper_->Get("auto")->autostart_due);
  EXPECT_EQ(keeper_->Get("auto")->status, VmStatus::kRunning);
}

TEST_F(VmKeeperTest, AVmThatWasStoppedBeforeARebootIsStoppedAfterIt) {
  VmRecord automatic = Record();
  automatic.definition.autostart = true;
  ASSERT_TRUE(keeper_->Put(automatic).ok());
  // The host may go down with the answer: by then it is on the disk.
  for (int times = 0; times < 50; ++times) {
    ASSERT_TRUE(keeper_->Start("web1").ok());
    ASSERT_TRUE(keeper_->ForceOff("web1").ok());
    ASSERT_EQ(inventory_->Load()->at(0).boot_id, "");
  }
  Restart("boot-2");
  EXPECT_EQ(Status(), VmStatus::kStopped);
  EXPECT_FALSE(keeper_->Get("web1")->autostart_due);
}

TEST_F(VmKeeperTest, AStopThatCannotBeWrittenDownIsNoSuccess) {
  PutAndStart();
  std::filesystem::remove_all(folder_.path());
  EXPECT_FALSE(keeper_->ForceOff("web1").ok());
  EXPECT_EQ(Status(), VmStatus::kStopped);
}

TEST_F(VmKeeperTest, AVmThatDidNotStartIsWhatItWasBefore) {
  VmRecord automatic = Record();
  automatic.definition.autostart = true;
  ASSERT_TRUE(keeper_->Put(automatic).ok());
  hypervisor_.FailStart(absl::InternalError("QEMU has ended"));
  EXPECT_EQ(keeper_->Start("web1").status(), absl::InternalError("QEMU has ended"));
  for (const char* boot : {"boot-1", "boot-2"}) {
    Restart(boot);
    EXPECT_EQ(Status(), VmStatus::kStopped) << boot;
    EXPECT_FALSE(keeper_->Get("web1")->autostart_due) << boot;
  }
  // One that had crashed still has.
  hypervisor_.FailStart(absl::OkStatus());
  ASSERT_TRUE(keeper_->Start("web1").ok());
  keeper_.reset();
  hypervisor_.Find("web1")->Die(Exit::kCrashed);
  Restart("boot-3");
  hypervisor_.FailStart(absl::InternalError("QEMU has ended"));
  EXPECT_FALSE(keeper_->Start("web1").ok());
  Restart("boot-3");
  EXPECT_EQ(Status(), VmStatus::kCrashed);
  EXPECT_TRUE(keeper_->Get("web1")->autostart_due);
}

// A start that fails may leave its process: one that hangs in its storage does not end.
TEST_F(VmKeeperTest, AProcessThatIsAdoptedRunsWhateverTheRecordSays) {
  ASSERT_TRUE(keeper_->Put(Record()).ok());
  ASSERT_TRUE(hypervisor_.Start(Record().definition, hypervisor::StartMode::kBoot).ok());
  Restart("boot-1");
  EXPECT_EQ(Status(), VmStatus::kRunning);
  EXPECT_EQ(inventory_->Load()->at(0).boot_id, "boot-1");
}

TEST_F(VmKeeperTest, AGuestThatItsStorageHasStoppedGoesOn) {
  PutAndStart();
  const auto vm = hypervisor_.Find("web1");
  vm->SetState(RunState::kIoError);
  EXPECT_EQ(Status(), VmStatus::kPaused);
  EXPECT_NE(keeper_->Get("web1")->reason.find("is it full?"), std::string::npos);
  vm->FailCall("Continue", absl::InternalError("Failed to get \"write\" lock"));
  keeper_->LetGoOn();
  EXPECT_EQ(Status(), VmStatus::kPaused);
  vm->FailCall("Continue", absl::OkStatus());
  keeper_->LetGoOn();
  EXPECT_EQ(Status(), VmStatus::kRunning);
  const std::size_t calls = vm->Calls().size();
  keeper_->LetGoOn();
  EXPECT_EQ(vm->Calls().size(), calls) << "it runs";
}

// Its migration has stopped it, and another QEMU may run the guest by now.
TEST_F(VmKeeperTest, ALentVmIsNotLetGoOn) {
  PutAndStart();
  ASSERT_TRUE(keeper_->Lend("web1", "m1").ok());
  const auto vm = hypervisor_.Find("web1");
  vm->SetState(RunState::kPaused);
  keeper_->LetGoOn();
  EXPECT_EQ(*vm->State(), RunState::kPaused);
}

TEST_F(VmKeeperTest, ALentVmIsLeftAlone) {
  PutAndStart();
  ASSERT_TRUE(keeper_->Lend("web1", "m1").ok());
  EXPECT_EQ(Status(), VmStatus::kMigrating);
  const absl::Status refused = keeper_->ForceOff("web1").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(base::MessageOf(refused).find("m1"), std::string::npos);
  EXPECT_FALSE(keeper_->Lend("web1", "m2").ok());
  keeper_->Return("web1");
  EXPECT_EQ(Status(), VmStatus::kRunning);
}

// By its epoch a restarted agent knows that the VM of a migration is still the one that left.
TEST_F(VmKeeperTest, ALentVmGetsANewModeAndNoNewEpoch) {
  PutAndStart();
  ASSERT_TRUE(keeper_->Lend("web1", "m1").ok());
  VmRecord record = Record();
  ++record.policy_version;
  EXPECT_TRUE(keeper_->Put(record).ok());
  ++record.epoch;
  EXPECT_EQ(keeper_->Put(record).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(keeper_->Holds("web1", Record().epoch));
  keeper_->Return("web1");
  EXPECT_TRUE(keeper_->Put(record).ok());
}

TEST_F(VmKeeperTest, AStoppedVmIsNotLent) {
  ASSERT_TRUE(keeper_->Put(Record()).ok());
  EXPECT_EQ(keeper_->Lend("web1", "m1").status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(VmKeeperTest, AReleasedVmIsGoneAlsoAfterARestart) {
  PutAndStart();
  ASSERT_TRUE(keeper_->Lend("web1", "m1").ok());
  ASSERT_TRUE(keeper_->Release("web1").ok());
  ASSERT_TRUE(keeper_->Release("web1").ok());
  Restart("boot-1");
  EXPECT_FALSE(keeper_->Has("web1"));
}

TEST_F(VmKeeperTest, AnArrivedVmIsOwnedUnderItsNewEpoch) {
  auto vm = hypervisor_.Start(Record().definition, hypervisor::StartMode::kIncoming);
  ASSERT_TRUE(vm.ok());
  VmRecord record = Record();
  record.epoch = 4;
  ASSERT_TRUE(keeper_->Own(record, *vm).ok());
  EXPECT_EQ(keeper_->Get("web1")->epoch, 4U);
  Restart("boot-1");
  EXPECT_EQ(keeper_->Get("web1")->epoch, 4U);
}

}  // namespace
}  // namespace sealift::agent
