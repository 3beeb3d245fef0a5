#include "store/sqlite_store.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "base/status.h"
#include "base/testing.h"
#include "store/testing.h"

namespace sealift::store {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

bool Same(const MigrationRow& x, const MigrationRow& y) {
  const auto tie = [](const MigrationRow& m) {
    return std::tie(m.id, m.request_id, m.vm, m.source, m.destination, m.requested_by, m.mode,
                    m.encrypted, m.decision_reason, m.cipher, m.aead_backend, m.engine,
                    m.engine_reason, m.streams, m.phase, m.detail, m.running_on, m.ram_total_bytes,
                    m.ram_transferred_bytes, m.wire_bytes, m.downtime_ms, m.started, m.ended,
                    m.queued, m.on_no_convergence, m.receipt);
  };
  return tie(x) == tie(y);
}

class SqliteStoreTest : public testing::Test {
 protected:
  void SetUp() override { Reopen(); }

  void Reopen() {
    store_.reset();
    absl::StatusOr<std::unique_ptr<Store>> store = OpenSqliteStore(path_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // Hosts a and b, VM v at a.
  void Populate() {
    ASSERT_TRUE(store_->CreateHost(Host("a")).ok());
    ASSERT_TRUE(store_->CreateHost(Host("b")).ok());
    ASSERT_TRUE(store_->CreateVm(Vm("v", "a")).ok());
  }

  // Changes the file behind the store's back.
  void ExecuteRaw(const std::string& sql) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(database);
  }

  const base::TestFolder folder_;
  const std::string path_ = folder_ / "store.db";
  std::unique_ptr<Store> store_;
};

// A migration of VM v that is over.
MigrationRow Ended(const std::string& phase) {
  MigrationRow row = Migration("m", "v");
  row.phase = phase;
  row.ended = 40;
  return row;
}

TEST_F(SqliteStoreTest, KeepsHosts) {
  ASSERT_TRUE(store_->CreateHost(Host("b")).ok());
  ASSERT_TRUE(store_->CreateHost(Host("a")).ok());
  HostRow changed = Host("a");
  changed.address = "other:1";
  changed.certificate_serial = "bb";
  changed.certificate_not_after = 100;
  changed.last_seen = 101;
  changed.dead_since = 102;
  changed.unheard = true;
  changed.written_off = true;
  ASSERT_TRUE(store_->UpdateHost(changed).ok());
  Reopen();
  const HostRow read = *store_->GetHost("a");
  EXPECT_EQ(read.address, "other:1");
  EXPECT_EQ(read.certificate_serial, "bb");
  EXPECT_EQ(read.certificate_not_after, 100);
  EXPECT_EQ(read.created, 5);
  EXPECT_EQ(read.last_seen, 101);
  EXPECT_EQ(read.dead_since, 102);
  EXPECT_TRUE(read.unheard);
  EXPECT_TRUE(read.written_off);
  const std::vector<HostRow> hosts = *store_->ListHosts();
  ASSERT_EQ(hosts.size(), 2U);
  EXPECT_EQ(hosts[0].name, "a");
  EXPECT_EQ(hosts[1].name, "b");
}

TEST_F(SqliteStoreTest, NamesAMissingOrTakenHost) {
  ASSERT_TRUE(store_->CreateHost(Host("a")).ok());
  const absl::Status taken = store_->CreateHost(Host("a"));
  EXPECT_EQ(taken.code(), StatusCode::kAlreadyExists);
  EXPECT_THAT(base::MessageOf(taken), HasSubstr("host \"a\""));
  EXPECT_EQ(store_->UpdateHost(Host("x")).code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->DeleteHost("x", 1).code(), StatusCode::kNotFound);
  const absl::Status missing = store_->GetHost("x").status();
  EXPECT_EQ(missing.code(), StatusCode::kNotFound);
  EXPECT_THAT(base::MessageOf(missing), HasSubstr("host \"x\""));
}

TEST_F(SqliteStoreTest, DeletingAHostRevokesItsCertificateAndDropsItsToken) {
  ASSERT_TRUE(store_->CreateHost(Host("a")).ok());
  ASSERT_TRUE(store_->PutJoinToken({"a", "hash", 100}).ok());
  ASSERT_TRUE(store_->DeleteHost("a", 50).ok());
  EXPECT_TRUE(*store_->IsRevoked("aaa"));
  EXPECT_EQ(store_->GetHost("a").status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(store_->CreateHost(Host("a")).ok());
  EXPECT_EQ(store_->TakeJoinToken("a", "hash", 50).code(), StatusCode::kNotFound);
}

TEST_F(SqliteStoreTest, KeepsAHostThatIsInUse) {
  Populate();
  const absl::Status owner = store_->DeleteHost("a", 1);
  EXPECT_EQ(owner.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(base::MessageOf(owner), HasSubstr("\"v\""));
  ASSERT_TRUE(store_->CreateMigration(Migration("m", "v")).ok());
  const absl::Status destination = store_->DeleteHost("b", 1);
  EXPECT_EQ(destination.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(base::MessageOf(destination), HasSubstr("migration m"));
  EXPECT_FALSE(*store_->IsRevoked("aab"));
}

TEST_F(SqliteStoreTest, AJoinTokenIsGoodOnceAndOnlyForItsHostHashAndTime) {
  ASSERT_TRUE(store_->CreateHost(Host("a")).ok());
  ASSERT_TRUE(store_->CreateHost(Host("b")).ok());
  ASSERT_TRUE(store_->PutJoinToken({"a", "old", 100}).ok());
  ASSERT_TRUE(store_->PutJoinToken({"a", "hash", 100}).ok());
  EXPECT_EQ(store_->TakeJoinToken("a", "old", 99).code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->TakeJoinToken("b", "hash", 99).code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->TakeJoinToken("a", "hash", 100).code(), StatusCode::kNotFound);
  Reopen();
  EXPECT_TRUE(store_->TakeJoinToken("a", "hash", 99).ok());
  EXPECT_EQ(store_->TakeJoinToken("a", "hash", 99).code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->PutJoinToken({"x", "hash", 100}).code(), StatusCode::kNotFound);
}

TEST_F(SqliteStoreTest, RemembersRevokedCertificates) {
  EXPECT_FALSE(*store_->IsRevoked("01"));
  ASSERT_TRUE(store_->RevokeCertificate("01", 5).ok());
  ASSERT_TRUE(store_->RevokeCertificate("01", 6).ok());
  Reopen();
  EXPECT_TRUE(*store_->IsRevoked("01"));
  EXPECT_FALSE(*store_->IsRevoked("02"));
}

TEST_F(SqliteStoreTest, KeepsVms) {
  Populate();
  ASSERT_TRUE(store_->UpdateVms({{"v", "changed", "disabled"}}).ok());
  Reopen();
  const VmRow read = *store_->GetVm("v");
  EXPECT_EQ(read.uuid, "uuid-v");
  EXPECT_EQ(read.host, "a");
  EXPECT_EQ(read.epoch, 3U);
  EXPECT_EQ(read.definition, "changed");
  EXPECT_EQ(read.encryption, "disabled");
  EXPECT_EQ(read.policy_version, 3U);
  EXPECT_EQ(read.created, 11);
  ASSERT_EQ(store_->ListVms()->size(), 1U);
  ASSERT_TRUE(store_->DeleteVm("v").ok());
  EXPECT_TRUE(store_->ListVms()->empty());
}

TEST_F(SqliteStoreTest, NamesAMissingOrTakenVm) {
  Populate();
  EXPECT_EQ(store_->CreateVm(Vm("v", "a")).status().code(), StatusCode::kAlreadyExists);
  VmRow same_uuid = Vm("w", "a");
  same_uuid.uuid = "uuid-v";
  EXPECT_EQ(store_->CreateVm(same_uuid).status().code(), StatusCode::kAlreadyExists);
  const absl::Status no_host = store_->CreateVm(Vm("w", "x")).status();
  EXPECT_EQ(no_host.code(), StatusCode::kNotFound);
  EXPECT_THAT(base::MessageOf(no_host), HasSubstr("host \"x\""));
  EXPECT_EQ(store_->GetVm("x").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->DeleteVm("x").code(), StatusCode::kNotFound);
}

TEST_F(SqliteStoreTest, MovesAVmOnlyFromTheEpochExpected) {
  Populate();
  EXPECT_EQ(store_->MoveVm("v", 2, "b").code(), StatusCode::kAborted);
  EXPECT_EQ(store_->MoveVm("v", 4, "b").code(), StatusCode::kAborted);
  EXPECT_EQ(store_->MoveVm("x", 3, "b").code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->MoveVm("v", 3, "x").code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->GetVm("v")->epoch, 3U);
  ASSERT_TRUE(store_->MoveVm("v", 3, "b").ok());
  EXPECT_EQ(store_->MoveVm("v", 3, "b").code(), StatusCode::kAborted);
  EXPECT_EQ(store_->GetVm("v")->host, "b");
  EXPECT_EQ(store_->GetVm("v")->epoch, 4U);
}

TEST_F(SqliteStoreTest, KeepsMigrations) {
  Populate();
  ASSERT_TRUE(store_->CreateMigration(Migration("m", "v")).ok());
  Reopen();
  EXPECT_TRUE(Same(*store_->GetMigration("m"), Migration("m", "v")));
  EXPECT_TRUE(Same(**store_->FindMigrationByRequest("request-m"), Migration("m", "v")));
  EXPECT_TRUE(Same(**store_->FindRunningMigration("v"), Migration("m", "v")));
  EXPECT_FALSE(store_->FindMigrationByRequest("other")->has_value());
  EXPECT_FALSE(store_->FindMigrationByRequest("")->has_value());
  EXPECT_FALSE(store_->FindRunningMigration("w")->has_value());
  EXPECT_EQ(store_->GetMigration("x").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->UpdateMigration(Migration("x", "v")).code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->CreateMigration(Migration("x", "no-vm")).code(), StatusCode::kNotFound);
}

TEST_F(SqliteStoreTest, UpdatesWhatMayChangeOfAMigration) {
  Populate();
  ASSERT_TRUE(store_->CreateMigration(Migration("m", "v")).ok());
  MigrationRow changed = Migration("m", "other");
  changed.source = changed.destination = changed.requested_by = "other";
  changed.request_id = "other";
  changed.started = 99;
  changed.mode = "disabled";
  changed.encrypted = false;
  changed.phase = "failed";
  changed.detail = "cable";
  changed.ended = 20;
  changed.queued = false;
  changed.on_no_convergence = changed.receipt = "other";
  ASSERT_TRUE(store_->UpdateMigration(changed).ok());
  MigrationRow expected = Migration("m", "v");
  expected.mode = "disabled";
  expected.encrypted = false;
  expected.phase = "failed";
  expected.detail = "cable";
  expected.ended = 20;
  expected.queued = false;
  EXPECT_TRUE(Same(*store_->GetMigration("m"), expected));
  EXPECT_FALSE(store_->FindRunningMigration("v")->has_value());
}

TEST_F(SqliteStoreTest, AVmHasOneRunningMigration) {
  Populate();
  MigrationRow first = Migration("m1", "v");
  ASSERT_TRUE(store_->CreateMigration(first).ok());
  const absl::Status second = store_->CreateMigration(Migration("m2", "v"));
  EXPECT_EQ(second.code(), StatusCode::kAlreadyExists);
  EXPECT_THAT(base::MessageOf(second), HasSubstr("migration m1"));
  EXPECT_EQ(store_->DeleteVm("v").code(), StatusCode::kFailedPrecondition);
  first.ended = 30;
  ASSERT_TRUE(store_->UpdateMigration(first).ok());
  ASSERT_TRUE(store_->CreateMigration(Migration("m2", "v")).ok());
  // Reviving the first one would break it too.
  first.ended = 0;
  EXPECT_EQ(store_->UpdateMigration(first).code(), StatusCode::kAlreadyExists);
}

TEST_F(SqliteStoreTest, ARequestMakesOneMigration) {
  Populate();
  ASSERT_TRUE(store_->CreateVm(Vm("w", "a")).ok());
  ASSERT_TRUE(store_->CreateMigration(Migration("m1", "v")).ok());
  MigrationRow again = Migration("m2", "w");
  again.request_id = "request-m1";
  const absl::Status status = store_->CreateMigration(again);
  EXPECT_EQ(status.code(), StatusCode::kAlreadyExists);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("request-m1"));
  again.request_id = "";
  EXPECT_TRUE(store_->CreateMigration(again).ok());
  ASSERT_TRUE(store_->CreateVm(Vm("u", "a")).ok());
  MigrationRow third = Migration("m3", "u");
  third.request_id = "";
  EXPECT_TRUE(store_->CreateMigration(third).ok()) << "no request, no clash";
}

TEST_F(SqliteStoreTest, ListsMigrationsNewestFirst) {
  Populate();
  ASSERT_TRUE(store_->CreateVm(Vm("w", "a")).ok());
  for (const char* id : {"m1", "m2", "m3"}) {
    MigrationRow row = Migration(id, "v");
    row.ended = 1;
    ASSERT_TRUE(store_->CreateMigration(row).ok());
  }
  ASSERT_TRUE(store_->CreateMigration(Migration("m4", "w")).ok());
  const auto ids = [&](const std::string& vm, std::size_t limit) {
    std::string text;
    const std::vector<MigrationRow> rows = *store_->ListMigrations(
        {.vm = vm, .since = 0, .until = 0, .in_the_clear = false, .limit = limit});
    for (const MigrationRow& row : rows) text += row.id + " ";
    return text;
  };
  EXPECT_EQ(ids("", 100), "m4 m3 m2 m1 ");
  EXPECT_EQ(ids("", 2), "m4 m3 ");
  EXPECT_EQ(ids("v", 2), "m3 m2 ");
  EXPECT_EQ(ids("x", 2), "");
}

TEST_F(SqliteStoreTest, FinishingAMoveChangesMigrationAndOwnerTogether) {
  Populate();
  ASSERT_TRUE(store_->CreateMigration(Migration("m", "v")).ok());
  MigrationRow done = Migration("m", "v");
  done.phase = "completed";
  EXPECT_EQ(store_->FinishMove(done, 3).code(), StatusCode::kInvalidArgument) << "no end";
  done.ended = 40;
  EXPECT_EQ(store_->FinishMove(done, 2).code(), StatusCode::kAborted);
  EXPECT_EQ(store_->GetMigration("m")->ended, 0) << "nothing of an aborted one stays";
  ASSERT_TRUE(store_->FinishMove(done, 3).ok());
  EXPECT_EQ(store_->GetVm("v")->host, "b");
  EXPECT_EQ(store_->GetVm("v")->epoch, 4U);
  EXPECT_EQ(store_->GetMigration("m")->phase, "completed");
  EXPECT_EQ(store_->FinishMove(Migration("x", "v"), 3).code(), StatusCode::kInvalidArgument);
}

TEST_F(SqliteStoreTest, FinishingAMoveAgainChangesNothing) {
  Populate();
  ASSERT_TRUE(store_->CreateMigration(Migration("m", "v")).ok());
  MigrationRow done = Ended("completed");
  ASSERT_TRUE(store_->FinishMove(done, 3).ok());
  ASSERT_TRUE(store_->FinishMove(done, 3).ok());
  ASSERT_TRUE(store_->MoveVm("v", 4, "a").ok());
  ASSERT_TRUE(store_->FinishMove(done, 3).ok());
  EXPECT_EQ(store_->GetVm("v")->host, "a");
  EXPECT_EQ(store_->GetVm("v")->epoch, 5U);
  done.phase = "another end";
  EXPECT_EQ(store_->FinishMove(done, 3).code(), StatusCode::kAborted) << "not a repetition";
}

TEST_F(SqliteStoreTest, AMoveMarkedEndedWithoutItsOwnerIsStillFinished) {
  Populate();
  const MigrationRow done = Ended("completed");
  ASSERT_TRUE(store_->CreateMigration(done).ok());
  ASSERT_TRUE(store_->FinishMove(done, 3).ok());
  EXPECT_EQ(store_->GetVm("v")->host, "b");
}

TEST_F(SqliteStoreTest, AMoveThatIsVoidLeavesTheOwnerAnEpochThatNobodyWasPromised) {
  Populate();
  ASSERT_TRUE(store_->CreateMigration(Migration("m", "v")).ok());
  MigrationRow failed = Ended("failed");
  for (int repeated = 0; repeated < 2; ++repeated) {
    ASSERT_TRUE(store_->VoidMove(failed, 4).ok());
    EXPECT_EQ(store_->GetVm("v")->host, "a");
    EXPECT_EQ(store_->GetVm("v")->epoch, 5U) << "4 was the destination's";
    EXPECT_EQ(store_->GetMigration("m")->phase, "failed");
  }
  ASSERT_TRUE(store_->MoveVm("v", 5, "b").ok());
  ASSERT_TRUE(store_->VoidMove(failed, 4).ok());
  EXPECT_EQ(store_->GetVm("v")->host, "b");
  EXPECT_EQ(store_->GetVm("v")->epoch, 6U) << "it was above already";
  failed.id = "unknown";
  EXPECT_EQ(store_->VoidMove(failed, 9).code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->GetVm("v")->epoch, 6U) << "all or nothing";
}

TEST_F(SqliteStoreTest, FiltersAndCountsMigrations) {
  Populate();
  for (int i = 1; i <= 4; ++i) {
    MigrationRow row = Migration(fmt::format("m{}", i), "v");
    row.started = i * 100;
    row.ended = 1;
    row.encrypted = i % 2 == 0;
    ASSERT_TRUE(store_->CreateMigration(row).ok());
  }
  const auto ids = [&](const MigrationFilter& filter) {
    std::string text;
    const std::vector<MigrationRow> rows = *store_->ListMigrations(filter);
    for (const MigrationRow& row : rows) text += row.id + " ";
    return text;
  };
  MigrationFilter filter;
  EXPECT_EQ(ids(filter), "m4 m3 m2 m1 ") << "no limit";
  filter.since = 200;
  EXPECT_EQ(ids(filter), "m4 m3 m2 ");
  filter.until = 400;
  EXPECT_EQ(ids(filter), "m3 m2 ");
  filter.in_the_clear = true;
  EXPECT_EQ(ids(filter), "m3 ");
  filter.vm = "w";
  EXPECT_EQ(ids(filter), "");
  EXPECT_EQ(store_->CountMigrations()->all, 4U);
  EXPECT_EQ(store_->CountMigrations()->in_the_clear, 2U);
}

TEST_F(SqliteStoreTest, KeepsPoliciesAndLetsTheVersionsOfVmsGrow) {
  Populate();
  ASSERT_TRUE(store_->PutPolicy({"", "required", ""}).ok());
  ASSERT_TRUE(store_->PutPolicy({"prod", "", "required"}).ok());
  EXPECT_EQ(store_->GetVm("v")->policy_version, 4U);
  ASSERT_TRUE(store_->SetHostGroup("a", "prod").ok());
  EXPECT_EQ(store_->GetVm("v")->policy_version, 5U);
  ASSERT_TRUE(store_->SetHostGroup("b", "prod").ok());
  EXPECT_EQ(store_->GetVm("v")->policy_version, 5U) << "it is not there";
  EXPECT_EQ(store_->SetHostGroup("x", "prod").code(), StatusCode::kNotFound);
  Reopen();
  EXPECT_EQ(store_->GetHost("a")->group, "prod");
  ASSERT_EQ(store_->ListPolicies()->size(), 2U);
  EXPECT_EQ(store_->ListPolicies()->front().floor, "required");
  ASSERT_TRUE(store_->PutPolicy({"", "", ""}).ok());
  EXPECT_EQ(store_->ListPolicies()->size(), 1U);
}

TEST_F(SqliteStoreTest, KnowsUsersByTheirCertificates) {
  ASSERT_TRUE(store_->CreateUser({"kim", "operator", "change-mode", 5}).ok());
  EXPECT_EQ(store_->CreateUser({"kim", "admin", "", 6}).code(), StatusCode::kAlreadyExists);
  ASSERT_TRUE(store_->PutUserCertificate({"01", "kim", 100}, 50).ok());
  ASSERT_TRUE(store_->PutUserCertificate({"02", "kim", 200}, 99).ok());
  EXPECT_EQ(store_->PutUserCertificate({"03", "nobody", 200}, 99).code(), StatusCode::kNotFound);
  Reopen();
  EXPECT_EQ((*store_->FindUser("01"))->rights, "change-mode");
  EXPECT_EQ((*store_->FindUser("02"))->name, "kim");
  EXPECT_FALSE(store_->FindUser("03")->has_value());
  ASSERT_TRUE(store_->PutUserCertificate({"04", "kim", 300}, 101).ok());
  EXPECT_FALSE(store_->FindUser("01")->has_value()) << "expired ones go";
  ASSERT_TRUE(store_->DeleteUser("kim").ok());
  EXPECT_EQ(store_->DeleteUser("kim").code(), StatusCode::kNotFound);
  ASSERT_TRUE(store_->CreateUser({"kim", "viewer", "", 7}).ok());
  EXPECT_FALSE(store_->FindUser("04")->has_value()) << "a namesake does not inherit";
}

TEST_F(SqliteStoreTest, NumbersAndListsEvents) {
  for (int i = 1; i <= 5; ++i) {
    const std::string subject = i % 2 == 0 ? "vm/even" : "vm/odd";
    ASSERT_EQ(*AddEvent(*store_, {0, 1000 + i, "t", subject, "actor", std::to_string(i)}), i);
  }
  Reopen();
  const auto texts = [&](std::int64_t after, std::size_t limit, const std::string& subject) {
    std::string text;
    const std::vector<EventRow> rows = *store_->ListEvents(after, limit, subject);
    for (const EventRow& row : rows) text += row.text;
    return text;
  };
  EXPECT_EQ(texts(0, 100, ""), "12345");
  EXPECT_EQ(texts(3, 100, ""), "45");
  EXPECT_EQ(texts(0, 2, ""), "45") << "the newest, oldest first";
  EXPECT_EQ(texts(0, 2, "vm/odd"), "35");
  EXPECT_EQ(texts(4, 9, "vm/even"), "");
  const EventRow event = store_->ListEvents(4, 1, "")->front();
  EXPECT_EQ(event.number, 5);
  EXPECT_EQ(event.time, 1005);
  EXPECT_EQ(event.type, "t");
  EXPECT_EQ(event.actor, "actor");
  EXPECT_EQ(*AddEvent(*store_, event), 6) << "a number is never given twice";
}

TEST_F(SqliteStoreTest, KeepsAnyText) {
  using namespace std::string_literals;
  const std::string nasty = "'; DROP TABLE hosts; --\0 \"x\" \xc3\xa4"s;
  HostRow host = Host("a");
  host.address = nasty;
  ASSERT_TRUE(store_->CreateHost(host).ok());
  EXPECT_EQ(store_->GetHost("a")->address, nasty);
  EXPECT_EQ(store_->GetHost("a' OR '1'='1").status().code(), StatusCode::kNotFound);
}

TEST_F(SqliteStoreTest, FilesAreForTheirOwnerOnly) {
  Populate();
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    struct stat info {};
    ASSERT_EQ(stat(entry.path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0600U) << entry.path();
  }
  store_.reset();
  ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  Reopen();
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
}

TEST_F(SqliteStoreTest, ServesFourThreads) {
  Populate();
  constexpr int kThreads = 4;
  constexpr int kEach = 50;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < kEach; ++i) {
        EXPECT_TRUE(AddEvent(*store_, {0, i, "t", fmt::format("vm/{}", t), "x", "y"}).ok());
        // Each epoch is won by exactly one thread.
        const VmRow vm = *store_->GetVm("v");
        const absl::Status moved = store_->MoveVm("v", vm.epoch, vm.host == "a" ? "b" : "a");
        EXPECT_TRUE(moved.ok() || absl::IsAborted(moved)) << moved;
        if (moved.ok()) {
          EXPECT_TRUE(AddEvent(*store_, {0, i, "moved", "moves", "x", "y"}).ok());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < kThreads; ++t) {
    EXPECT_EQ(store_->ListEvents(0, 1000, fmt::format("vm/{}", t))->size(), std::size_t{kEach});
  }
  EXPECT_EQ(store_->GetVm("v")->epoch - 3, store_->ListEvents(0, 1000, "moves")->size());
}

TEST_F(SqliteStoreTest, AnEpochIsNeverGivenToAVmOfThatNameAgain) {
  Populate();
  ASSERT_TRUE(store_->MoveVm("v", 3, "b").ok());
  EXPECT_EQ(*store_->PastEpoch("v"), 0U);
  ASSERT_TRUE(store_->DeleteVm("v").ok());
  Reopen();
  EXPECT_EQ(*store_->PastEpoch("v"), 4U);
  VmRow again = Vm("v", "a");
  again.epoch = 1;
  EXPECT_EQ(store_->CreateVm(again)->epoch, 5U);
  EXPECT_EQ(store_->GetVm("v")->epoch, 5U);
}

// ---- Restores

TEST_F(SqliteStoreTest, AfterARestoreNothingIsTakenForGranted) {
  Populate();
  HostRow dead = Host("b");
  dead.dead_since = 5;
  dead.written_off = true;
  ASSERT_TRUE(store_->UpdateHost(dead).ok());
  ASSERT_TRUE(store_->PutJoinToken({"a", "hash", 100}).ok());
  EXPECT_FALSE(store_->LastRestore()->has_value());
  ASSERT_TRUE(store_->MarkRestored({.time = 2000, .backup_made = 1000}).ok());
  ASSERT_TRUE(store_->MarkRestored({.time = 1500, .backup_made = 0}).ok());
  Reopen();
  EXPECT_EQ((*store_->LastRestore())->time, 2000);
  EXPECT_EQ((*store_->LastRestore())->backup_made, 1000);
  const std::vector<HostRow> hosts = *store_->ListHosts();
  for (const HostRow& host : hosts) {
    EXPECT_TRUE(host.unheard) << host.name;
    EXPECT_EQ(host.dead_since, 0) << host.name;
    EXPECT_FALSE(host.written_off) << host.name;
  }
  EXPECT_TRUE(store_->GetVm("v")->unconfirmed);
  EXPECT_EQ(store_->TakeJoinToken("a", "hash", 50).code(), StatusCode::kNotFound);
}

// A lost store may have given out the next ones.
TEST_F(SqliteStoreTest, EpochsOfARestoredStoreAreAboveThoseOfTheOneThatWasLost) {
  Populate();
  ASSERT_TRUE(store_->MarkRestored({.time = 2000, .backup_made = 1000}).ok());
  ASSERT_TRUE(store_->MoveVm("v", 3, "b").ok());
  EXPECT_EQ(store_->GetVm("v")->epoch, 2000U);
  EXPECT_FALSE(store_->GetVm("v")->unconfirmed) << "somebody knew what to do";
  ASSERT_TRUE(store_->MoveVm("v", 2000, "b").ok());
  EXPECT_EQ(store_->GetVm("v")->epoch, 2001U);
  EXPECT_EQ(store_->CreateVm(Vm("w", "a"))->epoch, 2000U);
}

// Its destination has been told which epoch to take.
TEST_F(SqliteStoreTest, AMigrationKeepsItsEpochOverARestore) {
  Populate();
  ASSERT_TRUE(store_->CreateMigration(Migration("m", "v")).ok());
  ASSERT_TRUE(store_->MarkRestored({.time = 2000, .backup_made = 1000}).ok());
  const MigrationRow done = Ended("completed");
  ASSERT_TRUE(store_->FinishMove(done, 3).ok());
  EXPECT_EQ(store_->GetVm("v")->epoch, 4U);
}

TEST_F(SqliteStoreTest, AdoptsWhatAHostHas) {
  Populate();
  ASSERT_TRUE(store_->MarkRestored({.time = 2000, .backup_made = 1000}).ok());
  const VmRow before = *store_->GetVm("v");
  VmRow held = before;
  held.host = "b";
  held.epoch = 7;
  held.uuid = "another";
  held.unconfirmed = false;
  ASSERT_TRUE(store_->AdoptVm(before, held).ok());
  EXPECT_EQ(store_->GetVm("v")->host, "b");
  EXPECT_EQ(store_->GetVm("v")->epoch, 7U);
  EXPECT_EQ(store_->GetVm("v")->uuid, "another");
  EXPECT_EQ(store_->AdoptVm(before, held).code(), StatusCode::kAborted) << "it has changed";
  ASSERT_TRUE(store_->AdoptVm(std::nullopt, Vm("w", "a")).ok());
  EXPECT_EQ(store_->GetVm("w")->epoch, 3U);
  VmRow taken = Vm("x", "a");
  taken.uuid = "another";
  EXPECT_EQ(store_->AdoptVm(std::nullopt, taken).code(), StatusCode::kAlreadyExists);
  held.uuid = "uuid-w";
  EXPECT_EQ(store_->AdoptVm(*store_->GetVm("v"), held).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(store_->GetVm("v")->uuid, "another") << "it was not removed";
}

TEST_F(SqliteStoreTest, WritesOffUnheardHostsThatAreDead) {
  Populate();
  ASSERT_TRUE(store_->CreateVm(Vm("w", "b")).ok());
  ASSERT_TRUE(store_->CreateVm(Vm("moving", "a")).ok());
  ASSERT_TRUE(store_->CreateMigration(Migration("m", "moving")).ok());
  ASSERT_TRUE(store_->MarkRestored({.time = 2000, .backup_made = 1000}).ok());
  HostRow b = *store_->GetHost("b");
  b.dead_since = 5;
  ASSERT_TRUE(store_->UpdateHost(b).ok());
  ASSERT_TRUE(store_->WriteOffUnheard().ok());
  EXPECT_FALSE(store_->GetHost("b")->unheard);
  EXPECT_TRUE(store_->GetHost("a")->unheard) << "it lives, and is still to be heard";
  EXPECT_FALSE(store_->GetVm("w")->unconfirmed) << "lost with its host";
  EXPECT_TRUE(store_->GetVm("v")->unconfirmed);
  EXPECT_EQ(store_->GetVm("v")->epoch, 2000U);
  EXPECT_EQ(store_->GetVm("moving")->epoch, 3U);
}

TEST_F(SqliteStoreTest, RefusesASecondProcess) {
  EXPECT_EQ(RunInChild([&] {
              const absl::Status status = OpenSqliteStore(path_).status();
              const std::string text = base::MessageOf(status);
              const bool clear = text.find(path_) != std::string::npos &&
                                 text.find("another process") != std::string::npos;
              return status.code() == StatusCode::kFailedPrecondition && clear ? 0 : 1;
            }),
            0);
  EXPECT_TRUE(store_->CreateHost(Host("a")).ok()) << "the first one is not disturbed";
}

TEST_F(SqliteStoreTest, RefusesASecondOpeningInTheSameProcess) {
  EXPECT_EQ(OpenSqliteStore(path_).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(RunInChild([&] { return OpenSqliteStore(path_).ok() ? 1 : 0; }), 0)
      << "the attempt must not have dropped the first one's lock";
}

TEST_F(SqliteStoreTest, RefusesANewerSchema) {
  store_.reset();
  ExecuteRaw("PRAGMA user_version = 1000");
  const absl::Status status = OpenSqliteStore(path_).status();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("schema version 1000"));
  EXPECT_THAT(base::MessageOf(status), HasSubstr("newer sealift"));
}

TEST_F(SqliteStoreTest, AHalfMadeSchemaIsNotLeftBehind) {
  store_.reset();
  std::filesystem::remove(path_);
  ExecuteRaw("CREATE TABLE events (x)");  // the first migration stumbles over it
  EXPECT_EQ(OpenSqliteStore(path_).status().code(), StatusCode::kInternal);
  ExecuteRaw("DROP TABLE events");
  Reopen();
}

TEST_F(SqliteStoreTest, TheDatabaseItselfHoldsTheRules) {
  Populate();
  ASSERT_TRUE(store_->CreateMigration(Migration("m", "v")).ok());
  store_.reset();
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
  const char* copy =
      "CREATE TEMP TABLE t AS SELECT * FROM migrations; UPDATE t SET number = NULL, id = 'm2', "
      "request_id = ''; INSERT INTO migrations SELECT * FROM t";
  EXPECT_EQ(sqlite3_exec(database, copy, nullptr, nullptr, nullptr), SQLITE_CONSTRAINT);
  const char* second_request =
      "UPDATE t SET vm = 'w', request_id = 'request-m'; INSERT INTO migrations SELECT * FROM t";
  EXPECT_EQ(sqlite3_exec(database, second_request, nullptr, nullptr, nullptr), SQLITE_CONSTRAINT);
  sqlite3_close(database);
}

TEST_F(SqliteStoreTest, NamesAFileThatIsNoStore) {
  store_.reset();
  std::filesystem::remove(path_);
  std::ofstream(path_) << std::string(4096, 'x');
  const absl::Status status = OpenSqliteStore(path_).status();
  EXPECT_EQ(status.code(), StatusCode::kInternal);
  EXPECT_THAT(base::MessageOf(status), HasSubstr(path_));
  EXPECT_THAT(base::MessageOf(status), HasSubstr("restore it from a backup"));
}

TEST_F(SqliteStoreTest, NoticesADamagedFile) {
  Populate();
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(AddEvent(*store_, {0, i, "t", "s", "a", std::string(100, 'x')}).ok());
  }
  store_.reset();  // writes the log back into the file
  const auto size = std::filesystem::file_size(path_);
  ASSERT_GT(size, 16384U);
  {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(size - 8192));
    file << std::string(8192, '\xff');
  }
  const absl::Status status = OpenSqliteStore(path_).status();
  EXPECT_EQ(status.code(), StatusCode::kInternal);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("restore it from a backup"));
}

TEST_F(SqliteStoreTest, NamesAFolderThatIsMissing) {
  const absl::Status status = OpenSqliteStore(folder_ / "none/store.db").status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("/none/store.db"));
}

}  // namespace
}  // namespace sealift::store
