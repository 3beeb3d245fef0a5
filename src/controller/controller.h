// A running controller: everything wired together.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <thread>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "controller/agents.h"
#include "controller/enrolment_service.h"
#include "controller/event_log.h"
#include "controller/event_service.h"
#include "controller/host_certificates.h"
#include "controller/host_deaths.h"
#include "controller/host_rows.h"
#include "controller/host_service.h"
#include "controller/installation.h"
#include "controller/migration_queue.h"
#include "controller/migration_service.h"
#include "controller/migrations.h"
#include "controller/ownership_watch.h"
#include "controller/policy_service.h"
#include "controller/session_service.h"
#include "controller/settings.h"
#include "controller/user_service.h"
#include "controller/users.h"
#include "controller/vm_changes.h"
#include "controller/vm_claims.h"
#include "controller/vm_owners.h"
#include "controller/vm_service.h"
#include "controller/vm_sync.h"
#include "controller/vms.h"
#include "keys/random.h"
#include "rpc/server.h"
#include "store/store.h"

namespace sealift::controller {

// Tuning is what only tests have a reason to change.
struct Tuning {
  std::chrono::milliseconds heartbeat = kHeartbeatInterval;
  Rates enrolment = kEnrolmentRates;
};

// Controller serves from its start until it is stopped or destroyed.
//
// Threads: one per host (heartbeat), one per migration, one that renews the controller's
// certificate, and gRPC's. Locks are held for single steps only, never while calling an agent.
class Controller {
 public:
  // Start loads the installation, takes up what an earlier controller left, and serves.
  // rpc::RequireTls13 comes before.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Controller>> Start(const Settings& settings,
                                                                         const base::Clock& clock,
                                                                         keys::RandomSource& random,
                                                                         const Tuning& tuning = {});
  ~Controller() { Stop(); }

  // Stop ends every call and thread within a second or so. Migrations go on at the agents.
  void Stop();

  // The ports bound.
  [[nodiscard]] std::uint16_t port() const { return server_->port(); }
  [[nodiscard]] std::uint16_t enrolment_port() const { return enrolment_server_->port(); }

 private:
  Controller(Installation installation, std::unique_ptr<store::Store> store,
             const base::Clock& clock, keys::RandomSource& random, const Tuning& tuning,
             const Settings& settings);
  [[nodiscard]] absl::Status ServeEnrolment(const Settings& settings);
  [[nodiscard]] absl::Status ServeOperators(const Settings& settings);
  void KeepCertificateFresh();

  const base::Clock& clock_;
  keys::RandomSource& random_;
  const Installation installation_;
  const std::unique_ptr<store::Store> store_;
  std::stop_source stop_;

  EventLog events_;
  HostRows rows_;
  HostCertificates certificates_;
  OwnershipWatch ownership_;
  VmClaims claims_;
  AgentDirectory agents_;
  VmOwners owners_;
  VmSync sync_;
  HostDeaths deaths_;
  MigrationQueue queue_;
  MigrationRunner migrations_;
  VmOperations vms_;
  VmChanges changes_;
  Users users_;

  EnrolmentServiceImpl enrolment_service_;
  SessionServiceImpl session_service_;
  EventServiceImpl event_service_;
  MigrationServiceImpl migration_service_;
  VmServiceImpl vm_service_;
  PolicyServiceImpl policy_service_;
  UserServiceImpl user_service_;
  std::unique_ptr<HostServiceImpl> host_service_;  // made once the enrolment port is known

  std::unique_ptr<rpc::Server> enrolment_server_;
  std::unique_ptr<rpc::Server> server_;
  std::jthread housekeeping_;
};

}  // namespace sealift::controller
