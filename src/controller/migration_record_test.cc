#include "controller/migration_record.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/testing.h"
#include "store/sqlite_store.h"

namespace sealift::controller {
namespace {

class MigrationRecordTest : public ::testing::Test {
 protected:
  MigrationRecordTest() {
    store_ = *store::OpenSqliteStore(folder_ / "store.db");
    for (const char* host : {"a", "b"}) {
      store::HostRow row;
      row.name = host;
      EXPECT_TRUE(store_->CreateHost(row).ok());
    }
    store::VmRow vm;
    vm.name = "web1";
    vm.uuid = "u";
    vm.host = "a";
    EXPECT_TRUE(store_->CreateVm(vm).ok());
    store::MigrationRow row;
    row.id = "00112233445566778899aabbccddeeff";
    row.vm = "web1";
    row.source = row.running_on = "a";
    row.destination = "b";
    row.phase = "preparing";
    row.started = 1;
    EXPECT_TRUE(store_->CreateMigration(row).ok());
    record_ = std::make_unique<MigrationRecord>(*store_, clock_, row);
  }

  static v1::AgentMigration Says(v1::MigrationPhase phase, std::uint64_t transferred = 0) {
    v1::AgentMigration view;
    view.mutable_progress()->set_phase(phase);
    view.mutable_progress()->set_ram_transferred_bytes(transferred);
    return view;
  }
  store::MigrationRow Stored() { return *store_->GetMigration(record_->View().row.id); }

  const base::TestFolder folder_;
  base::FakeClock clock_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<MigrationRecord> record_;
};

TEST_F(MigrationRecordTest, DelegatesDurably) {
  ASSERT_TRUE(record_->Delegate().ok());
  EXPECT_EQ(Stored().phase, "copying");
  EXPECT_EQ(record_->phase(), v1::MIGRATION_PHASE_COPYING);
}

TEST_F(MigrationRecordTest, APhaseOfALaterVersionIsNoNews) {
  ASSERT_TRUE(record_->Delegate().ok());
  record_->Learn(Says(static_cast<v1::MigrationPhase>(42), 7));
  EXPECT_EQ(record_->phase(), v1::MIGRATION_PHASE_COPYING);
  EXPECT_EQ(record_->View().progress.ram_transferred_bytes(), 7U);
  EXPECT_EQ(Stored().phase, "copying");
}

TEST_F(MigrationRecordTest, ACancelBeforeTheDelegationPreventsIt) {
  EXPECT_TRUE(record_->RequestCancel());
  EXPECT_TRUE(absl::IsCancelled(record_->Delegate()));
  EXPECT_EQ(Stored().phase, "preparing");
}

TEST_F(MigrationRecordTest, ACancelAfterTheDelegationIsForTheSourceToDecide) {
  ASSERT_TRUE(record_->Delegate().ok());
  EXPECT_FALSE(record_->RequestCancel());
}

TEST_F(MigrationRecordTest, ItsPhaseNeverGoesBack) {
  record_->Learn(Says(v1::MIGRATION_PHASE_SWITCHING));
  record_->Learn(Says(v1::MIGRATION_PHASE_COPYING, 5));
  EXPECT_EQ(record_->phase(), v1::MIGRATION_PHASE_SWITCHING);
  EXPECT_EQ(record_->View().progress.ram_transferred_bytes(), 5U);
}

TEST_F(MigrationRecordTest, APhaseThatItDoesNotKnowChangesNothing) {
  record_->Learn(Says(v1::MIGRATION_PHASE_COPYING));
  for (const int unknown : {0, 8, 77, -1}) {
    record_->Learn(Says(static_cast<v1::MigrationPhase>(unknown), 5));
    EXPECT_EQ(record_->phase(), v1::MIGRATION_PHASE_COPYING);
    EXPECT_EQ(record_->View().row.phase, "copying");
  }
}

TEST_F(MigrationRecordTest, AnEndIsNotLearntButRecorded) {
  record_->Learn(Says(v1::MIGRATION_PHASE_COMPLETED, 5));
  EXPECT_FALSE(record_->ended());
  EXPECT_EQ(record_->View().progress.ram_transferred_bytes(), 5U);
}

TEST_F(MigrationRecordTest, IsStoredWhenThePhaseChangesOnly) {
  record_->Learn(Says(v1::MIGRATION_PHASE_COPYING, 5));
  EXPECT_EQ(Stored().ram_transferred_bytes, 5U);
  record_->Learn(Says(v1::MIGRATION_PHASE_COPYING, 6));
  EXPECT_EQ(Stored().ram_transferred_bytes, 5U);
  EXPECT_EQ(record_->View().row.ram_transferred_bytes, 6U);
}

TEST_F(MigrationRecordTest, ACommitSaysWhereTheGuestRuns) {
  EXPECT_EQ(record_->View().row.running_on, "a");
  ASSERT_TRUE(record_->LearnCommit().ok());
  EXPECT_EQ(record_->View().row.running_on, "b");
  EXPECT_EQ(Stored().phase, "committed");
  // Nobody but a person ends it like this.
  ASSERT_TRUE(record_->End(v1::MIGRATION_PHASE_FAILED, "confirmed dead").ok());
  EXPECT_EQ(Stored().running_on, "a");
}

TEST_F(MigrationRecordTest, FinishingMovesTheVmAndCanBeTriedAgain) {
  EXPECT_TRUE(absl::IsAborted(record_->Finish(7)));
  EXPECT_FALSE(record_->ended());
  ASSERT_TRUE(record_->Finish(1).ok());
  EXPECT_TRUE(record_->ended());
  EXPECT_EQ(store_->GetVm("web1")->host, "b");
  EXPECT_EQ(store_->GetVm("web1")->epoch, 2U);
  EXPECT_EQ(Stored().phase, "completed");
}

TEST_F(MigrationRecordTest, AFailureLeavesTheVmWhereItIs) {
  ASSERT_TRUE(record_->End(v1::MIGRATION_PHASE_FAILED, "why").ok());
  EXPECT_EQ(store_->GetVm("web1")->host, "a");
  EXPECT_EQ(Stored().detail, "why");
  EXPECT_GT(Stored().ended, 0);
}

TEST_F(MigrationRecordTest, WakesWhoeverWaitsForAChangeOrAStop) {
  const std::uint64_t seen = record_->View().version;
  std::jthread change([&] { record_->Say("waiting"); });
  const MigrationView view =
      record_->WaitForChange(seen, std::chrono::seconds(20), std::stop_token());
  EXPECT_EQ(view.progress.detail(), "waiting");
  std::stop_source stop;
  std::jthread stopper([&] { stop.request_stop(); });
  EXPECT_EQ(record_->WaitForChange(view.version, std::chrono::hours(1), stop.get_token()).version,
            view.version);
}

}  // namespace
}  // namespace sealift::controller
