// Hosts that do not answer, are taken for dead, and come back, through a real controller.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "base/file.h"
#include "controller/test_controller.h"

namespace sealift::controller {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kVm[] = "name: web1\nmemory: 512MiB\n";

class HostDeathsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    controller_.Join("a", a_);
    controller_.Join("b", b_);
    ASSERT_TRUE(controller_.CreateVm(kVm, "a").ok());
  }

  grpc::Status ConfirmDead(const std::string& host) {
    v1::ConfirmDeadHostRequest request;
    request.set_name(host);
    v1::Host response;
    ShortCall call;
    return controller_.admin().hosts->ConfirmDead(&call, request, &response);
  }
  grpc::Status Fence(const std::string& host) {
    v1::FenceHostRequest request;
    request.set_name(host);
    v1::Host response;
    ShortCall call;
    return controller_.admin().hosts->Fence(&call, request, &response);
  }
  // A controller whose fence command is this shell script.
  void FenceWith(const std::string& script) {
    const std::string path = controller_.folder() + "/fence";
    ASSERT_TRUE(base::WriteFileDurably(path, "#!/bin/sh\n" + script).ok());
    ASSERT_EQ(chmod(path.c_str(), 0700), 0);
    controller_.Stop();
    controller_.settings().fencing = {{path, "--off"}, std::chrono::seconds(10)};
    controller_.Start();
  }
  grpc::Status StartVm(const std::string& host, const std::string& name = "web1") {
    v1::StartVmRequest request;
    request.set_name(name);
    request.set_host(host);
    v1::Vm response;
    ShortCall call;
    return controller_.admin().vms->Start(&call, request, &response);
  }
  void StopAndDeleteVmAtB() {
    b_.Change(
        [](v1::AgentStatus& status) { status.mutable_vms(0)->set_state(v1::VM_STATE_STOPPED); });
    v1::DeleteVmRequest request;
    request.set_name("web1");
    v1::DeleteVmResponse response;
    ShortCall call;
    ASSERT_TRUE(controller_.admin().vms->Delete(&call, request, &response).ok());
  }
  void ExpectRefused(const grpc::Status& status, const std::string& words) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_THAT(status.error_message(), HasSubstr(words));
  }

  FakeAgent a_;
  FakeAgent b_;
  FakeAgent c_;
  TestController controller_;
};

TEST_F(HostDeathsTest, AHostThatAnswersIsNotDead) {
  ExpectRefused(ConfirmDead("a"), "its agent answers");
  EXPECT_EQ(controller_.GetHost("a").dead_since_ms(), 0);
}

TEST_F(HostDeathsTest, AHostWhoseAgentIsStuckIsNotDead) {
  const std::int64_t before = controller_.LastEvent();
  a_.Fail("GetStatus", {grpc::StatusCode::UNAVAILABLE, "a QEMU hangs"});
  ASSERT_NE(controller_.AwaitEvent("host.unreachable", "host/a", before), 0);
  ExpectRefused(ConfirmDead("a"), "takes connections");
  EXPECT_EQ(controller_.GetHost("a").dead_since_ms(), 0);
}

// Nobody knows whether a silent host's guests run.
TEST_F(HostDeathsTest, AVmOfASilentHostStartsNowhereElse) {
  controller_.Lose("a", a_);
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_UNKNOWN);
  ExpectRefused(StartVm("b"), "sealift host confirm-dead a");
  EXPECT_EQ(b_.Called("PutVm"), 0);
  EXPECT_EQ(controller_.GetVm("web1").host(), "a");
}

