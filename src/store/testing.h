// Rows and processes for the tests of the store.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "store/store.h"

namespace sealift::store {

inline HostRow Host(const std::string& name) {
  return {.name = name,
          .address = name + ":7432",
          .certificate_serial = "aa" + name,
          .certificate_not_after = 9,
          .created = 5,
          .last_seen = 7,
          .group = "",
          .draining = false,
          .dead_since = 0,
          .unheard = false,
          .written_off = false};
}

inline VmRow Vm(const std::string& name, const std::string& host) {
  return {.name = name,
          .uuid = "uuid-" + name,
          .host = host,
          .epoch = 3,
          .definition = "name: " + name,
          .encryption = "required",
          .policy_version = 2,
          .created = 11,
          .unconfirmed = false};
}

inline MigrationRow Migration(const std::string& id, const std::string& vm) {
  return {.id = id,
          .request_id = "request-" + id,
          .vm = vm,
          .source = "a",
          .destination = "b",
          .requested_by = "spiffe://d/operator/admin",
          .mode = "required",
          .encrypted = true,
          .decision_reason = "required by the VM",
          .cipher = "AES-256-GCM",
          .aead_backend = "openssl",
          .engine = "stream",
          .engine_reason = "the only one",
          .streams = 4,
          .phase = "copying",
          .detail = "d",
          .running_on = "a",
          .ram_total_bytes = 1,
          .ram_transferred_bytes = 2,
          .wire_bytes = ~0ULL,
          .downtime_ms = 4,
          .started = 12,
          .ended = 0,
          .queued = true,
          .on_no_convergence = "fail",
          .receipt = "r1"};
}

// AddEvent gives the number of the event.
inline absl::StatusOr<std::int64_t> AddEvent(Store& store, const EventRow& event) {
  SEALIFT_RETURN_IF_ERROR(store.AddEvents({event}));
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<EventRow> newest, store.ListEvents(0, 1, ""));
  return newest.front().number;
}

// RunInChild gives the exit code of `body` in a process of its own.
inline int RunInChild(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace sealift::store
