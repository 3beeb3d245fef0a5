// Migrations through a real controller: real gRPC, mutual TLS, SQLite and HPKE; the two hosts
// report what the test wants.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controller/planner.h"
#include "controller/test_controller.h"

namespace sealift::controller {
namespace {

using ::testing::HasSubstr;

constexpr char kVm[] = "name: web1\nmemory: 512MiB\n";

auto InPhase(v1::MigrationPhase phase) {
  return [phase](const v1::Migration& view) { return view.progress().phase() == phase; };
}

class MigrationsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    controller_.Join("a", a_);
    controller_.Join("b", b_);
    ASSERT_TRUE(controller_.CreateVm(kVm, "a").ok());
  }

  grpc::Status Start(v1::Migration& migration, const std::string& to = "b",
                     const std::string& request_id = "") {
    v1::StartMigrationRequest request;
    request.set_vm("web1");
    request.set_to(to);
    request.set_request_id(request_id);
    ShortCall call;
    return controller_.admin().migrations->Start(&call, request, &migration);
  }
  v1::Migration Started() {
    v1::Migration migration;
    const grpc::Status status = Start(migration);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return migration;
  }
  // A migration whose source is copying.
  v1::Migration Copying() {
    const v1::Migration migration = Started();
    EXPECT_TRUE(a_.WaitFor("WatchMigration"));
    return migration;
  }
  v1::Migration Await(const v1::Migration& migration, v1::MigrationPhase phase) {
    const v1::Migration last = controller_.AwaitMigration(migration.id(), InPhase(phase));
    EXPECT_EQ(last.progress().phase(), phase) << last.progress().detail();
    return last;
  }
  v1::Migration AwaitDetail(const v1::Migration& migration, const std::string& words) {
    return controller_.AwaitMigration(migration.id(), [&](const v1::Migration& view) {
      return view.progress().detail().find(words) != std::string::npos;
    });
  }
  grpc::Status Cancel(const v1::Migration& migration) {
    v1::CancelMigrationRequest request;
    request.set_id(migration.id());
    v1::Migration response;
    ShortCall call;
    return controller_.admin().migrations->Cancel(&call, request, &response);
  }
  // The guest runs at b.
  void Arrive() {
    b_.Change([](v1::AgentStatus& status) {
      v1::AgentVm& vm = *status.add_vms();
      vm.set_name("web1");
      vm.set_epoch(2);
      vm.set_encryption(v1::ENCRYPTION_MODE_OPPORTUNISTIC);
      vm.set_state(v1::VM_STATE_RUNNING);
    });
  }
  // It does, and both agents have finished.
  void Finish() {
    Arrive();
    b_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);
    a_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);
  }
  void ExpectMoved(const v1::Migration& migration) {
    const v1::Vm vm = controller_.GetVm("web1");
    EXPECT_EQ(vm.host(), "b");
    EXPECT_EQ(vm.epoch(), 2U);
    EXPECT_EQ(vm.migration_id(), "");
    EXPECT_NE(controller_.AwaitEvent("migration.completed", "migration/" + migration.id()), 0);
  }
  void ExpectStayed() {
    const v1::Vm vm = controller_.GetVm("web1");
    EXPECT_EQ(vm.host(), "a");
    EXPECT_EQ(vm.epoch(), 1U);
    EXPECT_EQ(vm.state(), v1::VM_STATE_RUNNING);
    EXPECT_EQ(vm.migration_id(), "");
  }
  // Sets the mode of all VMs: no host is told at once.
  void SetModes(v1::EncryptionMode mode) {
    v1::SetVmsRequest request;
    request.set_all(true);
    request.mutable_change()->set_encryption(mode);
    v1::SetVmsResponse response;
    ShortCall call;
    ASSERT_TRUE(controller_.admin().vms->Set(&call, request, &response).ok());
  }
  std::string EventText(const std::string& type) {
    for (const v1::Event& event : controller_.Events()) {
      if (event.type() == type) return event.text();
    }
    return "";
  }
  // Neither agent holds anything of a migration any more; what was missed is caught up with their
  // next reports.
  void ExpectNothingLeft() {
    for (FakeAgent* agent : {&a_, &b_}) {
      const int heard = agent->Called("GetStatus");
      while (agent->Report().migrations_size() > 0 && agent->Called("GetStatus") < heard + 100) {
        std::this_thread::yield();
      }
      EXPECT_EQ(agent->Report().migrations_size(), 0);
    }
  }

  FakeAgent a_;
  FakeAgent b_;
  TestController controller_;
};

