#include "cli/testing_controller.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/status.h"

namespace sealift::cli {
namespace {

const grpc::Status kUnimplemented(grpc::StatusCode::UNIMPLEMENTED,
                                  "the test did not expect this call");

// ClockBefore shows the time of a while ago.
class ClockBefore final : public base::Clock {
 public:
  explicit ClockBefore(std::chrono::hours age) : age_(age) {}
  base::WallTime Now() const override { return clock_.Now() - age_; }
  base::Duration SinceBoot() const override { return clock_.SinceBoot(); }
  void Pause(base::Duration time) const override { clock_.Pause(time); }

 private:
  base::SystemClock clock_;
  std::chrono::hours age_;
};

constexpr std::chrono::hours kAgeOfCa{24 * 365};

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) fmt::print(stderr, "{}\n", base::MessageOf(value.status()));
  SEALIFT_CHECK(value.ok());
  return *std::move(value);
}

template <typename Request, typename Response>
grpc::Status Reply(const Answer<Request, Response>& answer, const Request& request,
                   Response& response) {
  return answer ? answer(request, response) : kUnimplemented;
}

class Hosts final : public v1::HostService::Service {
 public:
  explicit Hosts(const Script& script) : script_(script) {}
  grpc::Status Add(grpc::ServerContext*, const v1::AddHostRequest* request,
                   v1::AddHostResponse* response) override {
    return Reply(script_.add_host, *request, *response);
  }
  grpc::Status List(grpc::ServerContext*, const v1::ListHostsRequest* request,
                    v1::ListHostsResponse* response) override {
    return Reply(script_.list_hosts, *request, *response);
  }
  grpc::Status Get(grpc::ServerContext*, const v1::GetHostRequest* request,
                   v1::Host* response) override {
    return Reply(script_.get_host, *request, *response);
  }
  grpc::Status Drain(grpc::ServerContext*, const v1::DrainHostRequest* request,
                     v1::DrainHostResponse* response) override {
    return Reply(script_.drain_host, *request, *response);
  }

 private:
  const Script& script_;
};

class Vms final : public v1::VmService::Service {
 public:
  explicit Vms(const Script& script) : script_(script) {}
  grpc::Status Create(grpc::ServerContext*, const v1::CreateVmRequest* request,
                      v1::Vm* response) override {
    return Reply(script_.create_vm, *request, *response);
  }
  grpc::Status List(grpc::ServerContext*, const v1::ListVmsRequest* request,
                    v1::ListVmsResponse* response) override {
    return Reply(script_.list_vms, *request, *response);
  }
  grpc::Status Get(grpc::ServerContext*, const v1::GetVmRequest* request,
                   v1::Vm* response) override {
    return Reply(script_.get_vm, *request, *response);
  }
  grpc::Status Stop(grpc::ServerContext*, const v1::StopVmRequest* request,
                    v1::Vm* response) override {
    return Reply(script_.stop_vm, *request, *response);
  }
  grpc::Status Set(grpc::ServerContext*, const v1::SetVmsRequest* request,
                   v1::SetVmsResponse* response) override {
    return Reply(script_.set_vms, *request, *response);
  }
  grpc::Status Delete(grpc::ServerContext*, const v1::DeleteVmRequest* request,
                      v1::DeleteVmResponse* response) override {
    return Reply(script_.delete_vm, *request, *response);
  }
  grpc::Status Console(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::ConsoleOutput, v1::ConsoleInput>* stream) override {
    return script_.console ? script_.console(*stream) : kUnimplemented;
  }

 private:
  const Script& script_;
};

class Migrations final : public v1::MigrationService::Service {
 public:
  explicit Migrations(const Script& script) : script_(script) {}
  grpc::Status Start(grpc::ServerContext*, const v1::StartMigrationRequest* request,
                     v1::Migration* response) override {
    return Reply(script_.start_migration, *request, *response);
  }
  grpc::Status Get(grpc::ServerContext*, const v1::GetMigrationRequest* request,
                   v1::Migration* response) override {
    return Reply(script_.get_migration, *request, *response);
  }
  grpc::Status Cancel(grpc::ServerContext*, const v1::CancelMigrationRequest* request,
                      v1::Migration* response) override {
    return Reply(script_.cancel_migration, *request, *response);
  }
  grpc::Status Watch(grpc::ServerContext* context, const v1::WatchMigrationRequest* request,
                     grpc::ServerWriter<v1::Migration>* writer) override {
    if (!script_.watch_migration) return kUnimplemented;
    return script_.watch_migration(*context, *request, *writer);
  }

