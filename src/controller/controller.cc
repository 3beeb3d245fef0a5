#include "controller/controller.h"

#include <condition_variable>
#include <mutex>

#include "base/log.h"
#include "base/status.h"
#include "controller/edge.h"
#include "rpc/protocol.h"
#include "store/sqlite_store.h"

namespace sealift::controller {
namespace {

constexpr std::chrono::milliseconds kShutdownGrace{500};
constexpr int kEnrolmentThreads = 16;
constexpr std::size_t kOperatorConnections = 1024;
constexpr std::chrono::hours kCertificateCheckInterval{24};

// ConnectTo makes connections with the controller's own certificate, good for the identity of the
// host named only, and only while its certificate is not revoked.
AgentDirectory::Connect ConnectTo(const Installation& installation, store::Store& store) {
  return [&](const store::HostRow& row) {
    const pki::Identity identity{installation.authority->trust_domain(), pki::Role::kHost,
                                 row.name};
    // Addresses were read when the host was added.
    const auto address = base::ParseHostPort(row.address, rpc::kAgentPort);
    return std::make_shared<AgentConnection>(
        row.name, address.ok() ? *address : base::HostPort{row.address, rpc::kAgentPort},
        rpc::MakeChannelCredentials(installation.credentials(), identity, RefuseRevoked(store)));
  };
}

}  // namespace

absl::StatusOr<std::unique_ptr<Controller>> Controller::Start(const Settings& settings,
                                                              const base::Clock& clock,
                                                              keys::RandomSource& random,
                                                              const Tuning& tuning) {
  SEALIFT_ASSIGN_OR_RETURN(Installation installation, LoadInstallation(settings.state_dir, clock));
  SEALIFT_RETURN_IF_ERROR(RenewOwnCertificate(installation, clock));
  SEALIFT_RETURN_IF_ERROR(rpc::CheckCredentials(installation.credentials(), clock.Now()).status());
  SEALIFT_ASSIGN_OR_RETURN(auto store, store::OpenSqliteStore(installation.files.database));
  std::unique_ptr<Controller> controller(
      new Controller(std::move(installation), std::move(store), clock, random, tuning, settings));
  const absl::Status settled = controller->owners_.CheckSettled();
  if (!settled.ok()) spdlog::warn("{}", base::MessageOf(settled));
  SEALIFT_RETURN_IF_ERROR(controller->agents_.Start());
  SEALIFT_RETURN_IF_ERROR(controller->migrations_.Resume());
  SEALIFT_RETURN_IF_ERROR(controller->ServeEnrolment(settings));
  SEALIFT_RETURN_IF_ERROR(controller->ServeOperators(settings));
  controller->KeepCertificateFresh();
  return controller;
}

Controller::Controller(Installation installation, std::unique_ptr<store::Store> store,
                       const base::Clock& clock, keys::RandomSource& random, const Tuning& tuning,
                       const Settings& settings)
    : clock_(clock),
      random_(random),
      installation_(std::move(installation)),
      store_(std::move(store)),
      events_(*store_, clock_),
      rows_(*store_),
      certificates_(*installation_.authority, *store_, rows_, events_, clock_),
      ownership_(*store_, events_),
      agents_(*store_, rows_, events_, clock_, ConnectTo(installation_, *store_), tuning.heartbeat),
      owners_(*store_, rows_, agents_, claims_, events_, clock_,
              [this](const std::string& host) { sync_.CompareAgain(host); }),
      sync_(*store_, owners_, events_),
      deaths_(*store_, rows_, agents_, events_, clock_, settings.fencing),
      queue_(settings.limits),
      migrations_({*store_, agents_, events_, random_, clock_,
                   installation_.authority->trust_domain(), queue_, sync_},
                  claims_, owners_),
      vms_(*store_, agents_, claims_, owners_, events_, random_, clock_),
      changes_(*store_, agents_, sync_, events_),
      users_(*installation_.authority, *store_, events_, clock_),
      enrolment_service_(*store_, certificates_, agents_, events_, clock_, tuning.enrolment),
      session_service_(users_, *store_),
      event_service_(*store_, events_, stop_.get_token()),
      migration_service_(migrations_, *store_, stop_.get_token()),
      vm_service_(vms_, changes_, *store_, agents_, events_),
      policy_service_(*store_, agents_, sync_, events_),
      user_service_(users_, *store_) {
  agents_.OnReport([this](AgentConnection& agent, const v1::AgentStatus& status, Contact contact) {
    deaths_.OnAnswer(agent.host());
    deaths_.OnCompared(agent.host(), owners_.OnReport(agent, status));
    sync_.OnReport(agent, status, contact);
    migrations_.OnReport(agent, status);
    ownership_.OnReport(agent.host(), status);
    certificates_.RenewIfDue(agent, status);
  });
}

absl::Status Controller::ServeEnrolment(const Settings& settings) {
  rpc::ServerOptions options;
  SEALIFT_ASSIGN_OR_RETURN(options.address,
                           ParseListenAddress(settings.enrolment_listen, rpc::kEnrolmentPort));
  options.credentials = rpc::MakeEnrolmentServerCredentials(installation_.credentials());
  options.services = {&enrolment_service_};
  options.callers = rpc::Callers::kAnybody;
  options.max_threads = kEnrolmentThreads;
  SEALIFT_ASSIGN_OR_RETURN(enrolment_server_, rpc::Server::Start(options));
  return absl::OkStatus();
}

absl::Status Controller::ServeOperators(const Settings& settings) {
  const base::HostPort enrolment{installation_.address.host, enrolment_server_->port()};
  host_service_ = std::make_unique<HostServiceImpl>(
      *store_, rows_, agents_, sync_, deaths_, events_, random_, clock_,
      JoinTokens{installation_.authority->certificate_pem(), enrolment.ToString()});
  rpc::ServerOptions options;
  SEALIFT_ASSIGN_OR_RETURN(options.address,
                           ParseListenAddress(settings.listen, rpc::kControllerPort));
  options.credentials = rpc::MakeServerCredentials(installation_.credentials(),
                                                   installation_.authority->trust_domain(),
                                                   pki::UserRoles(), AdmitUsers(*store_));
  options.max_connections = kOperatorConnections;
  options.services = {host_service_.get(), &vm_service_,     &migration_service_, &event_service_,
                      &session_service_,   &policy_service_, &user_service_};
  SEALIFT_ASSIGN_OR_RETURN(server_, rpc::Server::Start(options));
  return absl::OkStatus();
}

void Controller::KeepCertificateFresh() {
  housekeeping_ = std::jthread([this](const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any nobody;
    std::unique_lock lock(mutex);
    while (nobody.wait_for(lock, stop, kCertificateCheckInterval, [] { return false; }),
           !stop.stop_requested()) {
      const absl::Status renewed = RenewOwnCertificate(installation_, clock_);
      if (!renewed.ok())
        spdlog::error("renew the controller's own certificate: {}", base::MessageOf(renewed));
    }
  });
}

// Streams end by the stop, methods that wait for an agent by the end of its calls, the rest by
// themselves.
void Controller::Stop() {
  stop_.request_stop();
  housekeeping_.request_stop();
  migrations_.RequestStop();
  agents_.Stop();
  if (server_) server_->Shutdown(kShutdownGrace);
  if (enrolment_server_) enrolment_server_->Shutdown(kShutdownGrace);
  migrations_.Stop();
}

}  // namespace sealift::controller
