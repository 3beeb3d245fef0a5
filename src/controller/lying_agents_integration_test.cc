// Hosts that somebody has taken over, with their valid certificates: what they say of themselves,
// of a migration and of each other. Nothing that one host says gives it, or takes from another, a
// VM; no VM is started a second time; and what cannot be true is an event.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "controller/agent_report.h"
#include "controller/test_controller.h"

namespace sealift::controller {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class LyingAgentsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    controller_.Join("a", a_);
    controller_.Join("b", b_);
    ASSERT_TRUE(controller_.CreateVm("name: web1\nmemory: 512MiB\n", "a").ok());
  }

  v1::Migration Started() {
    v1::StartMigrationRequest request;
    request.set_vm("web1");
    request.set_to("b");
    v1::Migration migration;
    ShortCall call;
    const grpc::Status status = controller_.admin().migrations->Start(&call, request, &migration);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return migration;
  }
  v1::Migration Copying() {
    const v1::Migration migration = Started();
    EXPECT_TRUE(a_.WaitFor("WatchMigration"));
    return migration;
  }
  v1::Migration Await(const v1::Migration& migration, v1::MigrationPhase phase) {
    const v1::Migration last = controller_.AwaitMigration(
        migration.id(),
        [&](const v1::Migration& view) { return view.progress().phase() == phase; });
    EXPECT_EQ(last.progress().phase(), phase) << last.progress().detail();
    return last;
  }
  bool AwaitDispute(const v1::Migration& migration) {
    return controller_.AwaitEvent("migration.disputed", "migration/" + migration.id()) != 0;
  }
  grpc::Status Cancel(const v1::Migration& migration) {
    v1::CancelMigrationRequest request;
    request.set_id(migration.id());
    v1::Migration response;
    ShortCall call;
    return controller_.admin().migrations->Cancel(&call, request, &response);
  }
  grpc::Status StartVm(const std::string& host = "") {
    v1::StartVmRequest request;
    request.set_name("web1");
    request.set_host(host);
    v1::Vm vm;
    ShortCall call;
    return controller_.admin().vms->Start(&call, request, &vm);
  }
  void ConfirmDead(const std::string& name, FakeAgent& agent) {
    controller_.Lose(name, agent);
    v1::ConfirmDeadHostRequest request;
    request.set_name(name);
    v1::Host host;
    ShortCall call;
    ASSERT_TRUE(controller_.admin().hosts->ConfirmDead(&call, request, &host).ok());
  }
  // The host reports that it runs the VM.
  static void Claim(FakeAgent& agent, std::uint64_t epoch) {
    agent.Change([&](v1::AgentStatus& status) {
      v1::AgentVm& vm = *status.add_vms();
      vm.set_name("web1");
      vm.set_epoch(epoch);
      vm.set_state(v1::VM_STATE_RUNNING);
    });
  }
  void ExpectOwner(const std::string& host, std::uint64_t epoch) {
    const v1::Vm vm = controller_.GetVm("web1");
    EXPECT_EQ(vm.host(), host);
    EXPECT_EQ(vm.epoch(), epoch);
  }
  // Everything that users read can be read.
  void ExpectReadable() {
    v1::ListMigrationsResponse migrations;
    ShortCall first;
    EXPECT_TRUE(controller_.admin().migrations->List(&first, {}, &migrations).ok());
    v1::ListHostsResponse hosts;
    ShortCall second;
    EXPECT_TRUE(controller_.admin().hosts->List(&second, {}, &hosts).ok());
    v1::ListVmsResponse vms;
    ShortCall third;
    EXPECT_TRUE(controller_.admin().vms->List(&third, {}, &vms).ok());
    EXPECT_FALSE(controller_.Events().empty());
  }

  FakeAgent a_;
  FakeAgent b_;
  TestController controller_;
};

// ---- A destination that says it was told of the commit

class FalseCommitTest : public LyingAgentsTest,
                        public ::testing::WithParamInterface<v1::MigrationPhase> {};

TEST_P(FalseCommitTest, IsNotBelievedWhileTheSourceAnswers) {
  const v1::Migration migration = Copying();
  Claim(b_, 2);
  b_.SetPhase(GetParam());
  EXPECT_TRUE(AwaitDispute(migration));
  ExpectOwner("a", 1);
  EXPECT_EQ(b_.Called("TellDecision"), 0);
  a_.SetPhase(v1::MIGRATION_PHASE_FAILED, "the source's word counts");
  EXPECT_EQ(Await(migration, v1::MIGRATION_PHASE_FAILED).running_on(), "a");
  ExpectOwner("a", 1);
  EXPECT_NE(controller_.AwaitEvent("vm.disputed", "vm/web1"), 0) << "it still says that it runs it";
}

