// A controller whose store was restored from an old backup, or is an old copy: it never starts a
// second copy of a VM, and learns from the agents who has what.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/clock.h"
#include "controller/test_controller.h"

namespace sealift::controller {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kVm[] = "name: web1\nmemory: 512MiB\nautostart: true\n";
constexpr char kOther[] = "name: db1\nmemory: 512MiB\n";

// Web1 runs at host a under epoch 1 when the backup is made.
class RestoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    controller_.Join("a", a_);
    controller_.Join("b", b_);
    ASSERT_TRUE(controller_.CreateVm(kVm, "a").ok());
    backup_ = controller_.Backup();
    // What follows is lost again.
    controller_.Stop();
    before_ = base::UnixMillis(base::SystemClock().Now());
    starts_ = a_.Called("StartVm");
    puts_ = a_.Called("PutVm");
  }

  void Restore(const std::vector<std::string>& joined_since = {}) {
    controller_.Restore(backup_, joined_since);
    controller_.Start();
  }

  // Waits until every host was heard.
  void AwaitSettled() { ASSERT_NE(controller_.AwaitEvent("controller.settled", "controller"), 0); }
  // Waits until an agent has been asked a few times more.
  void AwaitReports(FakeAgent& agent) {
    ASSERT_TRUE(agent.WaitFor("GetStatus", agent.Called("GetStatus") + 3));
  }

  grpc::Status StartVm(const std::string& host = "", bool runs_nowhere = false) {
    v1::StartVmRequest request;
    request.set_name("web1");
    request.set_host(host);
    request.set_runs_nowhere(runs_nowhere);
    v1::Vm response;
    ShortCall call;
    return controller_.admin().vms->Start(&call, request, &response);
  }
  grpc::Status Migrate(const std::string& to, std::string* id = nullptr) {
    v1::StartMigrationRequest request;
    request.set_vm("web1");
    request.set_to(to);
    v1::Migration response;
    ShortCall call;
    const grpc::Status status = controller_.admin().migrations->Start(&call, request, &response);
    if (id != nullptr) *id = response.id();
    return status;
  }
  grpc::Status DeleteVm() {
    v1::DeleteVmRequest request;
    request.set_name("web1");
    v1::DeleteVmResponse response;
    ShortCall call;
    return controller_.admin().vms->Delete(&call, request, &response);
  }
  grpc::Status RemoveHost(const std::string& host) {
    v1::RemoveHostRequest request;
    request.set_name(host);
    v1::RemoveHostResponse response;
    ShortCall call;
    return controller_.admin().hosts->Remove(&call, request, &response);
  }
  grpc::Status ConfirmDead(const std::string& host) {
    v1::ConfirmDeadHostRequest request;
    request.set_name(host);
    v1::Host response;
    ShortCall call;
    return controller_.admin().hosts->ConfirmDead(&call, request, &response);
  }
  static void ExpectRefused(const grpc::Status& status, const std::string& words) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_THAT(status.error_message(), HasSubstr(words));
  }
  // Nothing was started or made on host a since the backup.
  void ExpectNothingBegunAtA() {
    EXPECT_EQ(a_.Called("StartVm"), starts_);
    EXPECT_EQ(a_.Called("PutVm"), puts_);
  }
  // Host a was booted again, with a VM that wants to be started.
  void Reboot() {
    a_.Change([](v1::AgentStatus& status) {
      status.mutable_vms(0)->set_state(v1::VM_STATE_CRASHED);
      status.mutable_vms(0)->set_autostart_due(true);
    });
  }

  FakeAgent a_;
  FakeAgent b_;
  FakeAgent c_;
  TestController controller_;
  std::string backup_;
  std::int64_t before_ = 0;
  int starts_ = 0;
  int puts_ = 0;
};

TEST_F(RestoreTest, WhatHasNotChangedGoesOn) {
  Restore();
  AwaitSettled();
  EXPECT_TRUE(controller_.HasEvent("controller.restored", "controller"));
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_RUNNING);
  EXPECT_EQ(controller_.GetVm("web1").epoch(), 1U);
  ExpectNothingBegunAtA();
  EXPECT_TRUE(StartVm().ok()) << "its agent decides again";
}