TEST_F(MigrationsTest, MovesAVmEncrypted) {
  const v1::Migration migration = Copying();
  EXPECT_TRUE(migration.encrypted());
  EXPECT_EQ(migration.cipher(), "AES-256-GCM");
  EXPECT_EQ(migration.from(), "a");
  EXPECT_EQ(migration.running_on(), "a");
  a_.Change([](v1::AgentStatus& status) {
    v1::MigrationProgress& progress = *status.mutable_migrations(0)->mutable_progress();
    progress.set_ram_total_bytes(1000);
    progress.set_ram_transferred_bytes(400);
    progress.set_wire_bytes(500);
    progress.set_downtime_ms(7);
  });
  const v1::Migration copying = controller_.AwaitMigration(
      migration.id(),
      [](const v1::Migration& view) { return view.progress().ram_transferred_bytes() == 400; });
  EXPECT_EQ(copying.progress().ram_total_bytes(), 1000U);
  EXPECT_EQ(copying.aead_backend(), "openssl");
  a_.SetPhase(v1::MIGRATION_PHASE_SWITCHING);
  Await(migration, v1::MIGRATION_PHASE_SWITCHING);
  a_.SetPhase(v1::MIGRATION_PHASE_COMMITTED);
  EXPECT_EQ(Await(migration, v1::MIGRATION_PHASE_COMMITTED).running_on(), "b");
  Finish();
  const v1::Migration ended = Await(migration, v1::MIGRATION_PHASE_COMPLETED);
  EXPECT_EQ(ended.running_on(), "b");
  EXPECT_EQ(ended.progress().wire_bytes(), 500U);
  EXPECT_EQ(ended.progress().downtime_ms(), 7U);
  EXPECT_GE(ended.ended_ms(), ended.started_ms());
  ExpectMoved(migration);
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_RUNNING);
  ExpectNothingLeft();
}

class EnginesTest : public MigrationsTest {
 protected:
  static void CanDirect(FakeAgent& agent) {
    agent.Change([](v1::AgentStatus& status) {
      status.mutable_capabilities()->set_direct_engine(true);
      for (v1::AgentVm& vm : *status.mutable_vms()) vm.set_direct(true);
    });
  }
  grpc::Status StartWith(v1::Engine engine, v1::Migration& migration,
                         v1::NoConvergence on_no_convergence = v1::NO_CONVERGENCE_UNSPECIFIED) {
    v1::StartMigrationRequest request;
    request.set_vm("web1");
    request.set_to("b");
    request.set_engine(engine);
    request.set_on_no_convergence(on_no_convergence);
    ShortCall call;
    return controller_.admin().migrations->Start(&call, request, &migration);
  }
};

TEST_F(EnginesTest, TakesTheDirectEngineWhereItIsPossible) {
  CanDirect(a_);
  CanDirect(b_);
  v1::Migration migration;
  ASSERT_TRUE(StartWith(v1::ENGINE_UNSPECIFIED, migration, v1::NO_CONVERGENCE_FAIL).ok());
  EXPECT_EQ(migration.engine(), v1::ENGINE_DIRECT);
  EXPECT_EQ(migration.streams(), kDefaultDirectStreams);
  ASSERT_TRUE(a_.WaitFor("WatchMigration"));
  EXPECT_EQ(a_.last_spec().engine(), v1::ENGINE_DIRECT);
  EXPECT_EQ(a_.OpenedKey(), b_.OpenedKey());
  EXPECT_EQ(a_.last_prepare_source().on_no_convergence(), v1::NO_CONVERGENCE_FAIL);
  EXPECT_THAT(EventText("migration.started"),
              HasSubstr("with the engine direct: both hosts and the VM's memory allow it"));
}

TEST_F(EnginesTest, RefusesTheDirectEngineBeforeAnythingIsTouched) {
  CanDirect(a_);
  v1::Migration migration;
  const grpc::Status status = StartWith(v1::ENGINE_DIRECT, migration);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("host b: its agent does not know"));
  EXPECT_EQ(a_.Called("PrepareSource"), 0);
  EXPECT_EQ(b_.Called("PrepareDestination"), 0);
  ASSERT_TRUE(StartWith(v1::ENGINE_AUTO, migration).ok());
  EXPECT_EQ(migration.engine(), v1::ENGINE_STREAM);
  EXPECT_THAT(migration.engine_reason(), HasSubstr("host b: its agent does not know"));
}