TEST_P(FalseCommitTest, IsNotBelievedWhileTheSourceIsSilent) {
  const v1::Migration migration = Copying();
  controller_.Lose("a", a_);
  Claim(b_, 2);
  b_.ShowReceipt(std::string(32, '0'));
  b_.SetPhase(GetParam());
  EXPECT_TRUE(AwaitDispute(migration));
  ExpectOwner("a", 1);
  EXPECT_EQ(b_.Called("TellDecision"), 0) << "it gets no commit to show either";
  EXPECT_FALSE(StartVm().ok());
  controller_.Reconnect("a", a_);
  ASSERT_TRUE(Cancel(migration).ok());
  EXPECT_EQ(Await(migration, v1::MIGRATION_PHASE_CANCELLED).running_on(), "a");
  ExpectOwner("a", 1);
}

INSTANTIATE_TEST_SUITE_P(Claimed, FalseCommitTest,
                         ::testing::Values(v1::MIGRATION_PHASE_COMMITTED,
                                           v1::MIGRATION_PHASE_COMPLETED));

TEST_F(LyingAgentsTest, OnlyTheSourceIsGivenTheReceipt) {
  Copying();
  EXPECT_THAT(a_.last_receipt(), SizeIs(32));
  EXPECT_EQ(b_.last_receipt(), "");
}

// ---- A source that says it gave the guest away

class DeniedArrivalTest : public LyingAgentsTest,
                          public ::testing::WithParamInterface<v1::MigrationPhase> {
 protected:
  // What the destination says; unspecified: that it knows of no migration.
  void Deny() {
    if (GetParam() != v1::MIGRATION_PHASE_UNSPECIFIED) return b_.SetPhase(GetParam());
    b_.Change([](v1::AgentStatus& status) { status.clear_migrations(); });
  }
  v1::Migration Disputed() {
    const v1::Migration migration = Copying();
    Deny();
    a_.Change([](v1::AgentStatus& status) { status.clear_vms(); });
    a_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);
    EXPECT_TRUE(AwaitDispute(migration));
    return migration;
  }
};

TEST_P(DeniedArrivalTest, NeitherHostMayStartTheVm) {
  const v1::Migration migration = Disputed();
  for (const char* host : {"", "a", "b"}) {
    const grpc::Status status = StartVm(host);
    EXPECT_THAT(status.error_message(), HasSubstr(migration.id()));
  }
  EXPECT_EQ(a_.Called("StartVm"), 1) << "when it was made";
  EXPECT_EQ(b_.Called("StartVm") + b_.Called("PutVm"), 0);
  ExpectOwner("a", 1);
}

TEST_P(DeniedArrivalTest, APersonMayRuleTheSourceOut) {
  const v1::Migration migration = Disputed();
  ConfirmDead("a", a_);
  EXPECT_EQ(Await(migration, v1::MIGRATION_PHASE_FAILED).running_on(), "a");
  ASSERT_TRUE(StartVm("b").ok());
  ExpectOwner("b", 2);
}

TEST_P(DeniedArrivalTest, APersonMayRuleTheDestinationOut) {
  const v1::Migration migration = Disputed();
  ConfirmDead("b", b_);
  EXPECT_EQ(Await(migration, v1::MIGRATION_PHASE_COMPLETED).running_on(), "b");
  ASSERT_TRUE(StartVm("a").ok());
  ExpectOwner("a", 3);
}

INSTANTIATE_TEST_SUITE_P(Said, DeniedArrivalTest,
                         ::testing::Values(v1::MIGRATION_PHASE_COPYING, v1::MIGRATION_PHASE_FAILED,
                                           v1::MIGRATION_PHASE_CANCELLED,
                                           v1::MIGRATION_PHASE_UNSPECIFIED));

TEST_F(LyingAgentsTest, AGuestThatWaitsForTheCommitIsGivenIt) {
  const v1::Migration migration = Copying();
  b_.SetPhase(v1::MIGRATION_PHASE_SWITCHING);
  a_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);
  Await(migration, v1::MIGRATION_PHASE_COMPLETED);
  EXPECT_EQ(b_.Called("TellDecision"), 1);
  ExpectOwner("b", 2);
}

TEST_F(LyingAgentsTest, AnEndIsWaitedForWhenTheDestinationIsSilent) {
  const v1::Migration migration = Copying();
  controller_.Lose("b", b_);
  a_.SetPhase(v1::MIGRATION_PHASE_COMPLETED);
  Await(migration, v1::MIGRATION_PHASE_COMMITTED);
  ExpectOwner("a", 1);
  Claim(b_, 2);
  controller_.Reconnect("b", b_);
  Await(migration, v1::MIGRATION_PHASE_COMPLETED);
  ExpectOwner("b", 2);
}

// ---- Phases

