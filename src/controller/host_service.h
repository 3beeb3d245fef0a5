// HostService of the API: hosts come and go.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "controller/agents.h"
#include "controller/edge.h"
#include "controller/event_log.h"
#include "controller/host_deaths.h"
#include "controller/host_rows.h"
#include "controller/vm_sync.h"
#include "keys/random.h"
#include "pki/certificate.h"
#include "sealift/v1/controller.grpc.pb.h"
#include "store/store.h"

namespace sealift::controller {

// JoinTokens makes the tokens that hosts join with.
struct JoinTokens {
  std::string ca_certificate_pem;
  std::string enrolment_address;  // where hosts join: host:port
};

// HostServiceImpl: everything handed in outlives it.
class HostServiceImpl final : public v1::HostService::Service {
 public:
  HostServiceImpl(store::Store& store, HostRows& rows, AgentDirectory& agents, VmSync& sync,
                  HostDeaths& deaths, EventLog& events, keys::RandomSource& random,
                  const base::Clock& clock, JoinTokens tokens);

  grpc::Status Add(grpc::ServerContext* context, const v1::AddHostRequest* request,
                   v1::AddHostResponse* response) override;
  grpc::Status List(grpc::ServerContext* context, const v1::ListHostsRequest* request,
                    v1::ListHostsResponse* response) override;
  grpc::Status Get(grpc::ServerContext* context, const v1::GetHostRequest* request,
                   v1::Host* response) override;
  grpc::Status Remove(grpc::ServerContext* context, const v1::RemoveHostRequest* request,
                      v1::RemoveHostResponse* response) override;
  grpc::Status Set(grpc::ServerContext* context, const v1::SetHostRequest* request,
                   v1::Host* response) override;
  grpc::Status Drain(grpc::ServerContext* context, const v1::DrainHostRequest* request,
                     v1::DrainHostResponse* response) override;
  grpc::Status Undrain(grpc::ServerContext* context, const v1::UndrainHostRequest* request,
                       v1::Host* response) override;
  grpc::Status ConfirmDead(grpc::ServerContext* context, const v1::ConfirmDeadHostRequest* request,
                           v1::Host* response) override;
  grpc::Status Fence(grpc::ServerContext* context, const v1::FenceHostRequest* request,
                     v1::Host* response) override;

 private:
  [[nodiscard]] absl::Status SetGroup(const std::string& name, const std::string& group,
                                      const Caller& caller, v1::Host& response);
  [[nodiscard]] absl::Status SetDraining(const std::string& name, bool draining,
                                         const std::string& caller);
  [[nodiscard]] absl::Status AddHost(const v1::AddHostRequest& request, const std::string& caller,
                                     v1::AddHostResponse& response);
  [[nodiscard]] absl::Status Create(const v1::AddHostRequest& request, const std::string& caller);
  [[nodiscard]] absl::Status LetJoinAgain(const v1::AddHostRequest& request,
                                          const std::string& caller);
  [[nodiscard]] absl::Status MakeToken(const v1::AddHostRequest& request,
                                       v1::AddHostResponse& response);
  [[nodiscard]] absl::Status RemoveHost(const std::string& name, const std::string& caller);
  [[nodiscard]] absl::StatusOr<v1::Host> Describe(const store::HostRow& row);
  [[nodiscard]] absl::Status DescribeTo(const std::string& name, v1::Host& response);

  store::Store& store_;
  HostRows& rows_;
  AgentDirectory& agents_;
  VmSync& sync_;
  HostDeaths& deaths_;
  EventLog& events_;
  keys::RandomSource& random_;
  const base::Clock& clock_;
  const JoinTokens tokens_;
};

}  // namespace sealift::controller