TEST_F(RestoreTest, AVmThatHasMovedIsFollowed) {
  b_.TakeOver(a_, "web1", 2, v1::VM_STATE_RUNNING);
  Restore();
  AwaitSettled();
  EXPECT_TRUE(controller_.HasEvent("vm.owner_restored", "vm/web1"));
  const v1::Vm vm = controller_.GetVm("web1");
  EXPECT_EQ(vm.host(), "b");
  EXPECT_EQ(vm.epoch(), 2U);
  EXPECT_EQ(vm.state(), v1::VM_STATE_RUNNING);
  ExpectRefused(StartVm("a"), "host b's");
  ExpectNothingBegunAtA();
}

// It is on host b, which is not heard; host a may be asked for anything.
TEST_F(RestoreTest, NothingStartsBeforeEveryHostWasHeard) {
  b_.TakeOver(a_, "web1", 2, v1::VM_STATE_RUNNING);
  b_.Stop();
  Restore();
  AwaitReports(a_);
  ExpectRefused(StartVm(), "sealift host confirm-dead");
  EXPECT_THAT(StartVm().error_message(), AllOf(HasSubstr(": b."), HasSubstr("restored")));
  ExpectRefused(StartVm("a"), "has not heard");
  ExpectRefused(StartVm("a", /*runs_nowhere=*/true), "has not heard");
  ExpectRefused(Migrate("b"), "has not heard");
  ExpectRefused(controller_.CreateVm(kOther, "a"), "has not heard");
  ExpectRefused(RemoveHost("b"), "has not been heard");
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_UNKNOWN);
  EXPECT_THAT(controller_.GetHost("b").state_reason(), HasSubstr("not heard since"));
  ExpectNothingBegunAtA();

  controller_.Reconnect("b", b_);
  AwaitSettled();
  EXPECT_EQ(controller_.GetVm("web1").host(), "b");
  ExpectNothingBegunAtA();
}

TEST_F(RestoreTest, ItIsStillSoAfterAnotherStart) {
  b_.TakeOver(a_, "web1", 2, v1::VM_STATE_RUNNING);
  b_.Stop();
  Restore();
  AwaitReports(a_);
  controller_.Stop();
  controller_.Start();
  AwaitReports(a_);
  ExpectRefused(StartVm(), "has not heard");
  ExpectNothingBegunAtA();
}

// Host a was taken for dead, the VM was started at host b, then host a was booted again.
TEST_F(RestoreTest, AHostThatWasTakenOverDoesNotStartItsOldCopy) {
  b_.Copy(a_, "web1", 2, v1::VM_STATE_RUNNING);
  b_.Stop();
  Reboot();
  Restore();
  AwaitReports(a_);
  ExpectRefused(StartVm(), "has not heard");
  ExpectNothingBegunAtA();
  controller_.Reconnect("b", b_);
  AwaitSettled();
  EXPECT_EQ(controller_.GetVm("web1").host(), "b");
  ASSERT_TRUE(a_.WaitFor("ForgetVm"));
  EXPECT_EQ(b_.Epoch("web1"), 2U);
  ExpectNothingBegunAtA();
}

TEST_F(RestoreTest, AnOldCopyThatRunsIsEnded) {
  b_.Copy(a_, "web1", 2, v1::VM_STATE_RUNNING);
  Restore();
  AwaitSettled();
  ASSERT_NE(controller_.AwaitEvent("vm.stale_copy", "vm/web1"), 0);
  ASSERT_TRUE(a_.WaitFor("ForgetVm"));
  EXPECT_EQ(a_.Called("StopVm"), 1);
  EXPECT_EQ(b_.Called("StopVm"), 0);
  EXPECT_EQ(controller_.GetVm("web1").host(), "b");
  ExpectNothingBegunAtA();
}

TEST_F(RestoreTest, AVmIsStartedAfterARebootOnceEveryHostWasHeard) {
  Reboot();
  b_.Stop();
  Restore();
  AwaitReports(a_);
  ExpectNothingBegunAtA();
  const std::int64_t restored = controller_.LastEvent();
  controller_.Reconnect("b", b_);
  ASSERT_NE(controller_.AwaitEvent("vm.started", "vm/web1", restored), 0);
  EXPECT_EQ(a_.Called("StartVm"), starts_ + 1);
}

// ---- Hosts that never come back, or too late

