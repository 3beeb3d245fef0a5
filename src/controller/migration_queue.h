// Migrations wait for their turn here: hosts and networks carry only so many at a time.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "base/clock.h"

namespace sealift::controller {

// MigrationLimits: how many may be under way at a time. A host counts as source and as destination.
struct MigrationLimits {
  std::uint32_t total = 16;
  std::uint32_t per_host = 4;
  bool operator==(const MigrationLimits&) const = default;
};

// MigrationQueue is thread-safe. Whoever comes first goes first; one overtakes another only if they
// share no host.
class MigrationQueue {
 private:
  struct Entry {
    std::string source;
    std::string destination;
    bool admitted = false;
  };
  using Entries = std::list<Entry>;

 public:
  explicit MigrationQueue(MigrationLimits limits) : limits_(limits) {}

  // Turn is one migration's place, from the line's end to the end of the migration.
  class Turn {
   public:
    Turn(MigrationQueue& queue, Entries::iterator entry) : queue_(queue), entry_(entry) {}
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() { queue_.Leave(entry_); }

    // Wait returns how many others the migration waits for, 0 once it may begin: when that is not
    // what was `seen` last, when `given_up` holds (see Wake), or when a stop is requested.
    [[nodiscard]] std::size_t Wait(std::optional<std::size_t> seen, const std::stop_token& stop,
                                   const std::function<bool()>& given_up);

   private:
    MigrationQueue& queue_;
    const Entries::iterator entry_;
  };

  // Join takes a place at the end of the line.
  [[nodiscard]] std::unique_ptr<Turn> Join(std::string source, std::string destination);
  // Resume takes a place for a migration that is under way already, whatever the limits.
  [[nodiscard]] std::unique_ptr<Turn> Resume(std::string source, std::string destination);
  // Wake makes everybody who waits look whether it has given up.
  void Wake();

 private:
  [[nodiscard]] std::unique_ptr<Turn> Add(Entry entry);
  void Leave(Entries::iterator entry);
  // These need mutex_.
  void Admit();
  [[nodiscard]] std::size_t Before(Entries::iterator entry);

  const MigrationLimits limits_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  Entries entries_;  // in the order of their coming; guarded by mutex_
};

}  // namespace sealift::controller
