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
  record.crash = "its process ended unexpectedly";
  ASSERT_TRUE(inventory.Put(record).ok());
  const auto loaded = inventory.Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_EQ(loaded->size(), 1U);
  EXPECT_EQ(loaded->front().definition, record.definition);
  EXPECT_EQ(loaded->front().epoch, 3U);
  EXPECT_EQ(loaded->front().mode, policy::EncryptionMode::kRequired);
  EXPECT_EQ(loaded->front().policy_version, 7U);
  EXPECT_EQ(loaded->front().boot_id, "b");
  EXPECT_EQ(loaded->front().crash, record.crash);
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

// As sealift 4b3e315 wrote them.
constexpr char kOldVm[] = R"({"boot_id": "b", "encryption": "required", "epoch": 3,
  "definition": "name: \"web1\"\ncpus: 2\nmemory: 1GiB\nmachine: \"pc-q35-7.2\"\n",
  "policy_version": 7})";
constexpr char kOldMigration[] = R"({"definition": "name: web1", "encryption": "required",
  "epoch": 4, "id": "0011", "mover_pid": 12, "mover_start_time": 34, "policy_version": 7,
  "role": "source", "step": "committed", "vm": "web1"})";

std::string With(const char* record, const std::string& more) {
  return "{" + more + ", " + (record + 1);
}

TEST_F(RecordsTest, RecordsOfTheVersionBeforeAreRead) {
  const auto vm = DecodeVmRecord(kOldVm);
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_EQ(vm->definition.cpus, 2U);
  EXPECT_EQ(vm->epoch, 3U);
  EXPECT_EQ(vm->mode, policy::EncryptionMode::kRequired);
  const auto migration = DecodeMigrationRecord(kOldMigration);
  ASSERT_TRUE(migration.ok()) << migration.status();
  EXPECT_EQ(migration->step, migration::LedgerStep::kCommitted);
  EXPECT_EQ(migration->mover.pid, 12);
}

TEST_F(RecordsTest, WhatTheNextVersionAddsIsIgnoredButALaterFormIsRefused) {
  for (const std::string more : {R"("new": {"key": [1]})", R"("form": 1, "new": null)"}) {
    EXPECT_TRUE(DecodeVmRecord(With(kOldVm, more)).ok());
    EXPECT_TRUE(DecodeMigrationRecord(With(kOldMigration, more)).ok());
  }
  for (const absl::Status& status :
       {DecodeVmRecord(With(kOldVm, R"("form": 2)")).status(),
        DecodeMigrationRecord(With(kOldMigration, R"("form": 2)")).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(base::MessageOf(status).find("newer sealift"), std::string::npos) << status;
  }
}

TEST_F(RecordsTest, UnknownWordsAreNotTakenForOthers) {
  const std::string migration = kOldMigration;
  for (const auto& [word, other] :
       {std::pair{"source", "observer"}, std::pair{"committed", "kept"}}) {
    std::string changed = migration;
    changed.replace(changed.find(word), std::string(word).size(), other);
    const absl::Status status = DecodeMigrationRecord(changed).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_NE(base::MessageOf(status).find(other), std::string::npos) << status;
  }
  std::string mode = kOldVm;
  mode.replace(mode.find("required"), 8, "quantumproof");
  EXPECT_EQ(DecodeVmRecord(mode).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(DecodeVmRecord(With(kOldVm, R"("form": "x")")).ok());
}

TEST_F(RecordsTest, AnInterruptedWriteIsNotARecord) {
  const Inventory inventory(folder_.path());
  ASSERT_TRUE(base::WriteFileDurably(folder_ / "web1.json.a1B2c3", "half").ok());
  EXPECT_TRUE(inventory.Load()->empty());
}

TEST_F(RecordsTest, WhatAnInterruptedWriteHasLeftIsRemovedAndNothingElse) {
  const Inventory inventory(folder_.path());
  const std::vector<std::string> others = {"web1.json.bak",     "web1.json.a1B2c",
                                           "web1.json.a1B2c3d", "web1.json.a1B2-3",
                                           "notes.a1B2c3",      "web1.jsona1B2c3"};
  for (const std::string& name : others) {
    ASSERT_TRUE(base::WriteFileDurably(folder_ / name, "kept").ok());
  }
  ASSERT_TRUE(inventory.Put(Record("web1")).ok());
  for (const char* name : {"web1.json.a1B2c3", "web1.json.XYZ789"}) {
    ASSERT_TRUE(base::WriteFileDurably(folder_ / name, "half").ok());
  }
  EXPECT_EQ(inventory.Load()->size(), 1U);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "web1.json.a1B2c3"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "web1.json.XYZ789"));
  for (const std::string& name : others) {
    EXPECT_TRUE(std::filesystem::exists(folder_ / name)) << name;
  }
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
