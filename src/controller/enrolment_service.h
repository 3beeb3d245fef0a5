// EnrolmentService of the API: the one door without a client certificate. A token opens it once.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "controller/agents.h"
#include "controller/event_log.h"
#include "controller/host_certificates.h"
#include "controller/rate_limit.h"
#include "sealift/v1/enrolment.grpc.pb.h"
#include "store/store.h"

namespace sealift::controller {

inline constexpr Rates kEnrolmentRates{.peer = 2, .overall = 5};

// EnrolmentServiceImpl: everything handed in outlives it. Whatever is wrong with a token, the
// answer is the same.
class EnrolmentServiceImpl final : public v1::EnrolmentService::Service {
 public:
  EnrolmentServiceImpl(store::Store& store, HostCertificates& certificates, AgentDirectory& agents,
                       EventLog& events, const base::Clock& clock, Rates rates = kEnrolmentRates);

  grpc::Status Enrol(grpc::ServerContext* context, const v1::EnrolRequest* request,
                     v1::EnrolResponse* response) override;

 private:
  [[nodiscard]] absl::Status EnrolHost(const v1::EnrolRequest& request, const std::string& peer,
                                       v1::EnrolResponse& response);

  store::Store& store_;
  HostCertificates& certificates_;
  AgentDirectory& agents_;
  EventLog& events_;
  const base::Clock& clock_;
  RateLimit limit_;
};

}  // namespace sealift::controller