// Host b may have had it, under any epoch: what starts at host a is above all of them.
TEST_F(RestoreTest, AfterAHostWasConfirmedDeadWhateverItHasIsVoid) {
  a_.Change(
      [](v1::AgentStatus& status) { status.mutable_vms(0)->set_state(v1::VM_STATE_STOPPED); });
  b_.Copy(a_, "web1", 7, v1::VM_STATE_RUNNING);
  b_.Stop();
  Restore();
  AwaitReports(a_);
  ASSERT_TRUE(ConfirmDead("b").ok());
  const grpc::Status started = StartVm();
  ASSERT_TRUE(started.ok()) << started.error_message();
  EXPECT_TRUE(controller_.HasEvent("controller.settled", "controller"));
  EXPECT_GE(a_.Epoch("web1"), static_cast<std::uint64_t>(before_));
  EXPECT_EQ(controller_.GetVm("web1").host(), "a");

  controller_.Reconnect("b", b_);
  ASSERT_NE(controller_.AwaitEvent("host.alive", "host/b"), 0);
  EXPECT_TRUE(controller_.HasEvent("vm.stale_copy", "vm/web1"));
  EXPECT_EQ(b_.Epoch("web1"), 0U);
  EXPECT_EQ(controller_.GetVm("web1").host(), "a");
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_RUNNING);
}

TEST_F(RestoreTest, AVmThatRunsIsRaisedAboveThemToo) {
  b_.Copy(a_, "web1", 7, v1::VM_STATE_STOPPED);
  b_.Stop();
  Restore();
  AwaitReports(a_);
  ASSERT_TRUE(ConfirmDead("b").ok());
  ExpectRefused(RemoveHost("a"), "owns VMs");
  ASSERT_TRUE(controller_.CreateVm(kOther, "a").ok()) << "the first to need it settles it";
  EXPECT_GE(a_.Epoch("db1"), static_cast<std::uint64_t>(before_)) << "host b may have one, too";
  controller_.Reconnect("b", b_);
  ASSERT_NE(controller_.AwaitEvent("host.alive", "host/b"), 0);
  EXPECT_EQ(b_.Epoch("web1"), 0U);
  EXPECT_EQ(controller_.GetVm("web1").host(), "a");
  EXPECT_EQ(a_.Called("StopVm"), 0);
}

TEST_F(RestoreTest, VmsOfADeadHostStartElsewhereAsEver) {
  a_.Stop();
  Restore();
  AwaitReports(b_);
  ExpectRefused(StartVm("b"), "has not heard");
  ASSERT_TRUE(ConfirmDead("a").ok());
  const grpc::Status started = StartVm("b");
  ASSERT_TRUE(started.ok()) << started.error_message();
  controller_.Reconnect("a", a_);
  ASSERT_NE(controller_.AwaitEvent("host.alive", "host/a"), 0);
  EXPECT_EQ(a_.Epoch("web1"), 0U);
  EXPECT_EQ(b_.Report().vms(0).state(), v1::VM_STATE_RUNNING);
}

// It was dead when the backup was made; who knows what it has got since.
TEST_F(RestoreTest, AHostIsNotDeadBecauseItOnceWas) {
  controller_.Start();
  controller_.Lose("b", b_);
  ASSERT_TRUE(ConfirmDead("b").ok());
  backup_ = controller_.Backup();
  controller_.Reconnect("b", b_);
  ASSERT_NE(controller_.AwaitEvent("host.alive", "host/b"), 0);
  controller_.Stop();
  b_.TakeOver(a_, "web1", 2, v1::VM_STATE_RUNNING);
  b_.Stop();
  Restore();
  AwaitReports(a_);
  EXPECT_EQ(controller_.GetHost("b").dead_since_ms(), 0);
  ExpectRefused(StartVm(), "has not heard");
  ExpectNothingBegunAtA();
}

