// What was acknowledged is never lost: killed processes, power cuts, full disks.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/status.h"
#include "base/testing.h"
#include "base/unique_fd.h"
#include "store/sqlite_store.h"
#include "store/testing.h"
#include "store/testing_vfs.h"

namespace sealift::store {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

// Dump is all that a store knows, as text: two stores with the same dump know the same.
std::string Dump(Store& store) {
  std::string text;
  const std::vector<HostRow> hosts = *store.ListHosts();
  for (const HostRow& h : hosts) {
    text += fmt::format("host {} {} {} {}\n", h.name, h.address, h.last_seen, h.dead_since);
  }
  const std::vector<VmRow> vms = *store.ListVms();
  for (const VmRow& v : vms) {
    text += fmt::format("vm {} {} {} {}\n", v.name, v.host, v.epoch, v.policy_version);
  }
  const std::vector<MigrationRow> migrations = *store.ListMigrations({});
  for (const MigrationRow& m : migrations) {
    text += fmt::format("migration {} {} {}\n", m.id, m.phase, m.ended);
  }
  const std::vector<EventRow> events = *store.ListEvents(0, 1'000'000, "");
  for (const EventRow& e : events) {
    text += fmt::format("event {} {} {}\n", e.number, e.type, std::hash<std::string>()(e.text));
  }
  return text;
}

// Prepare makes hosts a and b, and VM v at a.
absl::Status Prepare(Store& store) {
  SEALIFT_RETURN_IF_ERROR(store.CreateHost(Host("a")));
  SEALIFT_RETURN_IF_ERROR(store.CreateHost(Host("b")));
  return store.CreateVm(Vm("v", "a")).status();
}

// Change is the n-th of an endless row of changes, of all kinds; each has an effect.
absl::Status Change(Store& store, int n, std::size_t bytes) {
  const std::string id = fmt::format("m{}", n / 4);
  SEALIFT_ASSIGN_OR_RETURN(const VmRow vm, store.GetVm("v"));
  switch (n % 4) {
    case 0: {
      MigrationRow migration = Migration(id, "v");
      migration.source = vm.host;
      migration.destination = vm.host == "a" ? "b" : "a";
      return store.CreateMigration(migration);
    }
    case 1:
      return store.AddEvents({{0, n, "one", "s", "x", std::string(bytes, 'x')},
                              {0, n, "two", "s", "x", std::to_string(n)}});
    case 2: {
      SEALIFT_ASSIGN_OR_RETURN(MigrationRow migration, store.GetMigration(id));
      migration.phase = "completed";
      migration.ended = n;
      return store.FinishMove(migration, vm.epoch);
    }
    default: {
      HostRow host = Host("a");
      host.last_seen = n;
      return store.UpdateHost(host);
    }
  }
}

// ---- kill -9

class KilledTest : public testing::Test {
 protected:
  // Change after change in a process of its own, which says which are acknowledged, until it is
  // killed after `changes` more of them or so. Returns how many were.
  int RunUntilKilled(int from, int changes) {
    int pipe_fds[2];
    EXPECT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
    const base::UniqueFd from_child(pipe_fds[0]);
    base::UniqueFd to_parent(pipe_fds[1]);
    const pid_t child = fork();
    if (child == 0) {
      auto store = OpenSqliteStore(path_);
      for (int n = from; store.ok() && Change(**store, n, 3000).ok(); ++n) {
        if (write(to_parent.get(), &n, sizeof n) != sizeof n) break;
      }
      _exit(1);
    }
    to_parent.reset();
    int done = from;
    int last = 0;
    while (read(from_child.get(), &last, sizeof last) == sizeof last) {
      done = last + 1;
      if (done == from + changes) kill(child, SIGKILL);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status)) << "a change was refused";
    return done;
  }

  const base::TestFolder folder_;
  const std::string path_ = folder_ / "store.db";
};

TEST_F(KilledTest, AProcessThatIsKilledOverAndOverLosesNothing) {
  auto reference = OpenSqliteStore(folder_ / "reference.db");
  ASSERT_TRUE(reference.ok() && Prepare(**reference).ok());
  std::vector<std::string> dumps = {Dump(**reference)};
  reference->reset();
  {
    auto store = OpenSqliteStore(path_);
    ASSERT_TRUE(store.ok() && Prepare(**store).ok());
  }
  std::mt19937 random(1);
  int next = 0;
  for (int round = 0; round < 25; ++round) {
    const int acknowledged = RunUntilKilled(next, 1 + static_cast<int>(random() % 60));
    reference = OpenSqliteStore(folder_ / "reference.db");
    ASSERT_TRUE(reference.ok());
    while (static_cast<int>(dumps.size()) < acknowledged + 2) {
      ASSERT_TRUE(Change(**reference, static_cast<int>(dumps.size()) - 1, 3000).ok());
      dumps.push_back(Dump(**reference));
    }
    reference->reset();
    const auto store = OpenSqliteStore(path_);
    ASSERT_TRUE(store.ok()) << store.status();
    const std::string found = Dump(**store);
    // One more may have been made and not reported.
    const auto at = static_cast<std::size_t>(acknowledged);
    ASSERT_TRUE(found == dumps[at] || found == dumps[at + 1]) << "round " << round << ":\n"
                                                              << found;
    next = acknowledged + (found == dumps[at] ? 0 : 1);
  }
}

