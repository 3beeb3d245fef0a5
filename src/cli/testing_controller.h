// A controller whose answers a test writes down: the real services and the real mutual TLS, nothing
// behind them.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "cli/context.h"
#include "pki/certificate.h"
#include "rpc/credentials.h"
#include "rpc/server.h"
#include "sealift/v1/controller.grpc.pb.h"

namespace sealift::cli {

// Method answers one call; one that a test leaves empty answers UNIMPLEMENTED.
template <typename Request, typename Response>
using Answer = std::function<grpc::Status(const Request&, Response&)>;
template <typename Request, typename Response>
using StreamAnswer = std::function<grpc::Status(grpc::ServerContext&, const Request&,
                                                grpc::ServerWriter<Response>&)>;
using ConsoleAnswer =
    std::function<grpc::Status(grpc::ServerReaderWriter<v1::ConsoleOutput, v1::ConsoleInput>&)>;

// Script is what the controller answers. Set it before the calls come.
struct Script {
  Answer<v1::AddHostRequest, v1::AddHostResponse> add_host;
  Answer<v1::ListHostsRequest, v1::ListHostsResponse> list_hosts;
  Answer<v1::GetHostRequest, v1::Host> get_host;
  Answer<v1::DrainHostRequest, v1::DrainHostResponse> drain_host;
  Answer<v1::CreateVmRequest, v1::Vm> create_vm;
  Answer<v1::ListVmsRequest, v1::ListVmsResponse> list_vms;
  Answer<v1::GetVmRequest, v1::Vm> get_vm;
  Answer<v1::StopVmRequest, v1::Vm> stop_vm;
  Answer<v1::SetVmsRequest, v1::SetVmsResponse> set_vms;
  Answer<v1::DeleteVmRequest, v1::DeleteVmResponse> delete_vm;
  ConsoleAnswer console;
  Answer<v1::StartMigrationRequest, v1::Migration> start_migration;
  Answer<v1::GetMigrationRequest, v1::Migration> get_migration;
  Answer<v1::CancelMigrationRequest, v1::Migration> cancel_migration;
  StreamAnswer<v1::WatchMigrationRequest, v1::Migration> watch_migration;
  StreamAnswer<v1::ListEventsRequest, v1::Event> list_events;
  Answer<v1::RenewCertificateRequest, v1::RenewCertificateResponse> renew_certificate;
};

// Authority is a CA with the files of one installation in a folder of its own.
class Authority {
 public:
  explicit Authority(const std::string& folder);

  // MakeIdentity makes a key and a certificate of it, signed `age` ago.
  [[nodiscard]] std::string MakeIdentity(pki::Role role, const std::string& name,
                                         std::chrono::hours age = {});
  [[nodiscard]] std::string Sign(const std::string& request_pem, const pki::Identity& identity,
                                 std::chrono::hours age = {});
  // MakeFiles writes the identity of a server.
  [[nodiscard]] rpc::CredentialFiles MakeFiles(pki::Role role, const std::string& name);
  [[nodiscard]] Context MakeContext(std::uint16_t port, const std::string& identity_pem) const;

  [[nodiscard]] const std::string& trust_domain() const { return trust_domain_; }

 private:
  std::string folder_;
  std::string trust_domain_;
  std::string certificate_pem_;
  std::string key_pem_;
};

// ScriptedController serves operators on a port of the loopback, with a certificate of the role
// given.
class ScriptedController {
 public:
  explicit ScriptedController(Authority& authority, pki::Role role = pki::Role::kController);
  ~ScriptedController();

  // Stop ends the server; Start starts it again on the same port.
  void Stop();
  void Start();

  [[nodiscard]] std::uint16_t port() const { return port_; }
  Script script;
  rpc::Admit admit;  // asked at each call; none: all are let in

 private:
  struct Services;
  rpc::CredentialFiles files_;
  std::string trust_domain_;
  std::unique_ptr<Services> services_;
  std::unique_ptr<rpc::Server> server_;
  std::uint16_t port_ = 0;
};

}  // namespace sealift::cli
