// Stores that earlier versions have made: each is brought to the schema of this one with everything
// in it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/testing.h"
#include "store/schema.h"
#include "store/sqlite_store.h"

namespace sealift::store {
namespace {

using testing::SizeIs;

// What versions 1, 2, … first had a place for, written as that version did.
constexpr std::array kContents = {
    R"sql(
INSERT INTO hosts (name, address, certificate_serial, certificate_not_after, created, last_seen)
  VALUES ('a', 'a:7432', 'aa', 9, 5, 7), ('b', 'b:7432', 'bb', 9, 5, 7);
INSERT INTO join_tokens VALUES ('b', 'hash', 100);
INSERT INTO revoked_certificates VALUES ('old', 3);
INSERT INTO vms (name, uuid, host, epoch, definition, encryption, policy_version, created)
  VALUES ('v', 'uuid', 'a', 3, 'name: v', 'required', 2, 11);
INSERT INTO migrations (id, request_id, vm, source, destination, requested_by, mode, started, encrypted,
    decision_reason, cipher, aead_backend, engine, engine_reason, streams, phase, detail, running_on,
    ram_total_bytes, ram_transferred_bytes, wire_bytes, downtime_ms, ended)
  VALUES ('m1', 'r1', 'v', 'b', 'a', 'kim', 'required', 12, 1, 'why', 'AES-256-GCM', 'openssl', 'stream', 'only',
          4, 'completed', '', 'a', 1, 2, 3, 4, 13),
         ('m2', '', 'v', 'a', 'b', 'kim', 'required', 14, 1, 'why', 'AES-256-GCM', 'openssl', 'stream', 'only',
          4, 'copying', '', 'a', 1, 2, 3, 4, 0);
INSERT INTO events (time, type, subject, actor, text) VALUES (1, 'vm.created', 'vm/v', 'kim', 'text');
)sql",
    R"sql(
UPDATE hosts SET host_group = 'lab', draining = 1 WHERE name = 'b';
INSERT INTO policies VALUES ('lab', 'required', '');
INSERT INTO users (name, role, rights, created) VALUES ('kim', 'admin', 'change-mode', 5);
INSERT INTO user_certificates VALUES ('serial', 'kim', 1000);
)sql",
    R"sql(
UPDATE hosts SET dead_since = 77 WHERE name = 'b';
UPDATE migrations SET queued = 1, on_no_convergence = 'fail' WHERE id = 'm2';
)sql",
    R"sql(
UPDATE users SET request_sha256 = 'digest';
)sql",
    R"sql(
UPDATE migrations SET receipt = 'shown' WHERE id = 'm2';
)sql",
    R"sql(
UPDATE hosts SET unheard = 1 WHERE name = 'a';
UPDATE vms SET unconfirmed = 1;
INSERT INTO restores VALUES (50, 40);
INSERT INTO past_epochs VALUES ('gone', 8);
)sql",
    R"sql(
UPDATE hosts SET written_off = 1;
)sql",
};
static_assert(kContents.size() == kMigrations.size(), "a new version needs an example of its own");

class OldStoreTest : public testing::Test {
 protected:
  // A store as a given version left it.
  void Make(std::size_t version) {
    for (std::size_t i = 0; i < version; ++i) ExecuteRaw(kMigrations[i]);
    for (std::size_t i = 0; i < version; ++i) ExecuteRaw(kContents[i]);
    ExecuteRaw(fmt::format("PRAGMA user_version = {}", version));
  }
  void ExecuteRaw(const std::string& sql) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(database);
    sqlite3_close(database);
  }

  const base::TestFolder folder_;
  const std::string path_ = folder_ / "store.db";
};

class UpgradeTest : public OldStoreTest, public testing::WithParamInterface<std::size_t> {};