TEST_F(EnginesTest, RefusesAnEngineItDoesNotKnow) {
  v1::Migration migration;
  EXPECT_EQ(StartWith(static_cast<v1::Engine>(77), migration).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(StartWith(v1::ENGINE_AUTO, migration, static_cast<v1::NoConvergence>(77)).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(MigrationsTest, BothMoversGetTheSameFreshKeyBoundToTheSpec) {
  const v1::Migration migration = Copying();
  const std::string key = a_.OpenedKey();
  EXPECT_EQ(key.size(), 2U * 40);  // 256-bit key and 64-bit nonce, in hexadecimal
  EXPECT_EQ(b_.OpenedKey(), key);
  EXPECT_EQ(a_.last_spec().SerializeAsString(), b_.last_spec().SerializeAsString());
  EXPECT_EQ(a_.last_spec().source(), "spiffe://" + controller_.trust_domain() + "/host/a");
  EXPECT_EQ(a_.last_spec().destination(), "spiffe://" + controller_.trust_domain() + "/host/b");
  EXPECT_FALSE(a_.last_spec().plain());
  EXPECT_EQ(a_.last_spec().mode(), v1::ENCRYPTION_MODE_OPPORTUNISTIC);
  EXPECT_EQ(a_.last_epoch(), 1U);
  EXPECT_EQ(b_.last_epoch(), 2U);
  ASSERT_TRUE(Cancel(migration).ok());
  Await(migration, v1::MIGRATION_PHASE_CANCELLED);
  ExpectNothingLeft();
  const int watched = a_.Called("WatchMigration");
  const v1::Migration again = Started();
  while (a_.Called("WatchMigration") == watched) std::this_thread::yield();
  EXPECT_NE(a_.OpenedKey(), key);
  EXPECT_EQ(b_.OpenedKey().size(), key.size());
  EXPECT_NE(again.id(), migration.id());
}

TEST_F(MigrationsTest, ARepeatedRequestIsTheSameMigration) {
  v1::Migration first;
  v1::Migration second;
  ASSERT_TRUE(Start(first, "b", "r1").ok());
  ASSERT_TRUE(Start(second, "b", "r1").ok());
  EXPECT_EQ(first.id(), second.id());
  EXPECT_EQ(Start(second, "a", "r1").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const grpc::Status other = Start(second, "b", "r2");
  EXPECT_EQ(other.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(other.error_message(), HasSubstr(first.id()));
}

TEST_F(MigrationsTest, AnOpportunisticFallbackIsAnEventOfItsOwn) {
  b_.Change([](v1::AgentStatus& status) {
    status.mutable_capabilities()->clear_aead_backend();
    status.mutable_capabilities()->set_aead_reason("self-test failed");
  });
  const v1::Migration migration = Copying();
  EXPECT_FALSE(migration.encrypted());
  EXPECT_EQ(migration.cipher(), "");
  EXPECT_THAT(migration.decision_reason(), HasSubstr("self-test failed"));
  EXPECT_TRUE(a_.last_spec().plain());
  EXPECT_TRUE(controller_.HasEvent("migration.in_the_clear", "migration/" + migration.id()));
}

TEST_F(MigrationsTest, RefusesBeforeAnythingIsTouched) {
  v1::Migration migration;
  EXPECT_EQ(Start(migration, "a").error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Start(migration, "nowhere").error_code(), grpc::StatusCode::NOT_FOUND);
  b_.Fail("CheckVm", {grpc::StatusCode::FAILED_PRECONDITION, "disk /x is missing on host b"});
  const grpc::Status disk = Start(migration);
  EXPECT_EQ(disk.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(disk.error_message(), HasSubstr("/x"));
  b_.Stop();
  const grpc::Status gone = Start(migration);
  EXPECT_EQ(gone.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(gone.error_message(), HasSubstr("host b does not answer"));
  EXPECT_EQ(b_.Called("PrepareDestination"), 0);
  EXPECT_EQ(a_.Called("PrepareSource"), 0);
  ExpectStayed();
}

TEST_F(MigrationsTest, AFailedPreparationLeavesNothingBehind) {
  a_.Fail("PrepareSource", {grpc::StatusCode::INTERNAL, "no mover"});
  const v1::Migration migration = Started();
  const v1::Migration ended = Await(migration, v1::MIGRATION_PHASE_FAILED);
  EXPECT_THAT(ended.progress().detail(), HasSubstr("no mover"));
  EXPECT_EQ(ended.running_on(), "a");
  ExpectNothingLeft();
  ExpectStayed();
  EXPECT_GT(b_.Called("CancelMigration"), 0);
  EXPECT_EQ(a_.Called("StartMigration"), 0);
}

TEST_F(MigrationsTest, BothHostsPrepareAtTheSameTime) {
  b_.Hold("PrepareDestination");
  const v1::Migration migration = Started();
  ASSERT_TRUE(b_.WaitFor("PrepareDestination"));
  EXPECT_TRUE(a_.WaitFor("PrepareSource"));
  b_.Release();
  Await(migration, v1::MIGRATION_PHASE_COPYING);
}

TEST_F(MigrationsTest, ASourceOfAnEarlierVersionIsPreparedSecondAndToldWhereTheDestinationListens) {
  a_.Change([](v1::AgentStatus& status) { status.mutable_capabilities()->clear_prepares_early(); });
  b_.Hold("PrepareDestination");
  const v1::Migration migration = Started();
  ASSERT_TRUE(b_.WaitFor("PrepareDestination"));
  EXPECT_EQ(a_.Called("PrepareSource"), 0);
  b_.Release();
  Await(migration, v1::MIGRATION_PHASE_COPYING);
  EXPECT_EQ(a_.last_prepare_source().data_addresses_size(), 1);
}

TEST_F(MigrationsTest, ADestinationThatCannotPrepareFailsTheMigration) {
  b_.Fail("PrepareDestination", {grpc::StatusCode::INTERNAL, "no QEMU"});
  const v1::Migration ended = Await(Started(), v1::MIGRATION_PHASE_FAILED);
  EXPECT_THAT(ended.progress().detail(), HasSubstr("no QEMU"));
  ExpectNothingLeft();
  ExpectStayed();
  EXPECT_GT(a_.Called("CancelMigration"), 0);
}

TEST_F(MigrationsTest, ADestinationThatDoesNotStartFailsTheMigration) {
  b_.Fail("StartMigration", {grpc::StatusCode::PERMISSION_DENIED, "the key does not open"});
  const v1::Migration ended = Await(Started(), v1::MIGRATION_PHASE_FAILED);
  EXPECT_THAT(ended.progress().detail(), HasSubstr("the key does not open"));
  ExpectNothingLeft();
  ExpectStayed();
  EXPECT_EQ(a_.Called("StartMigration"), 0);
}

TEST_F(MigrationsTest, ADestinationThatGivesUpEndsIt) {
  const v1::Migration migration = Copying();
  b_.SetPhase(v1::MIGRATION_PHASE_FAILED, "the mover process has ended");
  const v1::Migration ended = Await(migration, v1::MIGRATION_PHASE_FAILED);
  EXPECT_EQ(ended.progress().detail(), "host b: the mover process has ended");
  EXPECT_GT(a_.Called("CancelMigration"), 0);
  ExpectNothingLeft();
  ExpectStayed();
}

TEST_F(MigrationsTest, AFailureAtTheSourceEndsItThere) {
  const v1::Migration migration = Copying();
  a_.SetPhase(v1::MIGRATION_PHASE_FAILED, "connection lost");
  const v1::Migration ended = Await(migration, v1::MIGRATION_PHASE_FAILED);
  EXPECT_EQ(ended.progress().detail(), "connection lost");
  EXPECT_NE(controller_.AwaitEvent("migration.failed", "migration/" + migration.id()), 0);
  ExpectNothingLeft();
  ExpectStayed();
}

TEST_F(MigrationsTest, ADestinationThatHasReceivedEverythingIsToldOfTheAbort) {
  const v1::Migration migration = Copying();
  b_.SetPhase(v1::MIGRATION_PHASE_SWITCHING);
  a_.SetPhase(v1::MIGRATION_PHASE_FAILED, "switch-over took too long");
  Await(migration, v1::MIGRATION_PHASE_FAILED);
  ExpectNothingLeft();
  EXPECT_GT(b_.Called("TellDecision"), 0);
  ExpectStayed();
}

TEST_F(MigrationsTest, KeepsAskingASourceThatIsAway) {
  const v1::Migration migration = Copying();
  controller_.Lose("a", a_);
  const v1::Migration waiting = AwaitDetail(migration, "waiting for host a");
  EXPECT_EQ(waiting.progress().phase(), v1::MIGRATION_PHASE_COPYING);
  EXPECT_EQ(waiting.running_on(), "a");
  Arrive();
  a_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);  // only the source knows of the end
  controller_.Reconnect("a", a_);
  Await(migration, v1::MIGRATION_PHASE_COMPLETED);
  ExpectMoved(migration);
  EXPECT_EQ(b_.Called("TellDecision"), 0);
}

TEST_F(MigrationsTest, ASourceLostAfterItsCommitIsFinishedByTheController) {
  const v1::Migration migration = Copying();
  b_.SetPhase(v1::MIGRATION_PHASE_SWITCHING);
  a_.SetPhase(v1::MIGRATION_PHASE_COMMITTED);
  Await(migration, v1::MIGRATION_PHASE_COMMITTED);
  controller_.Lose("a", a_);
  ASSERT_TRUE(b_.WaitFor("TellDecision"));
  EXPECT_EQ(Await(migration, v1::MIGRATION_PHASE_COMPLETED).running_on(), "b");
  ExpectMoved(migration);
  a_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);
  controller_.Reconnect("a", a_);
  ExpectNothingLeft();
}

TEST_F(MigrationsTest, ASourceStuckAfterItsCommitIsHelped) {
  const v1::Migration migration = Copying();
  b_.SetPhase(v1::MIGRATION_PHASE_SWITCHING);
  a_.SetPhase(v1::MIGRATION_PHASE_COMMITTED);
  ASSERT_TRUE(b_.WaitFor("TellDecision"));
  Await(migration, v1::MIGRATION_PHASE_COMPLETED);
  ExpectMoved(migration);
}

TEST_F(MigrationsTest, ADestinationThatHasTheGuestEndsTheWaitForALostSource) {
  const v1::Migration migration = Copying();
  controller_.Lose("a", a_);
  AwaitDetail(migration, "waiting for host a");
  b_.ShowReceipt(a_.last_receipt());
  b_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);
  Await(migration, v1::MIGRATION_PHASE_COMPLETED);
  ExpectMoved(migration);
}

TEST_F(MigrationsTest, ASourceWithoutARecordFailsItOnlyWhileItHasTheGuest) {
  const v1::Migration migration = Copying();
  a_.Change([](v1::AgentStatus& status) {
    status.mutable_vms(0)->set_state(v1::VM_STATE_MIGRATING);
    status.clear_migrations();
  });
  AwaitDetail(migration, "no record");
  a_.Change(
      [](v1::AgentStatus& status) { status.mutable_vms(0)->set_state(v1::VM_STATE_RUNNING); });
  Await(migration, v1::MIGRATION_PHASE_FAILED);
  ExpectNothingLeft();
  ExpectStayed();
}

// Its disk was wiped, say: nobody knows whether its QEMU lives, so a person has to say so.
TEST_F(MigrationsTest, ASourceWithoutRecordAndGuestIsGivenUpByAPerson) {
  const v1::Migration migration = Copying();
  b_.SetPhase(v1::MIGRATION_PHASE_SWITCHING);  // ready: it would wait for ever
  a_.Change([](v1::AgentStatus& status) {
    status.clear_vms();
    status.clear_migrations();
  });
  AwaitDetail(migration, "sealift migration cancel " + migration.id());
  ASSERT_TRUE(Cancel(migration).ok());
  const v1::Migration ended = Await(migration, v1::MIGRATION_PHASE_CANCELLED);
  EXPECT_THAT(ended.progress().detail(), HasSubstr("lost its record"));
  EXPECT_EQ(ended.running_on(), "a");
  ExpectNothingLeft();
  v1::StartVmRequest request;
  request.set_name("web1");
  v1::Vm vm;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().vms->Start(&call, request, &vm).ok());
  ExpectStayed();
}

// The store was restored from a copy, say. The hosts end such a migration between themselves.
TEST_F(MigrationsTest, WhatTheStoreDoesNotKnowIsForgottenWhenItHasEnded) {
  a_.Change([](v1::AgentStatus& status) {
    v1::AgentMigration& migration = *status.add_migrations();
    migration.set_id(std::string(16, '\x07'));
    migration.set_vm("web1");
    migration.set_role(v1::AGENT_MIGRATION_ROLE_SOURCE);
    migration.mutable_progress()->set_phase(v1::MIGRATION_PHASE_COPYING);
  });
  const int heard = a_.Called("GetStatus");
  while (a_.Called("GetStatus") < heard + 3) std::this_thread::yield();
  EXPECT_EQ(a_.Called("CancelMigration") + a_.Called("ForgetMigration"), 0);
  a_.SetPhase(v1::MIGRATION_PHASE_FAILED);
  ExpectNothingLeft();
}

TEST_F(MigrationsTest, CancelsWhileItCopies) {
  const v1::Migration migration = Copying();
  ASSERT_TRUE(Cancel(migration).ok());
  EXPECT_EQ(Await(migration, v1::MIGRATION_PHASE_CANCELLED).running_on(), "a");
  ExpectNothingLeft();
  ExpectStayed();
  const std::int64_t last = controller_.LastEvent();
  EXPECT_TRUE(Cancel(migration).ok()) << "a repeated call is answered as the first";
  EXPECT_EQ(controller_.LastEvent(), last);
}

TEST_F(MigrationsTest, CancelsWhileItPrepares) {
  b_.Hold("PrepareDestination");
  const v1::Migration migration = Started();
  ASSERT_TRUE(b_.WaitFor("PrepareDestination"));
  ASSERT_TRUE(Cancel(migration).ok());
  b_.Release();
  Await(migration, v1::MIGRATION_PHASE_CANCELLED);
  ExpectNothingLeft();
  ExpectStayed();
  EXPECT_EQ(a_.Called("StartMigration"), 0);
}

TEST_F(MigrationsTest, ACancelAfterTheCommitIsTooLate) {
  const v1::Migration migration = Copying();
  a_.SetPhase(v1::MIGRATION_PHASE_COMMITTED);
  Await(migration, v1::MIGRATION_PHASE_COMMITTED);
  const grpc::Status status = Cancel(migration);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("host b"));
}

TEST_F(MigrationsTest, ACancelDuringTheHandOverNamesBothHosts) {
  const v1::Migration migration = Copying();
  a_.Fail("CancelMigration", {grpc::StatusCode::FAILED_PRECONDITION, "too late"});
  const grpc::Status status = Cancel(migration);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("handed over from host a to host b"));
}

TEST_F(MigrationsTest, ACancelThatMeetsTheEndSaysWhereTheVmRuns) {
  const v1::Migration migration = Copying();
  a_.Fail("WatchMigration", {grpc::StatusCode::UNAVAILABLE, "not now"});
  AwaitDetail(migration, "waiting for host a");
  a_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);  // what the controller has not heard yet
  const grpc::Status status = Cancel(migration);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("runs on host b"));
}

