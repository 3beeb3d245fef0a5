// Orders that this host refuses before it does anything: no mover is started for them, and there is
// none to be found here.
#include "agent/migration_keeper.h"

#include <thread>

#include "agent/testing.h"
#include "base/file.h"
#include "base/status.h"

namespace sealift::agent {
namespace {

using policy::EncryptionMode;

constexpr char kSelf[] = "spiffe://sealift/host/a";
constexpr char kPeer[] = "spiffe://sealift/host/b";

class OrderTest : public AgentFixture {
 protected:
  void SetUp() override {
    ASSERT_TRUE(vms_.Recover().ok());
    ASSERT_TRUE(log_.Load().ok());
    ASSERT_TRUE(vms_.Put(Record()).ok());  // required, epoch 3
    ASSERT_TRUE(vms_.Start("web1").ok());
  }

  static MigrationSettings Settings() {
    MigrationSettings settings;
    settings.mover.binary = "/nonexistent/sealift-mover";
    settings.self = kSelf;
    settings.earlier_limit = std::chrono::seconds(1);
    settings.forget_limit = std::chrono::milliseconds(500);
    return settings;
  }

  // A good order for our VM to leave.
  static MigrationOrder Leaving() {
    MigrationOrder order;
    order.spec.id.fill(std::byte{7});
    order.spec.vm = "web1";
    order.spec.source = kSelf;
    order.spec.destination = kPeer;
    order.spec.streams = 2;
    order.mode = EncryptionMode::kRequired;
    order.epoch = 3;
    return order;
  }
  // A good order for another VM to come.
  static MigrationOrder Coming() {
    MigrationOrder order = Leaving();
    order.spec.vm = "web2";
    std::swap(order.spec.source, order.spec.destination);
    return order;
  }

  absl::Status Leave(const MigrationOrder& order) { return keeper_.PrepareSource(order).status(); }
  absl::Status Come(const MigrationOrder& order) {
    return keeper_.PrepareDestination({order, Record(order.spec.vm).definition, "127.0.0.1"})
        .status();
  }
  // What a good order comes to here: there is no mover to start.
  static void ExpectAccepted(const absl::Status& status) {
    EXPECT_NE(base::MessageOf(status).find("/nonexistent/sealift-mover"), std::string::npos)
        << status;
  }
  void ExpectRefused(const absl::Status& status, absl::StatusCode code) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_TRUE(keeper_.List().empty());
    EXPECT_EQ(vms_.Get("web1")->status, VmStatus::kRunning);
  }

  // Our VM has left under migration 0011, but for what the committed source still has to do.
  void CommitLeaving() {
    const auto vm = hypervisor_.Find("web1");
    ASSERT_TRUE(vm->StartOutgoing("/x", {}).ok());
    vm->SetOutgoing(hypervisor::MigrationState::kCompleted);
    MigrationRecord record;
    record.id = "0011";
    record.vm = "web1";
    record.role = MigrationRole::kSource;
    record.step = migration::LedgerStep::kCommitted;
    record.epoch = 3;
    record.definition_yaml = hypervisor::FormatVmDefinition(Record().definition);
    ASSERT_TRUE(log_.Put(record).ok());
    ASSERT_TRUE(keeper_.Recover().ok());
  }

