#include "agent/testing.h"
#include "base/file.h"
#include "base/status.h"

namespace sealift::agent {
namespace {

class RecordsTest : public AgentFixture {};

TEST_F(RecordsTest, InventoryKeepsEverything) {
  const Inventory inventory(folder_ / "vms");
  ASSERT_TRUE(inventory.Load().ok());
  VmRecord record = Record();
  record.boot_id = "b";
  ASSERT_TRUE(inventory.Put(record).ok());
  const auto loaded = inventory.Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_EQ(loaded->size(), 1U);
  EXPECT_EQ(loaded->front().definition, record.definition);
  EXPECT_EQ(loaded->front().epoch, 3U);
  EXPECT_EQ(loaded->front().mode, policy::EncryptionMode::kRequired);
  EXPECT_EQ(loaded->front().policy_version, 7U);
  EXPECT_EQ(loaded->front().boot_id, "b");
  ASSERT_TRUE(inventory.Remove("web1").ok());
  EXPECT_TRUE(inventory.Load()->empty());
}

TEST_F(RecordsTest, ADamagedRecordIsNamedAndNotForgotten) {
  const Inventory inventory(folder_.path());
  ASSERT_TRUE(base::WriteFileDurably(folder_ / "web1.json", "{\"epoch\": 1}").ok());
  const absl::Status status = inventory.Load().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(base::MessageOf(status).find("web1.json"), std::string::npos);
}

TEST_F(RecordsTest, AnInterruptedWriteIsNotARecord) {
  const Inventory inventory(folder_.path());
  ASSERT_TRUE(base::WriteFileDurably(folder_ / "web1.json.a1B2c3", "half").ok());
  EXPECT_TRUE(inventory.Load()->empty());
}

TEST_F(RecordsTest, EveryStepOfAMigrationRoundTrips) {
  using migration::LedgerStep;
  MigrationRecord record;
  record.id = "0011";
  record.vm = "web1";
  record.role = MigrationRole::kDestination;
  record.mover = {.pid = 12, .start_time = 34};
  record.receipt = "r1";
  for (const LedgerStep step :
       {LedgerStep::kDelegated, LedgerStep::kCommitted, LedgerStep::kAborted, LedgerStep::kResumed,
        LedgerStep::kReleased, LedgerStep::kReceiving, LedgerStep::kReady, LedgerStep::kOwned,
        LedgerStep::kDropped}) {
    record.step = step;
    const auto decoded = DecodeMigrationRecord(EncodeMigrationRecord(record));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(decoded->step, step);
    EXPECT_EQ(decoded->role, MigrationRole::kDestination);
    EXPECT_EQ(decoded->mover, record.mover);
    EXPECT_EQ(decoded->receipt, "r1");
  }
  EXPECT_FALSE(DecodeMigrationRecord("{}").ok());
  EXPECT_FALSE(DecodeMigrationRecord("not json").ok());
}

}  // namespace
}  // namespace sealift::agent