TEST_F(MigrationsTest, ARestartedControllerFollowsWhatItDelegated) {
  const v1::Migration migration = Copying();
  controller_.Stop();
  Finish();
  controller_.Start();
  Await(migration, v1::MIGRATION_PHASE_COMPLETED);
  ExpectMoved(migration);
  ExpectNothingLeft();
}

TEST_F(MigrationsTest, ARestartedControllerAbortsWhatItHadNotDelegated) {
  b_.Hold("PrepareDestination");
  const v1::Migration migration = Started();
  ASSERT_TRUE(b_.WaitFor("PrepareDestination"));
  controller_.Stop();
  b_.Release();
  controller_.Start();
  const v1::Migration ended = Await(migration, v1::MIGRATION_PHASE_FAILED);
  EXPECT_THAT(ended.progress().detail(), HasSubstr("restarted"));
  ExpectNothingLeft();
  EXPECT_EQ(a_.Called("StartMigration"), 0);
}

TEST_F(MigrationsTest, ARestartedControllerCancelsASourceThatWasNeverStarted) {
  const v1::Migration migration = Copying();
  controller_.Stop();
  a_.SetPhase(v1::MIGRATION_PHASE_PREPARING);
  a_.Change([](v1::AgentStatus& status) {
    status.mutable_migrations(0)->set_started(false);  // the start never reached it
  });
  controller_.Start();
  Await(migration, v1::MIGRATION_PHASE_FAILED);
  EXPECT_GE(a_.Called("CancelMigration"), 1);  // once more, harmlessly, when cleaning up
  ExpectNothingLeft();
}