// The operator knows of host c, the backup does not.
TEST_F(RestoreTest, HostsThatJoinedSinceAreWaitedFor) {
  c_.TakeOver(a_, "web1", 2, v1::VM_STATE_RUNNING);
  Restore({"c"});
  AwaitReports(a_);
  AwaitReports(b_);
  ExpectRefused(StartVm(), ": c.");
  v1::AddHostRequest request;
  request.set_name("c");
  request.set_renew_token(true);
  v1::AddHostResponse response;
  {
    ShortCall call;
    const grpc::Status added = controller_.admin().hosts->Add(&call, request, &response);
    EXPECT_EQ(added.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << "nobody knows its address";
  }
  request.set_address("127.0.0.1:" + std::to_string(TestController::FreePort()));
  ShortCall call;
  ASSERT_TRUE(controller_.admin().hosts->Add(&call, request, &response).ok());
  rpc::CredentialFiles files;
  ASSERT_TRUE(controller_.Enrol(*pki::DecodeJoinToken(response.token()), "c", &files).ok());
  ExpectRefused(StartVm(), ": c");
  controller_.Reconnect("c", c_);
  AwaitSettled();
  EXPECT_EQ(controller_.GetVm("web1").host(), "c");
  ExpectNothingBegunAtA();
}

// ---- VMs that nobody has, or the store does not know

TEST_F(RestoreTest, AVmThatNobodyHasStartsOnTheWordOfAUserOnly) {
  c_.TakeOver(a_, "web1", 2, v1::VM_STATE_RUNNING);
  Restore();
  AwaitSettled();
  EXPECT_TRUE(controller_.HasEvent("vm.missing", "vm/web1"));
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_UNKNOWN);
  ExpectRefused(StartVm(), "--runs-nowhere");
  ExpectRefused(StartVm("b"), "--runs-nowhere");
  ExpectRefused(Migrate("b"), "--runs-nowhere");
  AwaitReports(a_);
  ExpectNothingBegunAtA();
  ASSERT_TRUE(StartVm("b", /*runs_nowhere=*/true).ok());
  EXPECT_TRUE(controller_.HasEvent("vm.runs_nowhere", "vm/web1"));
  EXPECT_GE(b_.Epoch("web1"), static_cast<std::uint64_t>(before_));

  // The user was wrong. The word counts.
  controller_.Join("c", c_);
  ASSERT_NE(controller_.AwaitEvent("vm.stale_copy", "vm/web1"), 0);
  ASSERT_TRUE(c_.WaitFor("ForgetVm"));
  EXPECT_EQ(controller_.GetVm("web1").host(), "b");
}

TEST_F(RestoreTest, AVmThatNobodyHasIsFoundOnAHostThatJoinsAgain) {
  c_.TakeOver(a_, "web1", 2, v1::VM_STATE_RUNNING);
  Restore();
  AwaitSettled();
  ExpectRefused(StartVm(), "--runs-nowhere");
  controller_.Join("c", c_);
  ASSERT_NE(controller_.AwaitEvent("vm.owner_restored", "vm/web1"), 0);
  EXPECT_EQ(controller_.GetVm("web1").host(), "c");
  EXPECT_EQ(c_.Called("StopVm"), 0);
  ExpectNothingBegunAtA();
}

TEST_F(RestoreTest, AVmThatWasDeletedStaysDeleted) {
  a_.Lose("web1");
  Restore();
  AwaitSettled();
  AwaitReports(a_);
  ExpectNothingBegunAtA();
  const grpc::Status deleted = DeleteVm();
  EXPECT_TRUE(deleted.ok()) << deleted.error_message();
}

TEST_F(RestoreTest, AVmThatTheStoreDoesNotKnowIsAdopted) {
  controller_.Start();
  ASSERT_TRUE(controller_.CreateVm(kOther, "b").ok());
  const v1::Vm made = controller_.GetVm("db1");
  Restore();
  AwaitSettled();
  EXPECT_TRUE(controller_.HasEvent("vm.adopted", "vm/db1"));
  const v1::Vm vm = controller_.GetVm("db1");
  EXPECT_EQ(vm.host(), "b");
  EXPECT_EQ(vm.uuid(), made.uuid());
  EXPECT_EQ(vm.epoch(), 1U);
  EXPECT_EQ(vm.memory_bytes(), made.memory_bytes());
  EXPECT_EQ(vm.state(), v1::VM_STATE_RUNNING);
  EXPECT_EQ(controller_.CreateVm(kOther, "a").error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

TEST_F(RestoreTest, AModeIsNeverLowered) {
  a_.Change([](v1::AgentStatus& status) {
    status.mutable_vms(0)->set_encryption(v1::ENCRYPTION_MODE_REQUIRED);
    status.mutable_vms(0)->set_policy_version(9);
  });
  Restore();
  AwaitSettled();
  ASSERT_NE(controller_.AwaitEvent("vm.encryption_changed", "vm/web1"), 0);
  EXPECT_EQ(controller_.GetVm("web1").encryption(), v1::ENCRYPTION_MODE_REQUIRED);
  ASSERT_TRUE(a_.WaitFor("PutVm", puts_ + 1)) << "the agent learns that the store knows";
  EXPECT_EQ(a_.last_put().encryption(), v1::ENCRYPTION_MODE_REQUIRED);
  EXPECT_EQ(a_.last_put().policy_version(), 10U);
}

// ---- Migrations

class RestoredMigrationTest : public RestoreTest {
 protected:
  // The backup is made while web1 is being copied to host b.
  void SetUp() override {
    RestoreTest::SetUp();
    controller_.Start();
    ASSERT_TRUE(Migrate("b", &migration_).ok());
    ASSERT_TRUE(a_.WaitFor("WatchMigration"));
  }
  void BackUp() {
    backup_ = controller_.Backup();
    controller_.Stop();
    starts_ = a_.Called("StartVm");
    puts_ = a_.Called("PutVm");
  }
  static void Forget(FakeAgent& agent) {
    agent.Change([](v1::AgentStatus& status) { status.clear_migrations(); });
  }
  v1::MigrationPhase End() {
    return controller_.AwaitMigration(migration_, [](const v1::Migration&) { return false; })
        .progress()
        .phase();
  }

  std::string migration_;
};

TEST_F(RestoredMigrationTest, OneThatIsStillUnderWayGoesOn) {
  BackUp();
  Restore();
  a_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);
  b_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);
  b_.TakeOver(a_, "web1", 2, v1::VM_STATE_RUNNING);
  EXPECT_EQ(End(), v1::MIGRATION_PHASE_COMPLETED);
  AwaitSettled();
  EXPECT_EQ(controller_.GetVm("web1").host(), "b");
  EXPECT_EQ(controller_.GetVm("web1").epoch(), 2U);
  ExpectNothingBegunAtA();
}

