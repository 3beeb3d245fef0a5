#include "store/testing_vfs.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <new>
#include <utility>

#include "base/check.h"

namespace sealift::store {
namespace {

constexpr char kName[] = "sealift-testing";
constexpr std::size_t kSector = 512;

}  // namespace

// ---- The functions that SQLite calls

// A file of ours; the system's own lies right behind it in memory that SQLite gave.
struct TestingVfs::File {
  sqlite3_file base;
  TestingVfs* vfs;
  sqlite3_file* system;
  std::string* name;  // nothing: a temporary one, which no power cut has to spare
};

struct TestingVfs::Functions {
  static File& Ours(sqlite3_file* file) { return *reinterpret_cast<File*>(file); }
  static sqlite3_file* System(sqlite3_file* file) { return Ours(file).system; }

  static void Note(sqlite3_file* file, DiskStep::Kind kind, std::size_t offset = 0,
                   std::string bytes = {}) {
    const File& ours = Ours(file);
    if (ours.name != nullptr) ours.vfs->Add({kind, *ours.name, offset, std::move(bytes)});
  }

  static int Close(sqlite3_file* file) {
    const std::unique_ptr<std::string> name(Ours(file).name);
    return System(file)->pMethods->xClose(System(file));
  }
  static int Read(sqlite3_file* file, void* to, int size, sqlite3_int64 offset) {
    return System(file)->pMethods->xRead(System(file), to, size, offset);
  }
  static int Write(sqlite3_file* file, const void* from, int size, sqlite3_int64 offset) {
    if (!Ours(file).vfs->TakeRoom()) return SQLITE_FULL;
    const int code = System(file)->pMethods->xWrite(System(file), from, size, offset);
    if (code == SQLITE_OK) {
      Note(file, DiskStep::Kind::kWrite, static_cast<std::size_t>(offset),
           {static_cast<const char*>(from), static_cast<std::size_t>(size)});
    }
    return code;
  }
  static int Truncate(sqlite3_file* file, sqlite3_int64 size) {
    const int code = System(file)->pMethods->xTruncate(System(file), size);
    if (code == SQLITE_OK) Note(file, DiskStep::Kind::kTruncate, static_cast<std::size_t>(size));
    return code;
  }
  static int Sync(sqlite3_file* file, int /*flags*/) {
    Note(file, DiskStep::Kind::kSync);
    return SQLITE_OK;
  }
  static int FileSize(sqlite3_file* file, sqlite3_int64* size) {
    return System(file)->pMethods->xFileSize(System(file), size);
  }
  static int Lock(sqlite3_file* file, int kind) {
    return System(file)->pMethods->xLock(System(file), kind);
  }
  static int Unlock(sqlite3_file* file, int kind) {
    return System(file)->pMethods->xUnlock(System(file), kind);
  }
  static int CheckReservedLock(sqlite3_file* file, int* held) {
    return System(file)->pMethods->xCheckReservedLock(System(file), held);
  }
  static int FileControl(sqlite3_file* file, int what, void* argument) {
    return System(file)->pMethods->xFileControl(System(file), what, argument);
  }
  static int SectorSize(sqlite3_file* file) {
    return System(file)->pMethods->xSectorSize(System(file));
  }
  static int DeviceCharacteristics(sqlite3_file* file) {
    return System(file)->pMethods->xDeviceCharacteristics(System(file));
  }
  static int ShmMap(sqlite3_file* file, int region, int size, int extend, void volatile** to) {
    return System(file)->pMethods->xShmMap(System(file), region, size, extend, to);
  }
  static int ShmLock(sqlite3_file* file, int offset, int count, int flags) {
    return System(file)->pMethods->xShmLock(System(file), offset, count, flags);
  }
  static void ShmBarrier(sqlite3_file* file) { System(file)->pMethods->xShmBarrier(System(file)); }
  static int ShmUnmap(sqlite3_file* file, int remove) {
    return System(file)->pMethods->xShmUnmap(System(file), remove);
  }

  // Version 2: no mapped reads, which would bypass the others.
  static constexpr sqlite3_io_methods kMethods = {2,
                                                  Close,
                                                  Read,
                                                  Write,
                                                  Truncate,
                                                  Sync,
                                                  FileSize,
                                                  Lock,
                                                  Unlock,
                                                  CheckReservedLock,
                                                  FileControl,
                                                  SectorSize,
                                                  DeviceCharacteristics,
                                                  ShmMap,
                                                  ShmLock,
                                                  ShmBarrier,
                                                  ShmUnmap,
                                                  nullptr,
                                                  nullptr};

  static int Open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags,
                  int* out_flags) {
    TestingVfs& ours = Of(vfs);
    File& opened = *new (file) File{{nullptr}, &ours, nullptr, nullptr};
    opened.system = reinterpret_cast<sqlite3_file*>(&opened + 1);
    const bool made =
        path != nullptr && (flags & SQLITE_OPEN_CREATE) != 0 && !std::filesystem::exists(path);
    const int code = ours.system_->xOpen(ours.system_, path, opened.system, flags, out_flags);
    if (code != SQLITE_OK) return code;
    opened.base.pMethods = &kMethods;
    if (path == nullptr) return code;
    opened.name = new std::string(std::filesystem::path(path).filename().string());
    if (made) Note(file, DiskStep::Kind::kCreate);
    return code;
  }
  static int Delete(sqlite3_vfs* vfs, const char* path, int sync_folder) {
    TestingVfs& ours = Of(vfs);
    const int code = ours.system_->xDelete(ours.system_, path, 0);
    if (code != SQLITE_OK) return code;
    ours.Add({sync_folder != 0 ? DiskStep::Kind::kDeleteDurably : DiskStep::Kind::kDelete,
              std::filesystem::path(path).filename().string(),
              0,
              {}});
    return code;
  }
};