// ---- Power loss

// History is what a store did to its disk, and what it had acknowledged when.
struct History {
  std::vector<DiskStep> steps;
  std::vector<std::string> dumps;            // after each change; the first: of an empty store
  std::vector<std::size_t> acknowledged_at;  // how many steps there were when a dump was reached
};

class PowerLossTest : public testing::Test {
 protected:
  // `changes` changes, with a new opening after every `reopen_after`.
  void Work(int changes, int reopen_after, std::size_t bytes) {
    vfs_.Record();
    absl::StatusOr<std::unique_ptr<Store>> store = OpenSqliteStore(path_);
    ASSERT_TRUE(store.ok()) << store.status();
    Acknowledge(**store);
    ASSERT_TRUE((*store)->CreateHost(Host("a")).ok());
    Acknowledge(**store);
    ASSERT_TRUE((*store)->CreateHost(Host("b")).ok());
    Acknowledge(**store);
    ASSERT_TRUE((*store)->CreateVm(Vm("v", "a")).ok());
    Acknowledge(**store);
    for (int n = 0; n < changes; ++n) {
      if (n % reopen_after == reopen_after - 1) {
        store->reset();
        store = OpenSqliteStore(path_);
        ASSERT_TRUE(store.ok()) << store.status();
      }
      const absl::Status changed = Change(**store, n, bytes);
      ASSERT_TRUE(changed.ok()) << changed;
      Acknowledge(**store);
    }
    store->reset();
    history_.steps = vfs_.Take();
  }

  void Acknowledge(Store& store) {
    history_.acknowledged_at.push_back(vfs_.recorded());
    history_.dumps.push_back(Dump(store));
  }

  // Cuts the power after the first `steps` steps and looks at what is there.
  void Check(const Disk& disk, std::size_t steps, std::mt19937::result_type seed) {
    SCOPED_TRACE(fmt::format("after {} of {} steps, seed {}", steps, history_.steps.size(), seed));
    std::mt19937 random(seed);
    const base::TestFolder folder;
    for (const auto& [name, content] : disk.LosePower(random)) {
      std::ofstream(folder / name, std::ios::binary) << content;
    }
    const auto store = OpenSqliteStore(folder / "store.db");
    ASSERT_TRUE(store.ok()) << store.status();
    const auto next = std::ranges::upper_bound(history_.acknowledged_at, steps);
    const auto done = static_cast<std::size_t>(next - history_.acknowledged_at.begin());
    const std::string found = Dump(**store);
    const bool last = done > 0 && found == history_.dumps[done - 1];
    // The change under way is there whole or not at all.
    const bool one_more = done < history_.dumps.size() && found == history_.dumps[done];
    EXPECT_TRUE(last || one_more) << "found:\n"
                                  << found << "acknowledged:\n"
                                  << (done > 0 ? history_.dumps[done - 1] : "nothing");
    EXPECT_EQ(IntegrityOf(folder / "store.db"), "ok");
  }

  static std::string IntegrityOf(const std::string& path) {
    sqlite3* database = nullptr;
    EXPECT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
    std::string verdict;
    const auto keep = [](void* to, int, char** columns, char**) {
      *static_cast<std::string*>(to) += columns[0];
      return 0;
    };
    EXPECT_EQ(sqlite3_exec(database, "PRAGMA integrity_check", keep, &verdict, nullptr), SQLITE_OK);
    sqlite3_close(database);
    return verdict;
  }

  TestingVfs vfs_;
  const base::TestFolder folder_;
  const std::string path_ = folder_ / "store.db";
  History history_;
};

TEST_F(PowerLossTest, AfterAnyStepNothingAcknowledgedIsLost) {
  Work(/*changes=*/24, /*reopen_after=*/5, /*bytes=*/3000);
  Disk disk;
  for (std::size_t steps = 0; steps <= history_.steps.size(); ++steps) {
    for (std::uint32_t seed = 0; seed < 4; ++seed) Check(disk, steps, seed);
    if (HasFailure()) return;
    if (steps < history_.steps.size()) disk.Do(history_.steps[steps]);
  }
}