TEST_F(RestoredMigrationTest, OneThatIsLongOverHasCompleted) {
  BackUp();
  Forget(a_);
  Forget(b_);
  b_.TakeOver(a_, "web1", 2, v1::VM_STATE_RUNNING);
  Restore();
  EXPECT_EQ(End(), v1::MIGRATION_PHASE_COMPLETED);
  AwaitSettled();
  EXPECT_EQ(controller_.GetVm("web1").host(), "b");
  EXPECT_EQ(controller_.GetVm("web1").epoch(), 2U);
  ExpectNothingBegunAtA();
}

TEST_F(RestoredMigrationTest, OfOneThatWasFollowedByOthersNobodyKnows) {
  controller_.Join("c", c_);
  BackUp();
  Forget(a_);
  Forget(b_);
  c_.TakeOver(a_, "web1", 3, v1::VM_STATE_RUNNING);
  Restore();
  EXPECT_EQ(End(), v1::MIGRATION_PHASE_FAILED);
  AwaitSettled();
  EXPECT_EQ(controller_.GetVm("web1").host(), "c");
  EXPECT_EQ(controller_.GetVm("web1").epoch(), 3U);
  EXPECT_TRUE(Migrate("b").ok());
}

TEST_F(RestoredMigrationTest, OfAVmThatWasDeletedItEnds) {
  BackUp();
  Forget(a_);
  Forget(b_);
  a_.Lose("web1");
  Restore();
  EXPECT_EQ(End(), v1::MIGRATION_PHASE_FAILED);
  AwaitSettled();
  EXPECT_TRUE(DeleteVm().ok());
}

// It was only being prepared when the backup was made, and has been committed since: to undo it now
// would take the guest from both.
TEST_F(RestoredMigrationTest, OneThatHadNotBegunIsNotUndone) {
  a_.SetPhase(v1::MIGRATION_PHASE_FAILED);
  ASSERT_EQ(End(), v1::MIGRATION_PHASE_FAILED);
  b_.Hold("PrepareDestination");
  std::string second;
  ASSERT_TRUE(Migrate("b", &second).ok());
  BackUp();
  b_.Release();
  Forget(a_);
  Forget(b_);
  b_.TakeOver(a_, "web1", 2, v1::VM_STATE_RUNNING);
  const int cancelled = b_.Called("CancelMigration");
  const int told = b_.Called("TellDecision");
  Restore();
  AwaitSettled();
  ASSERT_NE(controller_.AwaitEvent("migration.completed", "migration/" + second), 0);
  EXPECT_EQ(controller_.GetVm("web1").host(), "b");
  EXPECT_EQ(b_.Called("CancelMigration"), cancelled);
  EXPECT_EQ(b_.Called("TellDecision"), told);
}