TEST_F(LyingAgentsTest, ASourceDoesNotTakeItsCommitBack) {
  const v1::Migration migration = Copying();
  b_.SetPhase(v1::MIGRATION_PHASE_SWITCHING);
  a_.SetPhase(v1::MIGRATION_PHASE_COMMITTED);
  Await(migration, v1::MIGRATION_PHASE_COMMITTED);
  a_.SetPhase(v1::MIGRATION_PHASE_FAILED, "I have kept it");
  EXPECT_TRUE(AwaitDispute(migration));
  Await(migration, v1::MIGRATION_PHASE_COMPLETED);
  ExpectOwner("b", 2);
  EXPECT_NE(controller_.AwaitEvent("vm.disputed", "vm/web1"), 0) << "it still says that it runs it";
}

TEST_F(LyingAgentsTest, PhasesThatGoBackOrAreUnknownChangeNothing) {
  const v1::Migration migration = Copying();
  a_.SetPhase(v1::MIGRATION_PHASE_SWITCHING);
  Await(migration, v1::MIGRATION_PHASE_SWITCHING);
  for (const int phase : {2, 1, 0, 77, -5}) {
    const std::string marker = "marker " + std::to_string(phase);
    a_.SetPhase(static_cast<v1::MigrationPhase>(phase), marker);
    const v1::Migration seen = controller_.AwaitMigration(
        migration.id(),
        [&](const v1::Migration& view) { return view.progress().detail() == marker; });
    EXPECT_EQ(seen.progress().detail(), marker);
    EXPECT_EQ(seen.progress().phase(), v1::MIGRATION_PHASE_SWITCHING);
  }
  ASSERT_TRUE(Cancel(migration).ok());
  Await(migration, v1::MIGRATION_PHASE_CANCELLED);
  ExpectOwner("a", 1);
}

// ---- VMs

TEST_F(LyingAgentsTest, AVmOfAnotherHostIsNotTakenByReportingIt) {
  FakeAgent c;
  controller_.Join("c", c);
  Claim(c, 9);
  EXPECT_NE(controller_.AwaitEvent("vm.disputed", "vm/web1"), 0);
  ExpectOwner("a", 1);
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_RUNNING) << "as its owner says";
  EXPECT_EQ(c.Called("StopVm") + c.Called("PutVm") + c.Called("ForgetVm"), 0);
  const v1::Migration migration = Copying();
  ASSERT_TRUE(Cancel(migration).ok());
  Await(migration, v1::MIGRATION_PHASE_CANCELLED);
  int told = 0;
  for (const v1::Event& event : controller_.Events()) told += event.type() == "vm.disputed" ? 1 : 0;
  EXPECT_EQ(told, 1) << "once, however often it is claimed";
}

TEST_F(LyingAgentsTest, AnEpochThatNobodyGaveIsAnEventAndNoMore) {
  a_.Change([](v1::AgentStatus& status) {
    status.mutable_vms(0)->set_epoch(std::numeric_limits<std::uint64_t>::max());
  });
  EXPECT_NE(controller_.AwaitEvent("vm.disputed", "vm/web1"), 0);
  ExpectOwner("a", 1);
}

TEST_F(LyingAgentsTest, VmsThatNobodyMadeAreOneEventAndNotTakenOver) {
  b_.Change([](v1::AgentStatus& status) {
    for (int i = 0; i < 50; ++i) {
      v1::AgentVm& vm = *status.add_vms();
      vm.set_name("made-up-" + std::to_string(i));
      vm.set_epoch(7);
      vm.set_state(v1::VM_STATE_RUNNING);
    }
  });
  EXPECT_NE(controller_.AwaitEvent("vm.disputed", "host/b"), 0);
  v1::ListVmsResponse vms;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().vms->List(&call, {}, &vms).ok());
  EXPECT_THAT(vms.vms(), SizeIs(1));
  EXPECT_EQ(b_.Called("GetVm") + b_.Called("StopVm") + b_.Called("ForgetVm"), 0);
}

TEST_F(LyingAgentsTest, AModeThatNobodySetIsAnEventAndNoMore) {
  a_.Change([](v1::AgentStatus& status) { status.mutable_vms(0)->set_policy_version(99); });
  EXPECT_NE(controller_.AwaitEvent("vm.disputed", "vm/web1"), 0);
  EXPECT_EQ(a_.Called("GetVm"), 0);
}

// ---- Figures, texts, ids