TEST_P(UpgradeTest, KeepsEverything) {
  const std::size_t version = GetParam();
  Make(version);
  for (int opening = 0; opening < 2; ++opening) {
    const auto opened = OpenSqliteStore(path_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    Store& store = **opened;
    const HostRow host = *store.GetHost("b");
    EXPECT_EQ(host.certificate_serial, "bb");
    EXPECT_EQ(host.last_seen, 7);
    EXPECT_EQ(host.group, version >= 2 ? "lab" : "");
    EXPECT_EQ(host.draining, version >= 2);
    EXPECT_EQ(host.dead_since, version >= 3 ? 77 : 0);
    EXPECT_TRUE(*store.IsRevoked("old"));
    const VmRow vm = *store.GetVm("v");
    EXPECT_EQ(vm.epoch, 3U);
    EXPECT_EQ(vm.policy_version, 2U);
    EXPECT_EQ(vm.unconfirmed, version >= 6);
    EXPECT_EQ(store.GetHost("a")->unheard, version >= 6);
    EXPECT_FALSE(host.unheard);
    EXPECT_EQ(host.written_off, version >= 3) << "it was confirmed dead";
    EXPECT_EQ(store.GetHost("a")->written_off, version >= 7);
    EXPECT_EQ(*store.PastEpoch("gone"), version >= 6 ? 8U : 0U);
    const auto restore = *store.LastRestore();
    ASSERT_EQ(restore.has_value(), version >= 6);
    if (restore.has_value()) {
      EXPECT_EQ(restore->backup_made, 40);
    }
    const MigrationRow ended = *store.GetMigration("m1");
    EXPECT_EQ(ended.request_id, "r1");
    EXPECT_EQ(ended.phase, "completed");
    EXPECT_EQ(ended.wire_bytes, 3U);
    const auto running = *store.FindRunningMigration("v");
    ASSERT_TRUE(running.has_value());
    EXPECT_EQ(running->id, "m2");
    EXPECT_EQ(running->queued, version >= 3);
    EXPECT_EQ(running->on_no_convergence, version >= 3 ? "fail" : "");
    EXPECT_EQ(running->receipt, version >= 5 ? "shown" : "");
    EXPECT_EQ(store.CountMigrations()->all, 2U);
    EXPECT_THAT(*store.ListEvents(0, 10, "vm/v"), SizeIs(1));
    EXPECT_THAT(*store.ListPolicies(), SizeIs(version >= 2 ? 1 : 0));
    const auto user = *store.FindUser("serial");
    ASSERT_EQ(user.has_value(), version >= 2);
    if (user.has_value()) {
      EXPECT_EQ(user->request_sha256, version >= 4 ? "digest" : "");
    }
  }
  EXPECT_TRUE((*OpenSqliteStore(path_))->TakeJoinToken("b", "hash", 99).ok());
}

TEST_P(UpgradeTest, IsUsedLikeANewOneAfterwards) {
  Make(GetParam());
  const auto opened = OpenSqliteStore(path_);
  ASSERT_TRUE(opened.ok()) << opened.status();
  Store& store = **opened;
  MigrationRow running = *store.GetMigration("m2");
  running.phase = "completed";
  running.ended = 20;
  EXPECT_TRUE(store.FinishMove(running, 3).ok());
  EXPECT_EQ(store.GetVm("v")->host, "b");
  EXPECT_TRUE(store.CreateUser({"lee", "viewer", "", 6, "digest"}).ok());
  EXPECT_TRUE(store.PutPolicy({"", "required", "required"}).ok());
}

INSTANTIATE_TEST_SUITE_P(FromEveryVersion, UpgradeTest,
                         testing::Range<std::size_t>(1, kMigrations.size() + 1));

TEST_F(OldStoreTest, AFailedUpgradeLeavesItAsItWas) {
  Make(2);
  ExecuteRaw("ALTER TABLE migrations ADD COLUMN queued INTEGER");  // version 3 stumbles over it
  EXPECT_FALSE(OpenSqliteStore(path_).ok());
  ExecuteRaw("ALTER TABLE migrations DROP COLUMN queued");
  const auto opened = OpenSqliteStore(path_);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ((*opened)->GetHost("b")->dead_since, 0);
}

// 64-bit FNV-1a.
std::uint64_t Digest(std::string_view text) {
  std::uint64_t digest = 0xcbf29ce484222325;
  for (const char c : text) digest = (digest ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return digest;
}

// A store that has taken a step never takes it again: a change of it would reach new stores only.
TEST(Schema, APublishedStepIsNotChanged) {
  std::vector<std::uint64_t> digests;
  for (const char* step : kMigrations) digests.push_back(Digest(step));
  EXPECT_EQ(digests,
            (std::vector<std::uint64_t>{0xa6a9b4533e189e9e, 0xd938ea9d6a5b1fd8, 0xf721400ce3afc091,
                                        0x45db8726d000d7cc, 0x6e4a00ce8aa1b340, 0xfbfee58defb97fef,
                                        0x21c47763b0915840}));
}

}  // namespace
}  // namespace sealift::store