// The store does not know of it. Its source cannot reach the destination any more.
TEST_F(RestoredMigrationTest, TheDecisionOfAnUnknownOneIsCarriedAllTheSame) {
  controller_.Stop();
  a_.SetPhase(v1::MIGRATION_PHASE_COMMITTED);
  b_.SetPhase(v1::MIGRATION_PHASE_SWITCHING);
  a_.Fail("ForgetMigration", {grpc::StatusCode::UNAVAILABLE, "its guest is still there"});
  Restore();
  ASSERT_TRUE(b_.WaitFor("TellDecision"));
  AwaitReports(a_);
  ExpectRefused(StartVm(), "in the middle of migration");
  ASSERT_TRUE(a_.WaitFor("ForgetMigration"));
  b_.TakeOver(a_, "web1", 2, v1::VM_STATE_RUNNING);
  Forget(a_);
  ASSERT_NE(controller_.AwaitEvent("vm.owner_restored", "vm/web1"), 0);
  ASSERT_TRUE(b_.WaitFor("ForgetMigration"));
  EXPECT_EQ(controller_.GetVm("web1").host(), "b");
  EXPECT_EQ(a_.Called("CancelMigration"), 0);
  ExpectNothingBegunAtA();
}

TEST_F(RestoredMigrationTest, AnUnknownOneThatItsSourceHasUndoneIsUndone) {
  controller_.Stop();
  a_.SetPhase(v1::MIGRATION_PHASE_FAILED);
  b_.SetPhase(v1::MIGRATION_PHASE_SWITCHING);
  Restore();
  ASSERT_TRUE(b_.WaitFor("TellDecision"));
  AwaitSettled();
  EXPECT_EQ(controller_.GetVm("web1").host(), "a");
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_RUNNING);
}

// ---- Copies of the store that nobody has marked

TEST_F(RestoreTest, OnceItHasSettledAHigherEpochMovesNothing) {
  Restore();
  AwaitSettled();
  b_.Copy(a_, "web1", 9, v1::VM_STATE_RUNNING);
  ASSERT_NE(controller_.AwaitEvent("vm.disputed", "vm/web1"), 0);
  EXPECT_EQ(controller_.GetVm("web1").host(), "a");
  EXPECT_EQ(controller_.GetVm("web1").epoch(), 1U);
  EXPECT_EQ(b_.Called("StopVm") + b_.Called("ForgetVm"), 0);
}

// It looks like one host that lies: no host gets a VM by it, until somebody says what the store is.
class OldCopyTest : public RestoreTest {
 protected:
  // The store says that web1 is host a's under epoch 1; it is host b's by now, and so is db1.
  void SetUp() override {
    RestoreTest::SetUp();
    const std::string copy = controller_.folder() + "/copy.db";
    std::filesystem::copy_file(controller_.database(), copy);
    controller_.Start();
    ASSERT_TRUE(controller_.CreateVm(kOther, "b").ok());
    controller_.Lose("a", a_);
    ASSERT_TRUE(ConfirmDead("a").ok());
    ASSERT_TRUE(StartVm("b").ok());
    controller_.Stop();
    std::filesystem::copy_file(copy, controller_.database(),
                               std::filesystem::copy_options::overwrite_existing);
    controller_.Start();
  }
};

TEST_F(OldCopyTest, IsNoticedAndNothingIsDoneAboutIt) {
  ASSERT_NE(controller_.AwaitEvent("vm.disputed", "vm/web1"), 0);
  ASSERT_NE(controller_.AwaitEvent("vm.disputed", "host/b"), 0) << "it has db1";
  for (const v1::Event& event : controller_.Events()) {
    if (event.type() != "vm.disputed") continue;
    EXPECT_THAT(event.text(), HasSubstr("sealift-controllerd restore"));
  }
  EXPECT_EQ(controller_.GetVm("web1").host(), "a");
  ExpectRefused(StartVm(), "host b runs a VM web1");
  EXPECT_EQ(b_.Called("StopVm") + b_.Called("ForgetVm"), 0);
  ExpectNothingBegunAtA();
}

TEST_F(OldCopyTest, IsRightAgainAfterABackupAndARestoreOfIt) {
  ASSERT_NE(controller_.AwaitEvent("vm.disputed", "vm/web1"), 0);
  backup_ = controller_.Backup();
  controller_.Stop();
  Restore();
  controller_.Reconnect("a", a_);
  AwaitSettled();
  EXPECT_EQ(controller_.GetVm("web1").host(), "b");
  EXPECT_EQ(controller_.GetVm("db1").host(), "b");
  ASSERT_TRUE(a_.WaitFor("ForgetVm"));
  ExpectNothingBegunAtA();
}

}  // namespace
}  // namespace sealift::controller
