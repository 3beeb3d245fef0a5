// What a restarted agent makes of each step that an earlier one wrote down.
#include "agent/live_migration.h"

#include <gmock/gmock.h>

#include "agent/testing.h"

namespace sealift::agent {
namespace {

using hypervisor::FakeVm;
using hypervisor::MigrationState;
using hypervisor::RunState;
using migration::Decision;
using migration::LedgerStep;
using migration::PhaseName;

class RecoveryTest : public AgentFixture {
 protected:
  void SetUp() override {
    AgentFixture::SetUp();
    inventory_ = std::make_unique<Inventory>(folder_ / "vms");
    log_ = std::make_unique<MigrationLog>(folder_ / "migrations");
    keeper_ = std::make_unique<VmKeeper>(hypervisor_, *inventory_, "boot-1");
    ASSERT_TRUE(keeper_->Recover().ok());
    ASSERT_TRUE(log_->Load().ok());
  }

  // A VM that runs here as the source of a migration.
  std::shared_ptr<FakeVm> RunSource() {
    EXPECT_TRUE(keeper_->Put(Record()).ok());
    EXPECT_TRUE(keeper_->Start("web1").ok());
    return hypervisor_.Find("web1");
  }
  // A process that waits here for a guest.
  std::shared_ptr<FakeVm> RunDestination() {
    EXPECT_TRUE(hypervisor_.Start(Record().definition, hypervisor::StartMode::kIncoming).ok());
    return hypervisor_.Find("web1");
  }

  void Recover(MigrationRole role, LedgerStep step) {
    MigrationRecord record;
    record.id = "0011";
    record.vm = "web1";
    record.role = role;
    record.step = step;
    record.epoch = role == MigrationRole::kSource ? 3 : 4;
    record.definition_yaml = hypervisor::FormatVmDefinition(Record().definition);
    record.encryption = "required";
    record.receipt = "r1";
    migration_ = std::make_unique<LiveMigration>(
        record, keys::MigrationSpec{}, migration::NoConvergence::kThrottle,
        LiveMigrationParts{hypervisor_, *keeper_, *log_, clock_});
    migration_->Recover();
  }
  [[nodiscard]] PhaseName WaitForEnd() {
    migration_->Join();
    return migration_->View().snapshot.phase;
  }