TestingVfs::TestingVfs() : system_(sqlite3_vfs_find(nullptr)), own_(*system_) {
  own_.zName = kName;
  own_.pAppData = this;
  own_.szOsFile = static_cast<int>(sizeof(File)) + system_->szOsFile;
  own_.xOpen = Functions::Open;
  own_.xDelete = Functions::Delete;
  SEALIFT_CHECK(sqlite3_vfs_find(kName) == nullptr);
  SEALIFT_CHECK(sqlite3_vfs_register(&own_, /*makeDflt=*/1) == SQLITE_OK);
}

TestingVfs::~TestingVfs() {
  sqlite3_vfs_unregister(&own_);
  sqlite3_vfs_register(system_, /*makeDflt=*/1);
}

void TestingVfs::Record() {
  const std::lock_guard lock(mutex_);
  recording_ = Recording::kOn;
}

std::size_t TestingVfs::recorded() {
  const std::lock_guard lock(mutex_);
  return steps_.size();
}

std::vector<DiskStep> TestingVfs::Take() {
  const std::lock_guard lock(mutex_);
  recording_ = Recording::kOff;
  return std::exchange(steps_, {});
}

void TestingVfs::FillAfter(std::size_t writes) {
  const std::lock_guard lock(mutex_);
  room_ = writes;
}

void TestingVfs::MakeRoom() {
  const std::lock_guard lock(mutex_);
  room_.reset();
}

void TestingVfs::Add(DiskStep step) {
  const std::lock_guard lock(mutex_);
  if (recording_ == Recording::kOn) steps_.push_back(std::move(step));
}

bool TestingVfs::TakeRoom() {
  const std::lock_guard lock(mutex_);
  if (!room_) return true;
  if (*room_ == 0) return false;
  --*room_;
  return true;
}

// ---- What a power cut leaves

void Disk::Do(const DiskStep& step) {
  Name& name = names_[step.file];
  const bool file_is_new = step.kind == DiskStep::Kind::kCreate;
  // The store makes its own file, durably, before SQLite opens it.
  if (!file_is_new && !name.file) name.file = Inode{{}, {}, true};
  switch (step.kind) {
    case DiskStep::Kind::kCreate:
      name.file = Inode();
      return;
    case DiskStep::Kind::kDelete:
    case DiskStep::Kind::kDeleteDurably:
      if (name.file && name.file->named) name.deleted = std::move(name.file);
      name.file.reset();
      if (step.kind == DiskStep::Kind::kDeleteDurably) SyncFolder();
      return;
    case DiskStep::Kind::kSync:
      for (const DiskStep& pending : name.file->pending) Apply(pending, name.file->durable);
      name.file->pending.clear();
      // SQLite syncs the folder with the first sync of a file that it has made.
      if (!name.file->named) SyncFolder();
      return;
    default:
      name.file->pending.push_back(step);
  }
}

void Disk::SyncFolder() {
  for (auto& [name, what] : names_) {
    if (what.file) what.file->named = true;
    what.deleted.reset();
  }
}

std::map<std::string, std::string> Disk::LosePower(std::mt19937& random) const {
  std::map<std::string, std::string> files;
  for (const auto& [name, what] : names_) {
    const bool certain = what.file && what.file->named;
    const bool there = certain || (what.file && random() % 2 == 0);
    if (there) {
      files[name] = Remains(*what.file, random);
    } else if (what.deleted && random() % 2 == 0) {
      files[name] = Remains(*what.deleted, random);
    }
  }
  return files;
}

void Disk::Apply(const DiskStep& step, std::string& content) {
  if (step.kind == DiskStep::Kind::kTruncate) return content.resize(step.offset);
  content.resize(std::max(content.size(), step.offset + step.bytes.size()));
  content.replace(step.offset, step.bytes.size(), step.bytes);
}

// Every sector of a write makes it to the disk or not, whatever becomes of its neighbours.
void Disk::ApplyInPart(const DiskStep& step, std::string& content, std::mt19937& random) {
  std::size_t done = 0;
  while (done < step.bytes.size()) {
    const std::size_t at = step.offset + done;
    const std::size_t size = std::min(step.bytes.size() - done, kSector - at % kSector);
    if (random() % 2 == 0) {
      Apply({DiskStep::Kind::kWrite, step.file, at, step.bytes.substr(done, size)}, content);
    }
    done += size;
  }
}

std::string Disk::Remains(const Inode& inode, std::mt19937& random) {
  enum Fate : std::uint32_t { kLost, kWhole, kTorn, kFates };
  std::string content = inode.durable;
  for (const DiskStep& step : inode.pending) {
    const auto fate = random() % kFates;
    if (fate == kWhole) Apply(step, content);
    if (fate == kTorn) ApplyInPart(step, content, random);
  }
  return content;
}

}  // namespace sealift::store
