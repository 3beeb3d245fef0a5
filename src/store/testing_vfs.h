// For tests: a disk under SQLite that remembers what was done to it in which order, loses what was
// not synced, and can be full.
#pragma once

#include <sqlite3.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace sealift::store {

// DiskStep is one thing that SQLite did to a file.
struct DiskStep {
  enum class Kind { kCreate, kWrite, kTruncate, kSync, kDelete, kDeleteDurably } kind;
  std::string file;        // without its folder
  std::size_t offset = 0;  // kWrite; the new size: kTruncate
  std::string bytes;       // kWrite
};

// TestingVfs is what SQLite opens files with while it lives: the system's own functions, but that
// nothing is really synced. One at a time. Thread-safe.
class TestingVfs {
 public:
  TestingVfs();
  ~TestingVfs();
  TestingVfs(const TestingVfs&) = delete;
  TestingVfs& operator=(const TestingVfs&) = delete;

  // Record begins to remember steps; Take gives them and ends that.
  void Record();
  [[nodiscard]] std::size_t recorded();
  [[nodiscard]] std::vector<DiskStep> Take();

  // FillAfter lets so many more writes to files pass; those after them find no room until
  // MakeRoom.
  void FillAfter(std::size_t writes);
  void MakeRoom();

 private:
  struct File;
  struct Functions;
  static TestingVfs& Of(sqlite3_vfs* vfs) { return *static_cast<TestingVfs*>(vfs->pAppData); }

  void Add(DiskStep step);
  [[nodiscard]] bool TakeRoom();

  sqlite3_vfs* const system_;
  sqlite3_vfs own_;
  std::mutex mutex_;
  enum class Recording { kOff, kOn } recording_ = Recording::kOff;  // guarded by mutex_
  std::vector<DiskStep> steps_;                                     // guarded by mutex_
  std::optional<std::size_t> room_;  // writes; nothing: no limit; guarded by mutex_
};

// Disk is what is on a disk after the steps done to it. What was not synced may be there or not, in
// any order and in pieces.
class Disk {
 public:
  void Do(const DiskStep& step);
  // LosePower gives the files as one possible end leaves them.
  [[nodiscard]] std::map<std::string, std::string> LosePower(std::mt19937& random) const;

 private:
  struct Inode {
    std::string durable;
    std::vector<DiskStep> pending;  // since the last sync
    bool named = false;             // its name is durable, too
  };
  // A name, and what it may still stand for: what was deleted under it is not gone for certain.
  struct Name {
    std::optional<Inode> file;
    std::optional<Inode> deleted;
  };

  void SyncFolder();
  static void Apply(const DiskStep& step, std::string& content);
  static void ApplyInPart(const DiskStep& step, std::string& content, std::mt19937& random);
  static std::string Remains(const Inode& inode, std::mt19937& random);

  std::map<std::string, Name> names_;
};

}  // namespace sealift::store