TEST_F(MigrationsTest, ARestartedControllerLetsASourceThatIsStillConnectingGoOn) {
  const v1::Migration migration = Copying();
  controller_.Stop();
  a_.SetPhase(v1::MIGRATION_PHASE_PREPARING);
  const int watched = a_.Called("WatchMigration");
  controller_.Start();
  while (a_.Called("WatchMigration") < watched + 2) std::this_thread::yield();
  EXPECT_EQ(a_.Called("CancelMigration"), 0);
  Finish();
  Await(migration, v1::MIGRATION_PHASE_COMPLETED);
  ExpectMoved(migration);
}

// ---- Limits

class QueueTest : public MigrationsTest {
 protected:
  void SetUp() override {
    controller_.settings().limits.per_host = 1;
    controller_.Stop();
    controller_.Start();
    MigrationsTest::SetUp();
    ASSERT_TRUE(controller_.CreateVm("name: web2\nmemory: 512MiB\n", "a").ok());
    first_ = Copying();
    Queue();
  }
  void Queue() {
    v1::StartMigrationRequest request;
    request.set_vm("web2");
    request.set_to("b");
    request.set_on_no_convergence(v1::NO_CONVERGENCE_FAIL);
    ShortCall call;
    ASSERT_TRUE(controller_.admin().migrations->Start(&call, request, &second_).ok());
  }
  // Queues it as one that is to go in the clear.
  void QueueInTheClear() {
    ASSERT_TRUE(Cancel(second_).ok());
    Await(second_, v1::MIGRATION_PHASE_CANCELLED);
    SetModes(v1::ENCRYPTION_MODE_DISABLED);
    Queue();
    ASSERT_FALSE(AwaitQueued().encrypted());
  }
  v1::Migration AwaitQueued() {
    return controller_.AwaitMigration(
        second_.id(), [](const v1::Migration& view) { return view.queued_behind() > 0; });
  }
  void EndFirst() {
    a_.SetPhase(v1::MIGRATION_PHASE_FAILED);
    Await(first_, v1::MIGRATION_PHASE_FAILED);
  }