  base::SystemClock clock_;
  hypervisor::FakeHypervisor hypervisor_{"/nowhere"};
  std::unique_ptr<Inventory> inventory_;
  std::unique_ptr<MigrationLog> log_;
  std::unique_ptr<VmKeeper> keeper_;
  std::unique_ptr<LiveMigration> migration_;
};

TEST_F(RecoveryTest, ADelegatedSourceIsRolledBackAndRuns) {
  const auto vm = RunSource();
  ASSERT_TRUE(vm->StartOutgoing("/x", {}).ok());
  vm->SetOutgoing(MigrationState::kPreSwitchover);
  Recover(MigrationRole::kSource, LedgerStep::kDelegated);
  EXPECT_EQ(WaitForEnd(), PhaseName::kFailed);
  EXPECT_EQ(*vm->State(), RunState::kRunning);
  EXPECT_EQ(keeper_->Get("web1")->status, VmStatus::kRunning);
}

TEST_F(RecoveryTest, AnAbortedSourceThatWasNotResumedYetIsResumed) {
  const auto vm = RunSource();
  ASSERT_TRUE(vm->StartOutgoing("/x", {}).ok());
  vm->SetOutgoing(MigrationState::kCompleted);
  Recover(MigrationRole::kSource, LedgerStep::kAborted);
  EXPECT_EQ(WaitForEnd(), PhaseName::kFailed);
  EXPECT_EQ(*vm->State(), RunState::kRunning);
}

TEST_F(RecoveryTest, ACommittedSourceNeverRunsAgainAndLeavesWhenToldOfTheDestination) {
  const auto vm = RunSource();
  ASSERT_TRUE(vm->StartOutgoing("/x", {}).ok());
  vm->SetOutgoing(MigrationState::kCompleted);
  Recover(MigrationRole::kSource, LedgerStep::kCommitted);
  EXPECT_EQ(keeper_->Get("web1")->status, VmStatus::kMigrating);
  EXPECT_NE(*vm->State(), RunState::kRunning);
  migration_->Tell(Decision::kCommit);
  EXPECT_EQ(WaitForEnd(), PhaseName::kCompleted);
  EXPECT_FALSE(keeper_->Has("web1"));
  EXPECT_EQ(*vm->State(), RunState::kGone);
}

TEST_F(RecoveryTest, ARecordThatWasLeftOverDoesNotEndAGuestThatHasComeBack) {
  VmRecord record = Record();
  record.epoch = 5;
  ASSERT_TRUE(keeper_->Put(record).ok());
  ASSERT_TRUE(keeper_->Start("web1").ok());
  Recover(MigrationRole::kSource, LedgerStep::kCommitted);
  migration_->Tell(Decision::kCommit);
  EXPECT_EQ(WaitForEnd(), PhaseName::kCompleted);
  EXPECT_EQ(keeper_->Get("web1")->status, VmStatus::kRunning);
}

TEST_F(RecoveryTest, AReceivingDestinationIsDropped) {
  const auto vm = RunDestination();
  Recover(MigrationRole::kDestination, LedgerStep::kReceiving);
  EXPECT_EQ(WaitForEnd(), PhaseName::kFailed);
  EXPECT_EQ(*vm->State(), RunState::kGone);
  EXPECT_FALSE(keeper_->Has("web1"));
}

// QEMU ends by itself when its incoming migration breaks off.
TEST_F(RecoveryTest, WhatAReceivingDestinationHasLeftIsDiscarded) {
  Recover(MigrationRole::kDestination, LedgerStep::kReceiving);
  EXPECT_EQ(WaitForEnd(), PhaseName::kFailed);
  EXPECT_TRUE(hypervisor_.Discarded("web1"));
}

TEST_F(RecoveryTest, AReadyDestinationWaitsAndRunsWhenToldOfTheCommit) {
  const auto vm = RunDestination();
  vm->SetState(RunState::kPaused);
  Recover(MigrationRole::kDestination, LedgerStep::kReady);
  EXPECT_FALSE(keeper_->Has("web1"));
  EXPECT_EQ(migration_->Cancel().code(), absl::StatusCode::kFailedPrecondition);
  migration_->Tell(Decision::kCommit);
  EXPECT_EQ(WaitForEnd(), PhaseName::kCompleted);
  EXPECT_EQ(*vm->State(), RunState::kRunning);
  EXPECT_EQ(keeper_->Get("web1")->epoch, 4U);
  EXPECT_EQ(keeper_->Get("web1")->mode, policy::EncryptionMode::kRequired);
}

TEST_F(RecoveryTest, AReadyDestinationIsDroppedWhenToldOfTheAbort) {
  const auto vm = RunDestination();
  vm->SetState(RunState::kPaused);
  Recover(MigrationRole::kDestination, LedgerStep::kReady);
  migration_->Tell(Decision::kAbort);
  EXPECT_EQ(WaitForEnd(), PhaseName::kFailed);
  EXPECT_EQ(*vm->State(), RunState::kGone);
}

TEST_F(RecoveryTest, AReadyDestinationWhoseProcessIsGoneIsShownAsCrashedOnceItIsOurs) {
  Recover(MigrationRole::kDestination, LedgerStep::kReady);
  migration_->Tell(Decision::kCommit);
  EXPECT_EQ(WaitForEnd(), PhaseName::kCompleted);
  EXPECT_EQ(keeper_->Get("web1")->status, VmStatus::kCrashed);
  EXPECT_FALSE(hypervisor_.Discarded("web1")) << "its log may say why";
}

TEST_F(RecoveryTest, WhatAReadyDestinationHasLeftIsDiscardedOnceItIsNotOurs) {
  Recover(MigrationRole::kDestination, LedgerStep::kReady);
  migration_->Tell(Decision::kAbort);
  EXPECT_EQ(WaitForEnd(), PhaseName::kFailed);
  EXPECT_TRUE(hypervisor_.Discarded("web1"));
}

TEST_F(RecoveryTest, AProcessThatCannotBeFoundOutAboutIsNotTakenForOneThatHasEnded) {
  RunSource();
  hypervisor_.FailAdopt(absl::FailedPreconditionError("process.json cannot be used"));
  keeper_ = std::make_unique<VmKeeper>(hypervisor_, *inventory_, "boot-1");
  ASSERT_TRUE(keeper_->Recover().ok());
  const std::pair<MigrationRole, LedgerStep> cases[] = {
      {MigrationRole::kSource, LedgerStep::kDelegated},
      {MigrationRole::kSource, LedgerStep::kCommitted},
      {MigrationRole::kDestination, LedgerStep::kReceiving},
      {MigrationRole::kDestination, LedgerStep::kReady},
      {MigrationRole::kDestination, LedgerStep::kOwned},
  };
  for (const auto& [role, step] : cases) {
    SCOPED_TRACE(StepName(step));
    Recover(role, step);
    migration_->Tell(Decision::kCommit);
    migration_->Join();
    EXPECT_FALSE(migration::IsFinal(migration_->View().snapshot.phase));
    EXPECT_THAT(migration_->View().snapshot.detail,
                ::testing::HasSubstr("process.json cannot be used"));
    EXPECT_FALSE(hypervisor_.Discarded("web1"));
    EXPECT_TRUE(keeper_->Has("web1"));
    EXPECT_TRUE(log_->Load()->empty()) << "the step is the one that the next agent goes on from";
  }
}

TEST_F(RecoveryTest, ADecisionThatCannotBeWrittenDownIsTriedUntilItIs) {
  Recover(MigrationRole::kDestination, LedgerStep::kReady);
  std::filesystem::rename(folder_ / "vms", folder_ / "away");
  migration_->Tell(Decision::kCommit);
  const auto& board = migration_->board();
  for (std::uint64_t seen = 0; board->Look().detail.find("trying again") == std::string::npos;) {
    seen = board->WaitForChange(seen, std::chrono::seconds(1));
  }
  EXPECT_FALSE(migration::IsFinal(board->Look().phase));
  std::filesystem::rename(folder_ / "away", folder_ / "vms");
  EXPECT_EQ(WaitForEnd(), PhaseName::kCompleted);
  EXPECT_TRUE(keeper_->Has("web1"));
  EXPECT_EQ(log_->Load()->at(0).step, LedgerStep::kOwned);
}

TEST_F(RecoveryTest, AnOwnedGuestThatWasNotContinuedYetIsContinued) {
  const auto vm = RunDestination();
  vm->SetState(RunState::kPaused);
  VmRecord record = Record();
  record.epoch = 4;
  ASSERT_TRUE(keeper_->Own(record, vm).ok());
  vm->FailCall("Continue", absl::DeadlineExceededError("QMP is silent"));
  Recover(MigrationRole::kDestination, LedgerStep::kOwned);
  ASSERT_TRUE(vm->WaitForCall("Continue", std::chrono::seconds(5), 2)) << "it is tried again";
  vm->FailCall("Continue", absl::OkStatus());
  EXPECT_EQ(WaitForEnd(), PhaseName::kCompleted);
  EXPECT_EQ(*vm->State(), RunState::kRunning);
  EXPECT_TRUE(vm->WaitForCall("Settle", std::chrono::seconds(0)));
  EXPECT_EQ(keeper_->Get("web1")->status, VmStatus::kRunning) << "it is free again";
  EXPECT_EQ(migration_->View().snapshot.receipt, "r1") << "it can still show what it was given";
}

TEST_F(RecoveryTest, AGuestThatIsInTheInventoryIsOwnedThoughTheLedgerDoesNotSaySoYet) {
  const auto vm = RunDestination();
  vm->SetState(RunState::kPaused);
  VmRecord record = Record();
  record.epoch = 4;
  ASSERT_TRUE(keeper_->Own(record, vm).ok());
  Recover(MigrationRole::kDestination, LedgerStep::kReady);
  EXPECT_EQ(WaitForEnd(), PhaseName::kCompleted) << "nobody has to tell it the decision";
  EXPECT_EQ(*vm->State(), RunState::kRunning);
  EXPECT_EQ(log_->Load()->at(0).step, LedgerStep::kOwned);
}

TEST_F(RecoveryTest, AnOwnedGuestWhoseProcessIsGoneIsLeftToWhoeverLooksAfterVms) {
  const auto vm = RunDestination();
  ASSERT_TRUE(keeper_->Own(Record(), vm).ok());
  vm->Die(hypervisor::Exit::kCrashed);
  Recover(MigrationRole::kDestination, LedgerStep::kOwned);
  EXPECT_EQ(WaitForEnd(), PhaseName::kCompleted);
  EXPECT_EQ(keeper_->Get("web1")->status, VmStatus::kCrashed);
}

}  // namespace
}  // namespace sealift::agent