TEST_F(HostDeathsTest, AVmOfADeadHostStartsElsewhereUnderANewEpoch) {
  controller_.Lose("a", a_);
  ASSERT_TRUE(ConfirmDead("a").ok());
  EXPECT_EQ(controller_.GetHost("a").state(), v1::HOST_STATE_DEAD);
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_CRASHED);
  EXPECT_THAT(controller_.GetVm("web1").state_reason(), HasSubstr("--host"));
  const grpc::Status started = StartVm("b");
  ASSERT_TRUE(started.ok()) << started.error_message();
  const v1::Vm vm = controller_.GetVm("web1");
  EXPECT_EQ(vm.host(), "b");
  EXPECT_EQ(vm.epoch(), 2U);
  EXPECT_EQ(vm.state(), v1::VM_STATE_RUNNING);
  EXPECT_EQ(b_.last_put().epoch(), 2U);
  EXPECT_TRUE(controller_.HasEvent("vm.taken_over", "vm/web1"));
}

TEST_F(HostDeathsTest, WhatADeadHostStillHasWhenItComesBackIsEnded) {
  controller_.Lose("a", a_);
  ASSERT_TRUE(ConfirmDead("a").ok());
  ASSERT_TRUE(StartVm("b").ok());
  controller_.Reconnect("a", a_);
  ASSERT_NE(controller_.AwaitEvent("host.alive", "host/a"), 0);
  EXPECT_TRUE(controller_.HasEvent("vm.stale_copy", "vm/web1"));
  EXPECT_EQ(a_.Called("StopVm"), 1);
  EXPECT_EQ(a_.Report().vms_size(), 0);
  EXPECT_EQ(b_.Report().vms(0).state(), v1::VM_STATE_RUNNING);
  EXPECT_EQ(controller_.GetHost("a").state(), v1::HOST_STATE_READY);
  EXPECT_EQ(controller_.GetHost("a").dead_since_ms(), 0);
}

TEST_F(HostDeathsTest, SoItIsWhileTheVmMovesOn) {
  controller_.Join("c", c_);
  controller_.Lose("a", a_);
  ASSERT_TRUE(ConfirmDead("a").ok());
  ASSERT_TRUE(StartVm("b").ok());
  v1::StartMigrationRequest request;
  request.set_vm("web1");
  request.set_to("c");
  v1::Migration migration;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().migrations->Start(&call, request, &migration).ok());
  ASSERT_TRUE(b_.WaitFor("WatchMigration"));
  controller_.Reconnect("a", a_);
  ASSERT_NE(controller_.AwaitEvent("host.alive", "host/a"), 0);
  EXPECT_EQ(a_.Called("StopVm"), 1);
  EXPECT_EQ(a_.Epoch("web1"), 0U);
  EXPECT_EQ(b_.Called("StopVm"), 0);
}

// A VM of the same name is another one, and never gets an epoch that the first one had.
TEST_F(HostDeathsTest, SoItIsWhenTheVmWasDeletedAndMadeAgain) {
  controller_.Lose("a", a_);
  ASSERT_TRUE(ConfirmDead("a").ok());
  ASSERT_TRUE(StartVm("b").ok());
  StopAndDeleteVmAtB();
  ASSERT_TRUE(controller_.CreateVm(kVm, "b").ok());
  EXPECT_EQ(controller_.GetVm("web1").epoch(), 3U);
  controller_.Reconnect("a", a_);
  ASSERT_NE(controller_.AwaitEvent("host.alive", "host/a"), 0);
  EXPECT_EQ(a_.Called("StopVm"), 1);
  EXPECT_EQ(a_.Epoch("web1"), 0U);
  EXPECT_EQ(b_.Epoch("web1"), 3U);
}

TEST_F(HostDeathsTest, SoItIsWhenTheVmWasDeleted) {
  controller_.Lose("a", a_);
  ASSERT_TRUE(ConfirmDead("a").ok());
  ASSERT_TRUE(StartVm("b").ok());
  StopAndDeleteVmAtB();
  controller_.Reconnect("a", a_);
  ASSERT_NE(controller_.AwaitEvent("host.alive", "host/a"), 0);
  EXPECT_EQ(a_.Called("StopVm"), 1);
  EXPECT_EQ(a_.Epoch("web1"), 0U);
}