// SQLite moves its log into the file, and begins it anew, after some 4 MB.
TEST_F(PowerLossTest, NorWhileTheLogIsMovedIntoTheFile) {
  Work(/*changes=*/60, /*reopen_after=*/1000, /*bytes=*/300'000);
  const auto in_file = [](const DiskStep& step) {
    return step.kind == DiskStep::Kind::kWrite && step.file == "store.db";
  };
  ASSERT_GT(std::ranges::count_if(history_.steps, in_file), 1000);
  std::mt19937 random(1);
  Disk disk;
  bool moving = false;
  for (std::size_t steps = 0; steps < history_.steps.size(); ++steps) {
    const DiskStep& step = history_.steps[steps];
    // Around what decides, and here and there in between.
    const bool decides = step.kind == DiskStep::Kind::kSync || in_file(step) != moving;
    moving = in_file(step);
    if (decides || random() % 200 == 0) Check(disk, steps, random());
    disk.Do(step);
    if (decides) Check(disk, steps + 1, random());
    if (HasFailure()) return;
  }
}

// ---- Full disks

TEST(FullDiskTest, AChangeThatFindsNoRoomIsRefusedAndTheStoreGoesOnWhenThereIsRoom) {
  TestingVfs vfs;
  for (std::size_t room = 0; room < 60; ++room) {
    SCOPED_TRACE(fmt::format("room for {} writes", room));
    const base::TestFolder folder;
    auto store = OpenSqliteStore(folder / "store.db");
    ASSERT_TRUE(store.ok() && Prepare(**store).ok());
    vfs.FillAfter(room);
    int next = 0;
    absl::Status status;
    std::string acknowledged = Dump(**store);
    while ((status = Change(**store, next, 9000)).ok()) {
      acknowledged = Dump(**store);
      ++next;
    }
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
    EXPECT_THAT(base::MessageOf(status), HasSubstr("free some space"));
    EXPECT_EQ(Dump(**store), acknowledged) << "a refused change has no effect";
    EXPECT_EQ(Change(**store, next, 9000).code(), StatusCode::kResourceExhausted);
    vfs.MakeRoom();
    for (int i = 0; i < 4; ++i) {
      const absl::Status changed = Change(**store, next + i, 9000);
      ASSERT_TRUE(changed.ok()) << changed;
    }
    acknowledged = Dump(**store);
    store->reset();
    store = OpenSqliteStore(folder / "store.db");
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_EQ(Dump(**store), acknowledged);
  }
}

// FillDisk writes to a store on a file system of 1 MiB until it refuses, opens it on the full one,
// makes room and goes on. Codes above 10 are failures, 1: no such file system here.
int FillDisk(const std::string& folder) {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 1;
  mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  if (mount("none", folder.c_str(), "tmpfs", 0, "size=1m") != 0) return 1;
  std::ofstream(folder + "/other") << std::string(300'000, 'x');
  auto store = OpenSqliteStore(folder + "/small.db");
  if (!store.ok()) return 11;
  const EventRow event{0, 1, "t", "s", "a", std::string(60'000, 'x')};
  std::size_t written = 0;
  absl::Status status;
  while ((status = AddEvent(**store, event).status()).ok()) ++written;
  if (status.code() != StatusCode::kResourceExhausted) return 12;
  if (base::MessageOf(status).find("free some space") == std::string::npos) return 13;
  if (written == 0 || (*store)->ListEvents(0, 1000, "")->size() != written) return 14;
  store->reset();
  std::ofstream(folder + "/rest") << std::string(1U << 20, 'x');
  store = OpenSqliteStore(folder + "/small.db");
  // It needs room only if its log could be put away before.
  if (store.ok()) {
    store->reset();
  } else if (base::MessageOf(store.status()).find("free some space") == std::string::npos) {
    return 15;
  }
  std::filesystem::remove(folder + "/other");
  store = OpenSqliteStore(folder + "/small.db");
  if (!store.ok() || !AddEvent(**store, event).ok()) return 16;
  store->reset();
  store = OpenSqliteStore(folder + "/small.db");
  if (!store.ok()) return 17;
  return (*store)->ListEvents(0, 1000, "")->size() == written + 1 ? 0 : 18;
}

TEST(FullDiskTest, SoItIsOnARealOne) {
  const base::TestFolder folder;
  const int result = RunInChild([&] { return FillDisk(folder.path()); });
  if (result == 1) GTEST_SKIP() << "no mount namespace allowed here";
  EXPECT_EQ(result, 0);
}

}  // namespace
}  // namespace sealift::store