TEST_F(LyingAgentsTest, FiguresBeyondMeasureAreCurbed) {
  const v1::Migration migration = Copying();
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  a_.Change([](v1::AgentStatus& status) {
    status.set_certificate_not_after_ms(std::numeric_limits<std::int64_t>::min());
    status.mutable_capabilities()->set_memory_bytes(kMost);
    v1::MigrationProgress& progress = *status.mutable_migrations(0)->mutable_progress();
    progress.set_ram_total_bytes(1);
    progress.set_ram_remaining_bytes(kMost);
    progress.set_ram_transferred_bytes(kMost);
    progress.set_wire_bytes(kMost);
    progress.set_bytes_per_second(kMost);
    progress.set_elapsed_ms(kMost);
    progress.set_downtime_ms(kMost);
    progress.set_iterations(kMost);
  });
  const v1::Migration seen = controller_.AwaitMigration(
      migration.id(),
      [](const v1::Migration& view) { return view.progress().wire_bytes() == kMaxReportNumber; });
  EXPECT_EQ(seen.progress().downtime_ms(), kMaxReportNumber);
  EXPECT_EQ(seen.progress().ram_remaining_bytes(), kMaxReportNumber);
  a_.SetPhase(v1::MIGRATION_PHASE_FAILED);
  Await(migration, v1::MIGRATION_PHASE_FAILED);
  ExpectReadable();
}

TEST_F(LyingAgentsTest, ATextOfMegabytesAndOfControlCharactersIsCutToALine) {
  const std::string text(1'000'000, '\n');
  a_.Change([&](v1::AgentStatus& status) {
    status.mutable_vms(0)->set_state_reason("\x1b[2J" + text);
    status.mutable_capabilities()->set_cpu_model(text);
    for (int i = 0; i < 10'000; ++i) status.mutable_capabilities()->add_cpu_flags("flag");
    status.mutable_vms(0)->set_state(static_cast<v1::VmState>(77));
  });
  const int heard = a_.Called("GetStatus");
  while (a_.Called("GetStatus") < heard + 2) std::this_thread::yield();
  const v1::Vm vm = controller_.GetVm("web1");
  EXPECT_THAT(vm.state_reason(), Not(HasSubstr("\n")));
  EXPECT_THAT(vm.state_reason(), Not(HasSubstr("\x1b")));
  EXPECT_LE(vm.state_reason().size(), kMaxReportText);
  EXPECT_EQ(vm.state(), v1::VM_STATE_UNSPECIFIED);
  const v1::Host host = controller_.GetHost("a");
  EXPECT_LE(host.capabilities().cpu_model().size(), kMaxReportText);
  EXPECT_EQ(host.capabilities().cpu_flags_size(), kMaxReportItems);
  ExpectReadable();
}

TEST_F(LyingAgentsTest, AnErrorThatIsNoUtf8SpoilsNoList) {
  a_.Fail("PrepareSource", {grpc::StatusCode::INTERNAL, "no\xff\xfe mover\nhost b owns web1"});
  const v1::Migration ended = Await(Started(), v1::MIGRATION_PHASE_FAILED);
  EXPECT_THAT(ended.progress().detail(), HasSubstr("no?? mover host b owns web1"));
  ExpectReadable();
}

TEST_F(LyingAgentsTest, AReportThatIsNoUtf8IsNoReport) {
  std::int64_t before = controller_.LastEvent();
  a_.Change([](v1::AgentStatus& status) { status.mutable_vms(0)->set_state_reason("\xff\xfe"); });
  EXPECT_NE(controller_.AwaitEvent("host.unreachable", "host/a", before), 0);
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_UNKNOWN);
  ExpectReadable();
  before = controller_.LastEvent();
  a_.Change([](v1::AgentStatus& status) { status.mutable_vms(0)->clear_state_reason(); });
  EXPECT_NE(controller_.AwaitEvent("host.ready", "host/a", before), 0);
}

TEST_F(LyingAgentsTest, IdsThatAreNotItsOwnChangeNothing) {
  FakeAgent c;
  controller_.Join("c", c);
  const v1::Migration migration = Copying();
  c.Change([&](v1::AgentStatus& status) {
    for (const std::string& id :
         {a_.last_spec().id(), std::string(1'000'000, 'x'), std::string()}) {
      v1::AgentMigration& stolen = *status.add_migrations();
      stolen.set_id(id);
      stolen.set_vm("web1");
      stolen.set_role(v1::AGENT_MIGRATION_ROLE_SOURCE);
      stolen.mutable_progress()->set_phase(v1::MIGRATION_PHASE_COMMITTED);
    }
  });
  a_.Change([](v1::AgentStatus& status) {
    v1::AgentMigration& own = *status.mutable_migrations(0);
    own.set_vm("another");
    own.set_role(static_cast<v1::AgentMigrationRole>(77));
  });
  const int heard = c.Called("GetStatus");
  while (c.Called("GetStatus") < heard + 2) std::this_thread::yield();
  EXPECT_EQ(c.Called("TellDecision") + c.Called("CancelMigration"), 0);
  ExpectOwner("a", 1);
  ASSERT_TRUE(Cancel(migration).ok());
  Await(migration, v1::MIGRATION_PHASE_CANCELLED);
  ExpectOwner("a", 1);
}

}  // namespace
}  // namespace sealift::controller