TEST_F(HostDeathsTest, AHostThatComesBackKeepsWhatNobodyTook) {
  controller_.Lose("a", a_);
  ASSERT_TRUE(ConfirmDead("a").ok());
  controller_.Reconnect("a", a_);
  ASSERT_NE(controller_.AwaitEvent("host.alive", "host/a"), 0);
  EXPECT_EQ(a_.Called("StopVm"), 0);
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_RUNNING);
  EXPECT_EQ(controller_.GetVm("web1").epoch(), 1U);
}

// It is back, and cannot end the copy of a VM that was taken from it.
class BackWithAStaleCopyTest : public HostDeathsTest {
 protected:
  void SetUp() override {
    HostDeathsTest::SetUp();
    ASSERT_TRUE(controller_.CreateVm("name: web2\nmemory: 512MiB\n", "a").ok());
    controller_.Lose("a", a_);
    ASSERT_TRUE(ConfirmDead("a").ok());
    ASSERT_TRUE(StartVm("b").ok());
    a_.Fail("StopVm", {grpc::StatusCode::INTERNAL, "its storage is stuck"});
    controller_.Reconnect("a", a_);
    ASSERT_TRUE(a_.WaitFor("StopVm"));
  }
};

TEST_F(BackWithAStaleCopyTest, AHostThatWasSeenAliveIsNotDeadAnyMore) {
  EXPECT_EQ(controller_.GetHost("a").dead_since_ms(), 0);
  controller_.Lose("a", a_);
  EXPECT_EQ(controller_.GetHost("a").state(), v1::HOST_STATE_UNREACHABLE);
  EXPECT_EQ(controller_.GetVm("web2").state(), v1::VM_STATE_UNKNOWN) << "it may run there";
  ExpectRefused(StartVm("b", "web2"), "sealift host confirm-dead a");
  ASSERT_TRUE(ConfirmDead("a").ok());
  EXPECT_TRUE(StartVm("b", "web2").ok());
}

TEST_F(BackWithAStaleCopyTest, TheCopyIsEndedHoweverLongThatTakes) {
  controller_.Lose("a", a_);
  EXPECT_FALSE(controller_.HasEvent("host.alive", "host/a"));
  controller_.Stop();
  controller_.Start();
  a_.Fail("StopVm", grpc::Status::OK);
  controller_.Reconnect("a", a_);
  ASSERT_NE(controller_.AwaitEvent("host.alive", "host/a"), 0);
  EXPECT_EQ(a_.Epoch("web1"), 0U);
  EXPECT_EQ(controller_.GetVm("web2").state(), v1::VM_STATE_RUNNING);
}

TEST_F(HostDeathsTest, WithoutAFenceCommandAPersonHasToLook) {
  controller_.Lose("a", a_);
  ExpectRefused(Fence("a"), "host confirm-dead a");
  EXPECT_EQ(controller_.GetHost("a").dead_since_ms(), 0);
}

TEST_F(HostDeathsTest, AFencedHostIsDead) {
  a_.Stop();
  const std::string told = controller_.folder() + "/told";
  FenceWith("echo \"$@\" > " + told + "\n");
  const grpc::Status fenced = Fence("a");
  ASSERT_TRUE(fenced.ok()) << fenced.error_message();
  EXPECT_EQ(*base::ReadFile(told), "--off a " + controller_.AddressOf("a") + "\n");
  EXPECT_EQ(controller_.GetHost("a").state(), v1::HOST_STATE_DEAD);
}

