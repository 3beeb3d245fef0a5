#include "controller/migration_queue.h"

#include <algorithm>
#include <map>
#include <utility>

namespace sealift::controller {

std::unique_ptr<MigrationQueue::Turn> MigrationQueue::Join(std::string source,
                                                           std::string destination) {
  return Add({std::move(source), std::move(destination), false});
}

std::unique_ptr<MigrationQueue::Turn> MigrationQueue::Resume(std::string source,
                                                             std::string destination) {
  return Add({std::move(source), std::move(destination), true});
}

std::unique_ptr<MigrationQueue::Turn> MigrationQueue::Add(Entry entry) {
  const std::lock_guard lock(mutex_);
  const auto at = entries_.insert(entries_.end(), std::move(entry));
  Admit();
  return std::make_unique<Turn>(*this, at);
}

void MigrationQueue::Leave(Entries::iterator entry) {
  const std::lock_guard lock(mutex_);
  entries_.erase(entry);
  Admit();
  changed_.notify_all();
}

void MigrationQueue::Wake() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

void MigrationQueue::Admit() {
  std::size_t total = 0;
  std::map<std::string, std::size_t> busy;
  for (const Entry& entry : entries_) {
    if (!entry.admitted) continue;
    ++total;
    ++busy[entry.source];
    ++busy[entry.destination];
  }
  for (Entry& entry : entries_) {
    if (entry.admitted) continue;
    const bool room = total < limits_.total && busy[entry.source] < limits_.per_host &&
                      busy[entry.destination] < limits_.per_host;
    entry.admitted = room;
    total += room ? 1 : 0;
    // One that waits stands before all later ones of its hosts.
    busy[entry.source] += room ? 1 : limits_.per_host;
    busy[entry.destination] += room ? 1 : limits_.per_host;
  }
}

std::size_t MigrationQueue::Before(Entries::iterator entry) {
  const auto shares = [&](const Entry& other) {
    return other.source == entry->source || other.source == entry->destination ||
           other.destination == entry->source || other.destination == entry->destination;
  };
  const auto before = std::count_if(entries_.begin(), entry, shares);
  // It waits for the limit of all where none of its own hosts' is before it.
  return static_cast<std::size_t>(std::max<std::ptrdiff_t>(before, 1));
}

std::size_t MigrationQueue::Turn::Wait(std::optional<std::size_t> seen, const std::stop_token& stop,
                                       const std::function<bool()>& given_up) {
  std::unique_lock lock(queue_.mutex_);
  std::size_t before = 0;
  queue_.changed_.wait(lock, stop, [&] {
    before = entry_->admitted ? 0 : queue_.Before(entry_);
    return before != seen || given_up();
  });
  return before;
}

}  // namespace sealift::controller