  v1::Migration first_;
  v1::Migration second_;
};

TEST_F(QueueTest, OneTooManyWaitsVisiblyAndThenBegins) {
  EXPECT_EQ(AwaitQueued().queued_behind(), 1U);
  EXPECT_EQ(a_.Called("PrepareSource"), 1);
  EXPECT_EQ(b_.Called("CheckVm"), 2) << "one for each that was asked for";
  EndFirst();
  const v1::Migration begun = Await(second_, v1::MIGRATION_PHASE_COPYING);
  EXPECT_EQ(begun.queued_behind(), 0U);
  EXPECT_EQ(b_.Called("CheckVm"), 3) << "what has waited is decided again";
  EXPECT_EQ(a_.last_prepare_source().on_no_convergence(), v1::NO_CONVERGENCE_FAIL);
}

TEST_F(QueueTest, OneThatWaitsCanBeCancelled) {
  AwaitQueued();
  ASSERT_TRUE(Cancel(second_).ok());
  EXPECT_EQ(Await(second_, v1::MIGRATION_PHASE_CANCELLED).running_on(), "a");
  EndFirst();
  EXPECT_EQ(a_.Called("PrepareSource"), 1) << "nobody was told of it";
}

TEST_F(QueueTest, ARestartedControllerKeepsTheQueue) {
  AwaitQueued();
  controller_.Stop();
  controller_.Start();
  EXPECT_EQ(AwaitQueued().queued_behind(), 1U);
  EndFirst();
  Await(second_, v1::MIGRATION_PHASE_COPYING);
  EXPECT_EQ(a_.last_prepare_source().on_no_convergence(), v1::NO_CONVERGENCE_FAIL);
}