// A stuck host is fenced, and what it has said before arrives only then.
TEST_F(HostDeathsTest, AReportFromBeforeTheFenceMakesNobodyAlive) {
  std::int64_t before = controller_.LastEvent();
  FenceWith("exit 0\n");
  before = controller_.AwaitEvent("host.ready", "host/a", before);
  ASSERT_NE(before, 0);
  a_.Hold("GetStatus");
  ASSERT_TRUE(a_.WaitFor("GetStatus", a_.Called("GetStatus") + 1));
  const grpc::Status fenced = Fence("a");
  ASSERT_TRUE(fenced.ok()) << fenced.error_message();
  a_.Fail("GetStatus", {grpc::StatusCode::UNAVAILABLE, "it is off"});
  a_.Release();
  ASSERT_NE(controller_.AwaitEvent("host.unreachable", "host/a", before), 0);
  EXPECT_EQ(controller_.GetHost("a").state(), v1::HOST_STATE_DEAD);
  EXPECT_FALSE(controller_.HasEvent("host.alive", "host/a"));
}

TEST_F(HostDeathsTest, AFenceCommandThatFailsProvesNothing) {
  a_.Stop();
  FenceWith("echo the power switch does not answer\nexit 3\n");
  const grpc::Status fenced = Fence("a");
  EXPECT_EQ(fenced.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_THAT(fenced.error_message(),
              AllOf(HasSubstr("failed with 3"), HasSubstr("power switch does not answer")));
  EXPECT_EQ(controller_.GetHost("a").dead_since_ms(), 0);
  EXPECT_TRUE(controller_.HasEvent("host.fence_failed", "host/a"));
}

// ---- Migrations of dead hosts

class DeadDuringAMigrationTest : public HostDeathsTest {
 protected:
  void SetUp() override {
    HostDeathsTest::SetUp();
    v1::StartMigrationRequest request;
    request.set_vm("web1");
    request.set_to("b");
    ShortCall call;
    ASSERT_TRUE(controller_.admin().migrations->Start(&call, request, &migration_).ok());
    ASSERT_TRUE(a_.WaitFor("WatchMigration"));
  }
  v1::MigrationPhase End() {
    return controller_.AwaitMigration(migration_.id(), [](const v1::Migration&) { return false; })
        .progress()
        .phase();
  }

  v1::Migration migration_;
};

TEST_F(DeadDuringAMigrationTest, ASourceThatHadNotCommittedTakesTheVmAlong) {
  controller_.Lose("a", a_);
  ASSERT_TRUE(ConfirmDead("a").ok());
  EXPECT_EQ(End(), v1::MIGRATION_PHASE_FAILED);
  EXPECT_EQ(controller_.GetVm("web1").host(), "a");
  EXPECT_GT(b_.Called("CancelMigration"), 0);
  ASSERT_TRUE(StartVm("b").ok());
  EXPECT_EQ(controller_.GetVm("web1").epoch(), 2U);
}

// Its commit was on its disk, but reached nobody.
class DeadAfterItsCommitTest : public DeadDuringAMigrationTest {
 protected:
  void SetUp() override {
    DeadDuringAMigrationTest::SetUp();
    controller_.Lose("a", a_);
    a_.SetPhase(v1::MIGRATION_PHASE_COMMITTED);
    a_.Change(
        [](v1::AgentStatus& status) { status.mutable_vms(0)->set_state(v1::VM_STATE_MIGRATING); });
    ASSERT_TRUE(ConfirmDead("a").ok());
    ASSERT_EQ(End(), v1::MIGRATION_PHASE_FAILED);
  }
  void AwaitNoMigrationAtA() {
    const int heard = a_.Called("GetStatus");
    while (a_.Report().migrations_size() > 0 && a_.Called("GetStatus") < heard + 100) {
      std::this_thread::yield();
    }
    EXPECT_EQ(a_.Report().migrations_size(), 0);
  }
};

TEST_F(DeadAfterItsCommitTest, ASourceThatComesBackIsDoneWithAVmThatWasTaken) {
  ASSERT_TRUE(StartVm("b").ok());
  controller_.Reconnect("a", a_);
  ASSERT_NE(controller_.AwaitEvent("host.alive", "host/a"), 0);
  AwaitNoMigrationAtA();
  EXPECT_EQ(a_.Report().vms_size(), 0);
  EXPECT_FALSE(controller_.HasEvent("vm.stale_copy", "vm/web1")) << "there was none to end";
  EXPECT_EQ(controller_.GetHost("a").dead_since_ms(), 0);
  EXPECT_EQ(b_.Report().vms(0).state(), v1::VM_STATE_RUNNING);
}

TEST_F(DeadAfterItsCommitTest, AVmThatNobodyTookStartsAnewWhereItWas) {
  controller_.Reconnect("a", a_);
  AwaitNoMigrationAtA();
  const grpc::Status started = StartVm("");
  ASSERT_TRUE(started.ok()) << started.error_message();
  EXPECT_EQ(controller_.GetVm("web1").host(), "a");
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_RUNNING);
}

