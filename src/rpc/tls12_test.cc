// A process that forgot RequireTls13: its server must not come up. Alone in its binary, because
// gRPC reads the setting once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "rpc/server.h"
#include "rpc/test_installation.h"
#include "sealift/v1/enrolment.grpc.pb.h"

namespace sealift::rpc {
namespace {

TEST(WithoutRequireTls13, AServerDoesNotStart) {
  TestInstallation site;
  const CredentialFiles files = site.Enrol("controller.pem", site.Controller());
  v1::EnrolmentService::Service service;
  for (const auto& credentials :
       {MakeServerCredentials(files, site.trust_domain(), {pki::Role::kOperator}),
        MakeEnrolmentServerCredentials(files)}) {
    const auto server = Server::Start(
        {.address = {"127.0.0.1", 0}, .credentials = credentials, .services = {&service}});
    ASSERT_FALSE(server.ok());
    EXPECT_THAT(base::MessageOf(server.status()), testing::HasSubstr("accepts TLS 1.2"));
  }
}

}  // namespace
}  // namespace sealift::rpc