TEST_F(QueueTest, TheModeInForceWhenItBeginsDecides) {
  QueueInTheClear();
  SetModes(v1::ENCRYPTION_MODE_REQUIRED);
  EndFirst();
  const v1::Migration begun = Await(second_, v1::MIGRATION_PHASE_COPYING);
  EXPECT_EQ(begun.mode(), v1::ENCRYPTION_MODE_REQUIRED);
  EXPECT_TRUE(begun.encrypted());
  EXPECT_EQ(begun.cipher(), "AES-256-GCM");
  EXPECT_FALSE(a_.last_spec().plain());
  EXPECT_EQ(a_.last_spec().mode(), v1::ENCRYPTION_MODE_REQUIRED);
  EXPECT_EQ(a_.last_put().encryption(), v1::ENCRYPTION_MODE_REQUIRED) << "the source knows it, too";
  EXPECT_TRUE(controller_.HasEvent("migration.decided_again", "migration/" + second_.id()));
}

// The VM itself was not changed, nor was its host.
TEST_F(QueueTest, AFloorOfTheDestinationThatWasRaisedMeanwhileCounts) {
  QueueInTheClear();
  v1::SetPolicyRequest floor;
  floor.set_group("prod");
  floor.set_floor(v1::ENCRYPTION_MODE_REQUIRED);
  v1::Policy policy;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().policy->Set(&call, floor, &policy).ok());
  v1::SetHostRequest group;
  group.set_name("b");
  group.set_group("prod");
  v1::Host host;
  ShortCall second;
  ASSERT_TRUE(controller_.admin().hosts->Set(&second, group, &host).ok());
  EndFirst();
  EXPECT_TRUE(Await(second_, v1::MIGRATION_PHASE_COPYING).encrypted());
  EXPECT_FALSE(a_.last_spec().plain());
}

TEST_F(QueueTest, OneThatMayNoLongerGoIsRefusedWhenItsTurnComes) {
  AwaitQueued();
  SetModes(v1::ENCRYPTION_MODE_REQUIRED);
  b_.Change([](v1::AgentStatus& status) { status.mutable_capabilities()->clear_aead_backend(); });
  EndFirst();
  const v1::Migration ended = Await(second_, v1::MIGRATION_PHASE_FAILED);
  EXPECT_THAT(ended.progress().detail(), HasSubstr("VM web2 may not move to host b"));
  EXPECT_EQ(ended.running_on(), "a");
  EXPECT_EQ(a_.Called("PrepareSource"), 1) << "nobody was told of it";
}