 private:
  const Script& script_;
};

class Events final : public v1::EventService::Service {
 public:
  explicit Events(const Script& script) : script_(script) {}
  grpc::Status List(grpc::ServerContext* context, const v1::ListEventsRequest* request,
                    grpc::ServerWriter<v1::Event>* writer) override {
    if (!script_.list_events) return kUnimplemented;
    return script_.list_events(*context, *request, *writer);
  }

 private:
  const Script& script_;
};

class Sessions final : public v1::SessionService::Service {
 public:
  explicit Sessions(const Script& script) : script_(script) {}
  grpc::Status GetInfo(grpc::ServerContext* context, const v1::GetInfoRequest*,
                       v1::GetInfoResponse* response) override {
    response->set_controller_version("9.8.7");
    response->set_api_version(1);
    response->set_identity(Must(rpc::PeerOf(*context)).identity.ToUri());
    return grpc::Status::OK;
  }
  grpc::Status RenewCertificate(grpc::ServerContext*, const v1::RenewCertificateRequest* request,
                                v1::RenewCertificateResponse* response) override {
    return Reply(script_.renew_certificate, *request, *response);
  }

 private:
  const Script& script_;
};

}  // namespace

struct ScriptedController::Services {
  explicit Services(const Script& script)
      : hosts(script), vms(script), migrations(script), events(script), sessions(script) {}
  Hosts hosts;
  Vms vms;
  Migrations migrations;
  Events events;
  Sessions sessions;
};

Authority::Authority(const std::string& folder) : folder_(folder) {
  const ClockBefore then(kAgeOfCa);
  const auto ca = Must(pki::CertificateAuthority::Create(then));
  trust_domain_ = ca->trust_domain();
  certificate_pem_ = ca->certificate_pem();
  key_pem_ = Must(ca->key_pem());
  SEALIFT_CHECK(base::MakeDirectories(folder_, 0700).ok());
  SEALIFT_CHECK(base::WriteFileDurably(folder_ + "/ca.pem", certificate_pem_).ok());
}

std::string Authority::MakeIdentity(pki::Role role, const std::string& name,
                                    std::chrono::hours age) {
  const pki::Identity identity{trust_domain_, role, name};
  const std::string key = Must(pki::GeneratePrivateKey());
  return key + Sign(Must(pki::MakeRequest(key, identity)), identity, age);
}

std::string Authority::Sign(const std::string& request_pem, const pki::Identity& identity,
                            std::chrono::hours age) {
  const ClockBefore then(age);
  const auto ca = Must(pki::CertificateAuthority::Load(certificate_pem_, key_pem_, then));
  return Must(ca->Issue(request_pem, identity, pki::kCertificateLifetime));
}

rpc::CredentialFiles Authority::MakeFiles(pki::Role role, const std::string& name) {
  const rpc::CredentialFiles files{fmt::format("{}/server.pem", folder_), folder_ + "/ca.pem"};
  SEALIFT_CHECK(base::WriteFileDurably(files.identity, MakeIdentity(role, name)).ok());
  return files;
}

Context Authority::MakeContext(std::uint16_t port, const std::string& identity_pem) const {
  return {fmt::format("127.0.0.1:{}", port), trust_domain_, certificate_pem_, identity_pem};
}

ScriptedController::ScriptedController(Authority& authority, pki::Role role)
    : files_(authority.MakeFiles(role, role == pki::Role::kController ? "" : "a")),
      trust_domain_(authority.trust_domain()),
      services_(std::make_unique<Services>(script)) {
  Start();
}

ScriptedController::~ScriptedController() { Stop(); }

void ScriptedController::Stop() {
  if (server_ != nullptr) server_->Shutdown(std::chrono::milliseconds(0));
  server_.reset();
}

void ScriptedController::Start() {
  const rpc::ServerOptions options{
      {"127.0.0.1", port_},
      rpc::MakeServerCredentials(
          files_, trust_domain_, pki::UserRoles(),
          [this](const rpc::Peer& peer) { return admit ? admit(peer) : absl::OkStatus(); }),
      {&services_->hosts, &services_->vms, &services_->migrations, &services_->events,
       &services_->sessions}};
  server_ = Must(rpc::Server::Start(options));
  port_ = server_->port();
}

}  // namespace sealift::cli