TEST_F(DeadDuringAMigrationTest, AGuestThatTheDestinationOwnsIsNotLost) {
  controller_.Lose("a", a_);
  b_.ShowReceipt(a_.last_receipt());
  b_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);
  ASSERT_TRUE(ConfirmDead("a").ok());
  EXPECT_EQ(End(), v1::MIGRATION_PHASE_COMPLETED);
  EXPECT_EQ(controller_.GetVm("web1").host(), "b");
}

TEST_F(DeadDuringAMigrationTest, ADestinationThatOnlySaysThatItOwnsTheGuestDoesNotGetTheVm) {
  controller_.Lose("a", a_);
  b_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);
  ASSERT_TRUE(ConfirmDead("a").ok());
  EXPECT_EQ(End(), v1::MIGRATION_PHASE_FAILED);
  EXPECT_EQ(controller_.GetVm("web1").host(), "a");
  EXPECT_TRUE(controller_.HasEvent("migration.disputed", "migration/" + migration_.id()));
}

TEST_F(DeadDuringAMigrationTest, ADestinationThatOwnsTheGuestTakesItAlong) {
  a_.SetPhase(v1::MIGRATION_PHASE_COMMITTED);
  controller_.Lose("b", b_);
  ASSERT_TRUE(ConfirmDead("b").ok());
  EXPECT_EQ(End(), v1::MIGRATION_PHASE_COMPLETED);
  EXPECT_EQ(controller_.GetVm("web1").host(), "b");
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_CRASHED);
  ASSERT_TRUE(StartVm("a").ok());
  EXPECT_EQ(controller_.GetVm("web1").epoch(), 3U);
}

// Both are dead, the one that had committed and the one that has the guest.
class DeadOnBothSidesTest : public DeadDuringAMigrationTest {
 protected:
  void SetUp() override {
    DeadDuringAMigrationTest::SetUp();
    controller_.Join("c", c_);
    controller_.Lose("a", a_);
    controller_.Lose("b", b_);
    a_.SetPhase(v1::MIGRATION_PHASE_COMMITTED);
    b_.Copy(a_, "web1", 2, v1::VM_STATE_RUNNING);
    b_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);
    a_.Change(
        [](v1::AgentStatus& status) { status.mutable_vms(0)->set_state(v1::VM_STATE_MIGRATING); });
    ASSERT_TRUE(ConfirmDead("a").ok());
    ASSERT_TRUE(ConfirmDead("b").ok());
    ASSERT_EQ(End(), v1::MIGRATION_PHASE_FAILED);
  }
  void ExpectThatBGivesItUp() {
    controller_.Reconnect("b", b_);
    ASSERT_NE(controller_.AwaitEvent("host.alive", "host/b"), 0);
    EXPECT_EQ(b_.Called("StopVm"), 1);
    EXPECT_EQ(b_.Epoch("web1"), 0U);
    EXPECT_FALSE(controller_.HasEvent("vm.disputed", "vm/web1"));
  }
};