TEST_F(MigrationsTest, AModeThatIsRaisedBeforeAnythingWasSentStopsIt) {
  SetModes(v1::ENCRYPTION_MODE_DISABLED);
  b_.Hold("PrepareDestination");
  const v1::Migration migration = Started();
  ASSERT_TRUE(b_.WaitFor("PrepareDestination"));
  SetModes(v1::ENCRYPTION_MODE_REQUIRED);
  b_.Release();
  const v1::Migration ended = Await(migration, v1::MIGRATION_PHASE_FAILED);
  EXPECT_THAT(ended.progress().detail(), HasSubstr("became required"));
  EXPECT_EQ(a_.Called("StartMigration") + b_.Called("StartMigration"), 0);
  ExpectNothingLeft();
  ExpectStayed();
}

TEST_F(MigrationsTest, TheNewOwnerIsToldWhatWasChangedOnTheWay) {
  const v1::Migration migration = Copying();
  SetModes(v1::ENCRYPTION_MODE_REQUIRED);
  Finish();
  Await(migration, v1::MIGRATION_PHASE_COMPLETED);
  ExpectMoved(migration);
  ASSERT_TRUE(b_.WaitFor("PutVm"));
  EXPECT_EQ(b_.last_put().encryption(), v1::ENCRYPTION_MODE_REQUIRED);
}

TEST_F(MigrationsTest, ASourceThatMayHaveLetGoOfTheVmIsNotToldOfIt) {
  const v1::Migration migration = Copying();
  const int told = a_.Called("PutVm");
  SetModes(v1::ENCRYPTION_MODE_REQUIRED);
  EXPECT_TRUE(controller_.GetVm("web1").encryption_pending());
  Finish();
  Await(migration, v1::MIGRATION_PHASE_COMPLETED);
  EXPECT_EQ(a_.Called("PutVm"), told);
}

TEST_F(MigrationsTest, AVmOnItsWayIsLeftAlone) {
  const v1::Migration migration = Copying();
  v1::StopVmRequest request;
  request.set_name("web1");
  v1::Vm vm;
  ShortCall call;
  const grpc::Status status = controller_.admin().vms->Stop(&call, request, &vm);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr(migration.id()));
  EXPECT_EQ(controller_.GetVm("web1").migration_id(), migration.id());
  v1::RemoveHostRequest remove;
  remove.set_name("b");
  v1::RemoveHostResponse removed;
  ShortCall second;
  EXPECT_EQ(controller_.admin().hosts->Remove(&second, remove, &removed).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
}

// ---- A compromised agent: root on host c, with its valid certificate.

TEST_F(MigrationsTest, AnAgentGetsNothingOfAMigrationItIsNoPartOf) {
  FakeAgent c;
  controller_.Join("c", c);
  Copying();
  EXPECT_EQ(c.Called("PrepareDestination") + c.Called("PrepareSource") + c.Called("StartMigration"),
            0);
  // Nor does it call anybody: neither the operators' methods nor the agent of another host.
  OperatorClient as_operator = controller_.ClientWith(controller_.HostFiles("c"));
  v1::ListMigrationsResponse migrations;
  ShortCall list;
  EXPECT_FALSE(as_operator.migrations->List(&list, {}, &migrations).ok());
  const pki::Identity host_a{controller_.trust_domain(), pki::Role::kHost, "a"};
  const auto as_controller = v1::AgentService::NewStub(rpc::MakeChannel(
      {"127.0.0.1", a_.port()}, rpc::MakeChannelCredentials(controller_.HostFiles("c"), host_a)));
  v1::AgentStatus status;
  ShortCall ask;
  EXPECT_FALSE(as_controller->GetStatus(&ask, {}, &status).ok());
}

TEST_F(MigrationsTest, AnAgentCannotTakeThePlaceOfAnotherHost) {
  FakeAgent c;
  controller_.Join("c", c);
  c.Stop();
  const auto address = base::ParseHostPort(controller_.AddressOf("b"), 0);
  controller_.Lose("b", b_);
  const int heard = c.Called("GetStatus");
  c.Serve(controller_.HostFiles("c"), controller_.trust_domain(), address->port);
  v1::Migration migration;
  EXPECT_THAT(Start(migration).error_message(), HasSubstr("host b does not answer"));
  EXPECT_EQ(c.Called("GetStatus"), heard) << "the controller does not speak to it";
  EXPECT_EQ(c.Called("PrepareDestination"), 0);
}

}  // namespace
}  // namespace sealift::controller
