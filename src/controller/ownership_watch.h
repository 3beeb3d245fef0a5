// Looks out for hosts that report what cannot be: that they run a VM which is another host's, or
// that they hold one under an epoch or a version of its mode that nobody gave them. Either the host
// is wrong, or the store is an old copy that nobody has marked as restored. Nothing is decided by
// it: a person is told where to look. While a restored store does not know who has a VM, VmOwners
// decides about that, and nothing is said here.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "controller/event_log.h"
#include "sealift/v1/agent.pb.h"
#include "store/store.h"

namespace sealift::controller {

// OwnershipWatch is thread-safe; what is handed in outlives it.
class OwnershipWatch {
 public:
  OwnershipWatch(store::Store& store, EventLog& events) : store_(store), events_(events) {}

  // OnReport is for every report of a host's heartbeat. What two reports in a row claim is an
  // event, once for each epoch of the VM: one alone may have been overtaken by a move.
  void OnReport(const std::string& host, const v1::AgentStatus& status);

 private:
  // A VM, and the epoch under which it is its owner's; of all that the store does not know: 0.
  using Claim = std::pair<std::string, std::uint64_t>;

  // What is wrong with a claim of a host; empty: nothing.
  [[nodiscard]] absl::StatusOr<std::string> Judge(const store::HostRow& host,
                                                  const v1::AgentVm& reported,
                                                  const store::VmRow& owned);
  [[nodiscard]] absl::StatusOr<std::string> JudgeUnknown(const std::string& host,
                                                         const v1::AgentVm& reported);

  store::Store& store_;
  EventLog& events_;
  std::mutex mutex_;
  std::map<std::string, std::set<Claim>> last_;  // by host; guarded by mutex_
  std::map<std::string, std::set<Claim>> told_;  // by host; guarded by mutex_
};

}  // namespace sealift::controller