TEST_F(DeadOnBothSidesTest, WhatTheDestinationHasIsOlderThanWhatIsStartedElsewhere) {
  const grpc::Status started = StartVm("c");
  ASSERT_TRUE(started.ok()) << started.error_message();
  EXPECT_GT(c_.Epoch("web1"), 2U);
  ExpectThatBGivesItUp();
  EXPECT_EQ(c_.Report().vms(0).state(), v1::VM_STATE_RUNNING);
}

// An agent takes no new epoch of a VM that is on its way.
TEST_F(DeadOnBothSidesTest, TheSourceHearsOfItsNewEpochOnceItIsDoneWithTheMigration) {
  const int put = a_.Called("PutVm");
  a_.Fail("ForgetMigration", {grpc::StatusCode::FAILED_PRECONDITION, "its QEMU has not ended"});
  controller_.Reconnect("a", a_);
  ASSERT_TRUE(a_.WaitFor("GetStatus", a_.Called("GetStatus") + 5));
  EXPECT_EQ(a_.Called("PutVm"), put);
  a_.Fail("ForgetMigration", grpc::Status::OK);
  ASSERT_TRUE(a_.WaitFor("PutVm", put + 1));
  EXPECT_GT(a_.last_put().epoch(), 2U);
}

TEST_F(DeadOnBothSidesTest, WhatTheDestinationHasIsOlderThanWhatIsStartedAtTheSource) {
  controller_.Reconnect("a", a_);
  while (a_.Report().migrations_size() > 0) std::this_thread::yield();
  const grpc::Status started = StartVm("");
  ASSERT_TRUE(started.ok()) << started.error_message();
  EXPECT_GT(a_.Epoch("web1"), 2U);
  ExpectThatBGivesItUp();
  EXPECT_EQ(a_.Report().vms(0).state(), v1::VM_STATE_RUNNING);
}

// ---- Autostart: who owns a VM after a reboot of its host is for the controller to say

class AutostartTest : public HostDeathsTest {
 protected:
  void Reboot() {
    controller_.Lose("a", a_);
    RebootUnseen();
  }
  // So fast that no heartbeat fails.
  void RebootUnseen() {
    started_ = a_.Called("StartVm");
    a_.Change([](v1::AgentStatus& status) {
      status.set_boot_id("the next");
      status.mutable_vms(0)->set_state(v1::VM_STATE_CRASHED);
      status.mutable_vms(0)->set_autostart_due(true);
    });
  }

  int started_ = 0;
};

TEST_F(AutostartTest, AVmIsStartedAfterARebootOfItsHostUnderANewEpoch) {
  Reboot();
  const std::int64_t before = controller_.LastEvent();
  controller_.Reconnect("a", a_);
  ASSERT_NE(controller_.AwaitEvent("vm.started", "vm/web1", before), 0);
  EXPECT_EQ(a_.Called("StartVm"), started_ + 1);
  EXPECT_EQ(a_.last_put().epoch(), 2U);
  EXPECT_EQ(controller_.GetVm("web1").epoch(), 2U);
}

TEST_F(AutostartTest, ARebootBetweenTwoHeartbeatsIsNoticed) {
  const std::int64_t before = controller_.LastEvent();
  RebootUnseen();
  ASSERT_NE(controller_.AwaitEvent("vm.started", "vm/web1", before), 0);
  EXPECT_EQ(a_.Called("StartVm"), started_ + 1);
}

TEST_F(AutostartTest, AVmThatWasTakenOverMeanwhileIsNot) {
  Reboot();
  ASSERT_TRUE(ConfirmDead("a").ok());
  ASSERT_TRUE(StartVm("b").ok());
  controller_.Reconnect("a", a_);
  ASSERT_NE(controller_.AwaitEvent("host.alive", "host/a"), 0);
  EXPECT_EQ(a_.Called("StartVm"), started_);
  EXPECT_EQ(a_.Report().vms_size(), 0);
}

}  // namespace
}  // namespace sealift::controller