  base::SystemClock clock_;
  hypervisor::FakeHypervisor hypervisor_{"/nowhere"};
  Inventory inventory_{folder_ / "vms"};
  MigrationLog log_{folder_ / "migrations"};
  VmKeeper vms_{hypervisor_, inventory_, "boot-1"};
  MigrationKeeper keeper_{Settings(), {hypervisor_, vms_, log_, clock_}};
};

TEST_F(OrderTest, GoodOrdersGetAsFarAsTheMover) {
  ExpectAccepted(Leave(Leaving()));
  ExpectAccepted(Come(Coming()));
  EXPECT_EQ(vms_.Get("web1")->status, VmStatus::kRunning) << "given back";
}

TEST_F(OrderTest, AnOrderForAnotherHostIsRefused) {
  MigrationOrder order = Leaving();
  order.spec.source = "spiffe://sealift/host/c";
  ExpectRefused(Leave(order), absl::StatusCode::kPermissionDenied);
  order = Coming();
  order.spec.destination = "spiffe://sealift/host/c";
  ExpectRefused(Come(order), absl::StatusCode::kPermissionDenied);
  ExpectRefused(Leave(Coming()), absl::StatusCode::kPermissionDenied);
  ExpectRefused(Come(Leaving()), absl::StatusCode::kPermissionDenied);
}

TEST_F(OrderTest, AnOrderForAnotherVmOrEpochIsRefused) {
  MigrationOrder order = Leaving();
  order.spec.vm = "web9";
  ExpectRefused(Leave(order), absl::StatusCode::kNotFound);
  order = Leaving();
  order.epoch = 2;
  ExpectRefused(Leave(order), absl::StatusCode::kAborted);
}

TEST_F(OrderTest, AVmKeptAsRequiredDoesNotLeaveInTheClearWhateverTheOrderSays) {
  for (const EncryptionMode mode :
       {EncryptionMode::kDisabled, EncryptionMode::kOpportunistic, EncryptionMode::kRequired}) {
    MigrationOrder order = Leaving();
    order.spec.protection = keys::Protection::kPlain;
    order.mode = mode;
    ExpectRefused(Leave(order), absl::StatusCode::kPermissionDenied);
  }
}

TEST_F(OrderTest, AVmKeptAsRequiredDoesNotGetAWeakerModeOnItsWay) {
  for (const EncryptionMode mode : {EncryptionMode::kDisabled, EncryptionMode::kOpportunistic}) {
    MigrationOrder order = Leaving();
    order.mode = mode;
    ExpectRefused(Leave(order), absl::StatusCode::kPermissionDenied);
  }
}

TEST_F(OrderTest, ARequiredVmDoesNotComeInTheClear) {
  MigrationOrder order = Coming();
  order.spec.protection = keys::Protection::kPlain;
  ExpectRefused(Come(order), absl::StatusCode::kPermissionDenied);
  order.mode = EncryptionMode::kOpportunistic;
  ExpectAccepted(Come(order));
}

TEST_F(OrderTest, ACommittedSourceIsForgottenOnlyWhenItsGuestIsKnownToHaveMoved) {
  const auto vm = hypervisor_.Find("web1");
  CommitLeaving();
  EXPECT_EQ(keeper_.Forget("0011", GuestMoved::kUnknown).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(vms_.Has("web1"));
  EXPECT_NE(*vm->State(), hypervisor::RunState::kGone);
  EXPECT_TRUE(keeper_.Forget("0011", GuestMoved::kYes).ok());
  EXPECT_FALSE(vms_.Has("web1"));
  EXPECT_EQ(*vm->State(), hypervisor::RunState::kGone);
}

TEST_F(OrderTest, AnEndThatTakesLongHoldsUpNobodyWhoWantsItForgotten) {
  const auto vm = hypervisor_.Find("web1");
  vm->FailCall("Quit", absl::DeadlineExceededError("is its storage stuck?"));
  CommitLeaving();
  for (int tries = 0; tries < 2; ++tries) {
    const absl::Status refused = keeper_.Forget("0011", GuestMoved::kYes);
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(base::MessageOf(refused).find("is its storage stuck?"), std::string::npos) << refused;
    EXPECT_EQ(log_.Load()->size(), 1U);
  }
  vm->FailCall("Quit", absl::OkStatus());
  EXPECT_TRUE(keeper_.Forget("0011", GuestMoved::kYes).ok());
  EXPECT_TRUE(log_.Load()->empty());
}

TEST_F(OrderTest, AVmThatDoesNotFitDoesNotCome) {
  hypervisor_.SetAvailableMemory(63ULL << 20);
  const absl::Status refused = Come(Coming());
  ExpectRefused(refused, absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(base::MessageOf(refused).find("has 63 MiB left"), std::string::npos) << refused;
  hypervisor_.SetAvailableMemory(64ULL << 20);
  ExpectAccepted(Come(Coming()));
  ExpectAccepted(Come(Coming()));  // what failed keeps no memory
}

// It may have been left by an order that was on its way when the VM moved.
TEST_F(OrderTest, AnOlderCopyThatNobodyRunsMakesRoomForTheVm) {
  ASSERT_TRUE(vms_.Put(Record("web2")).ok());
  MigrationOrder order = Coming();
  order.epoch = 3;
  ExpectRefused(Come(order), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(vms_.Holds("web2", 3)) << "it is not older";
  order.epoch = 4;
  ExpectAccepted(Come(order));
  EXPECT_FALSE(vms_.Has("web2"));
  EXPECT_EQ(inventory_.Load()->size(), 1U);
}

TEST_F(OrderTest, ACopyThatRunsOrIsOnItsWayStays) {
  MigrationOrder order = Coming();
  order.spec.vm = "web1";
  order.epoch = 4;
  ExpectRefused(Come(order), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(vms_.ForceOff("web1").ok());
  EXPECT_TRUE(absl::IsNotFound(vms_.Hold("web1", "0011").status()));
  EXPECT_EQ(Come(order).code(), absl::StatusCode::kAlreadyExists);
  vms_.Return("web1");
  ExpectAccepted(Come(order));
}

TEST_F(OrderTest, TheNextMigrationToHereWaitsForTheEndOfTheLast) {
  const MigrationOrder order = Coming();
  const auto definition = Record(order.spec.vm).definition;
  ASSERT_TRUE(hypervisor_.Start(definition, hypervisor::StartMode::kIncoming).ok());
  MigrationRecord record;
  record.id = "0011";
  record.vm = order.spec.vm;
  record.role = MigrationRole::kDestination;
  record.step = migration::LedgerStep::kReady;
  record.epoch = 3;
  record.definition_yaml = hypervisor::FormatVmDefinition(definition);
  ASSERT_TRUE(log_.Put(record).ok());
  ASSERT_TRUE(keeper_.Recover().ok());
  const absl::Status refused = Come(order);
  EXPECT_EQ(refused.code(), absl::StatusCode::kAlreadyExists) << refused;
  EXPECT_NE(base::MessageOf(refused).find("migration 0011 of VM web2"), std::string::npos);
  ASSERT_TRUE(keeper_.Tell("0011", migration::Decision::kAbort).ok());
  ExpectAccepted(Come(order));
}

TEST_F(OrderTest, ACommitIsRefusedBeforeEverythingIsReceived) {
  const auto definition = Record("web2").definition;
  ASSERT_TRUE(hypervisor_.Start(definition, hypervisor::StartMode::kIncoming).ok());
  const auto vm = hypervisor_.Find("web2");
  vm->FailCall("Quit", absl::DeadlineExceededError("stuck"));  // it stays in this phase
  MigrationRecord record;
  record.id = "0011";
  record.vm = "web2";
  record.role = MigrationRole::kDestination;
  record.step = migration::LedgerStep::kReceiving;
  record.definition_yaml = hypervisor::FormatVmDefinition(definition);
  ASSERT_TRUE(log_.Put(record).ok());
  ASSERT_TRUE(keeper_.Recover().ok());
  EXPECT_EQ(keeper_.Tell("0011", migration::Decision::kCommit).code(),
            absl::StatusCode::kFailedPrecondition);
  vm->FailCall("Quit", absl::OkStatus());
  const auto migration = keeper_.Find("0011");
  ASSERT_TRUE(migration.ok());
  (*migration)->Join();
  EXPECT_FALSE(vms_.Has("web2"));
}

TEST_F(OrderTest, ADecisionAboutAMigrationThatIsNotHereIsRefused) {
  for (const auto decision : {migration::Decision::kCommit, migration::Decision::kAbort}) {
    EXPECT_EQ(keeper_.Tell("0011", decision).code(), absl::StatusCode::kNotFound);
  }
}

// Else a restart would let a guest go on that is about to leave.
TEST_F(OrderTest, AVmThatLeavesTakesTheRecordOfItsArrivalAlong) {
  MigrationRecord record;
  record.id = "0011";
  record.vm = "web1";
  record.role = MigrationRole::kDestination;
  record.step = migration::LedgerStep::kOwned;
  record.epoch = 3;
  record.definition_yaml = hypervisor::FormatVmDefinition(Record().definition);
  ASSERT_TRUE(log_.Put(record).ok());
  ASSERT_TRUE(keeper_.Recover().ok());
  const auto earlier = keeper_.Find("0011");
  ASSERT_TRUE(earlier.ok());
  while (!migration::IsFinal((*earlier)->board()->Look().phase)) {
    static_cast<void>((*earlier)->board()->WaitForChange(0, std::chrono::seconds(1)));
  }
  ExpectAccepted(Leave(Leaving()));
  EXPECT_TRUE(log_.Load()->empty());
}

TEST_F(OrderTest, AVmDoesNotLeaveBeforeItsArrivalHasEnded) {
  const auto vm = hypervisor_.Find("web1");
  vm->FailCall("Continue", absl::DeadlineExceededError("QMP is silent"));
  MigrationRecord record;
  record.id = "0011";
  record.vm = "web1";
  record.role = MigrationRole::kDestination;
  record.step = migration::LedgerStep::kOwned;
  record.epoch = 3;
  record.definition_yaml = hypervisor::FormatVmDefinition(Record().definition);
  ASSERT_TRUE(log_.Put(record).ok());
  ASSERT_TRUE(keeper_.Recover().ok());
  ASSERT_TRUE(vm->WaitForCall("Continue", std::chrono::seconds(5)));
  EXPECT_FALSE(Leave(Leaving()).ok());
  EXPECT_EQ(log_.Load()->size(), 1U);
  vm->FailCall("Continue", absl::OkStatus());
  const auto arrival = keeper_.Find("0011");
  ASSERT_TRUE(arrival.ok());
  EXPECT_TRUE((*arrival)->WaitForEnd(std::chrono::seconds(5)));
  ExpectAccepted(Leave(Leaving()));
}

// A mover that ends without having offered a key, once the file is there.
std::string MakeFailingMover(const std::string& folder, const std::string& file) {
  const std::string script = folder + "/mover";
  EXPECT_TRUE(base::WriteFileDurably(
                  script, "#!/bin/sh\nuntil [ -e " + file + " ]; do sleep 0.01; done\n", 0755)
                  .ok());
  return script;
}

TEST_F(OrderTest, AProcessThatDoesNotEndKeepsItsRecord) {
  MigrationSettings settings = Settings();
  settings.mover.binary = MakeFailingMover(folder_.path(), folder_ / "go");
  settings.mover.user = *base::LookUpUser("root");
  MigrationKeeper keeper(settings, {hypervisor_, vms_, log_, clock_});
  const MigrationOrder order = Coming();
  const std::string id = base::ToHex(order.spec.id);
  std::jthread preparing([&] {
    EXPECT_FALSE(
        keeper.PrepareDestination({order, Record(order.spec.vm).definition, "127.0.0.1"}).ok());
  });
  std::shared_ptr<hypervisor::FakeVm> vm;
  while ((vm = hypervisor_.Find(order.spec.vm)) == nullptr) std::this_thread::yield();
  vm->FailCall("Quit", absl::DeadlineExceededError("is its storage stuck?"));
  ASSERT_TRUE(base::WriteFileDurably(folder_ / "go", "").ok());
  preparing.join();
  EXPECT_FALSE(keeper.Forget(id, GuestMoved::kUnknown).ok());
  EXPECT_EQ(log_.Load()->size(), 1U);
  vm->FailCall("Quit", absl::OkStatus());
  EXPECT_TRUE(keeper.Find(id).value()->WaitForEnd(std::chrono::seconds(5)));
  EXPECT_TRUE(keeper.Forget(id, GuestMoved::kUnknown).ok());
  EXPECT_TRUE(log_.Load()->empty());
  EXPECT_EQ(*vm->State(), hypervisor::RunState::kGone);
}

TEST_F(OrderTest, AProcessThatNoRecordNamesIsEndedByTheNextAgent) {
  using hypervisor::RunState;
  for (const char* name : {"stray", "coming"}) {
    ASSERT_TRUE(hypervisor_.Start(Record(name).definition, hypervisor::StartMode::kIncoming).ok());
  }
  MigrationRecord record;
  record.id = "0011";
  record.vm = "coming";
  record.role = MigrationRole::kDestination;
  record.step = migration::LedgerStep::kReady;
  record.definition_yaml = hypervisor::FormatVmDefinition(Record("coming").definition);
  ASSERT_TRUE(log_.Put(record).ok());
  {
    MigrationKeeper keeper(Settings(), {hypervisor_, vms_, log_, clock_});
    ASSERT_TRUE(keeper.Recover().ok());
    EXPECT_TRUE(hypervisor_.Find("stray")->WaitForCall("Quit", std::chrono::seconds(10)));
    ASSERT_TRUE(keeper.Tell("0011", migration::Decision::kCommit).ok());
  }
  EXPECT_EQ(*hypervisor_.Find("stray")->State(), RunState::kGone);
  EXPECT_EQ(*hypervisor_.Find("coming")->State(), RunState::kRunning);
  EXPECT_EQ(*hypervisor_.Find("web1")->State(), RunState::kRunning);
}

TEST_F(OrderTest, AMigrationThatIsKnownIsNotPreparedAgain) {
  MigrationRecord record;
  record.id = base::ToHex(Leaving().spec.id);
  record.vm = "web2";
  record.role = MigrationRole::kSource;
  record.step = migration::LedgerStep::kReleased;
  ASSERT_TRUE(log_.Put(record).ok());
  ASSERT_TRUE(keeper_.Recover().ok());
  EXPECT_EQ(Leave(Leaving()).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Come(Coming()).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(log_.Load()->size(), 1U) << "the record of the first one is untouched";
}

}  // namespace
}  // namespace sealift::agent
