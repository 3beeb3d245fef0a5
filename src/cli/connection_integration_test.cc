// Usage, settings, and what the real program says when it cannot or may not talk to the controller.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/socket.h"
#include "cli/testing_cli.h"

namespace sealift::cli {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// ---- Usage ----

TEST_F(CliTest, WrongUsageIsExitCodeTwoWithAHint) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"vm"},
                                             {"frobnicate"},
                                             {"vm", "migrate", "web1"},
                                             {"vm", "show"},
                                             {"vm", "show", "a", "b"},
                                             {"vm", "list", "-o", "xml"},
                                             {"vm", "list", "--timeout", "0"},
                                             {"vm", "set", "web1", "--encryption", "maybe"}}) {
    const Result result = Run(arguments);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments);
    EXPECT_THAT(result.err, AllOf(StartsWith("sealift: "), HasSubstr("--help` tells more")));
    EXPECT_THAT(result.out, IsEmpty());
  }
}

TEST_F(CliTest, HelpGoesToStdoutAndDocumentsTheExitCodes) {
  const Result result = Run({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, AllOf(HasSubstr("Exit codes:"), HasSubstr("SEALIFT_CONTEXT")));
  EXPECT_THAT(Run({"vm", "migrate", "--help"}).out, HasSubstr("--to HOST"));
}

TEST_F(CliTest, NamesThatAreVerbsAreStillNames) {
  script().get_vm = [](const auto& request, v1::Vm& vm) {
    vm.set_name(request.name());
    return grpc::Status::OK;
  };
  EXPECT_EQ(json::parse(Run({"vm", "show", "list", "-o", "json"}).out)["name"], "list");
  EXPECT_EQ(json::parse(Run({"-o", "json", "vm", "show", "host"}).out)["name"], "host");
}

// ---- Settings ----

TEST_F(CliTest, WithoutAContextItSaysWhereItLooked) {
  environment_.erase("SEALIFT_CONTEXT");
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr(folder_ / ".config/sealift/context.yaml"),
                                HasSubstr("sealift-controllerd init")));
}

TEST_F(CliTest, TheFlagWinsOverTheEnvironment) {
  const Result result = Run({"vm", "list", "--context", "/none"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("no context file /none"));
}

TEST_F(CliTest, TheUsersFileIsFound) {
  environment_.erase("SEALIFT_CONTEXT");
  std::filesystem::create_directories(folder_ / ".config/sealift");
  std::filesystem::rename(context_path_, folder_ / ".config/sealift/context.yaml");
  script().list_vms = [](const auto&, auto&) { return grpc::Status::OK; };
  EXPECT_EQ(Run({"vm", "list"}).exit_code, 0);
}

TEST_F(CliTest, AContextThatOthersMayReadIsRefused) {
  std::filesystem::permissions(context_path_, std::filesystem::perms(0644));
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_THAT(result.err, HasSubstr("chmod 600 " + context_path_));
}

TEST_F(CliTest, FormatAndTimeoutComeFromTheEnvironmentToo) {
  script().list_vms = [](const auto&, auto&) { return grpc::Status::OK; };
  environment_["SEALIFT_OUTPUT"] = "json";
  EXPECT_EQ(Run({"vm", "list"}).out, "[]\n");
  EXPECT_THAT(Run({"vm", "list", "-o", "table"}).out, StartsWith("NAME"));
  environment_["SEALIFT_TIMEOUT"] = "soon";
  EXPECT_EQ(Run({"vm", "list"}).exit_code, 2);
}

// ---- Connection ----

TEST_F(CliTest, AnUnreachableControllerIsNamedWithTheContextFile) {
  controller_.Stop();
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, AllOf(HasSubstr(fmt::format("127.0.0.1:{}", controller_.port())),
                                HasSubstr(context_path_),
                                HasSubstr("cannot be reached: Failed to connect to remote host: "
                                          "Connection refused. Check")));
}

TEST_F(CliTest, AServerThatNeverAnswersIsUnreachable) {
  const auto listener = base::ListenTcp("127.0.0.1", 0, 0);
  ASSERT_TRUE(listener.ok());
  const Result result = Run({"vm", "list", "--timeout", "1", "--controller",
                             fmt::format("127.0.0.1:{}", listener->second)});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("no answer within 1 s"));
}

TEST_F(CliTest, AControllerOfAnotherInstallationIsNotTrusted) {
  Authority other(folder_ / "other");
  UseContext(other.MakeContext(controller_.port(), other.MakeIdentity(pki::Role::kAdmin, "admin")));
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, AllOf(HasSubstr("is not the controller of context file " + context_path_),
                                HasSubstr("certificate verify failed")));
}

TEST_F(CliTest, AHostCannotPoseAsTheController) {
  ScriptedController host(authority_, pki::Role::kHost);
  host.script.list_vms = [](const auto&, auto&) { return grpc::Status::OK; };
  UseContext(authority_.MakeContext(host.port(), operator_));
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("is not the controller of context file"));
}

TEST_F(CliTest, ACallThatTheServerDoesNotKnowIsExplained) {
  const Result result = Run({"vm", "start", "web1"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("does not know this call"));
}

TEST_F(CliTest, ACertificateOfAnotherCaIsFoundBeforeConnecting) {
  Authority other(folder_ / "other");
  UseContext(
      authority_.MakeContext(controller_.port(), other.MakeIdentity(pki::Role::kAdmin, "admin")));
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("not signed by its CA"));
}

TEST_F(CliTest, AnExpiredCertificateIsExitCodeFour) {
  UseContext(authority_.MakeContext(
      controller_.port(),
      authority_.MakeIdentity(pki::Role::kAdmin, "admin", std::chrono::hours(24 * 91))));
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_THAT(result.err, HasSubstr(context_path_));
}

TEST_F(CliTest, ARevokedOperatorIsNotAllowed) {
  controller_.admit = [](const rpc::Peer& peer) {
    return absl::PermissionDeniedError(peer.identity.name + " was revoked");
  };
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_THAT(result.err, HasSubstr("admin was revoked"));
}

TEST_F(CliTest, ACertificateThatEndsSoonIsRenewedSilently) {
  const std::string old =
      authority_.MakeIdentity(pki::Role::kAdmin, "admin", std::chrono::hours(24 * 80));
  UseContext(authority_.MakeContext(controller_.port(), old));
  script().list_vms = [](const auto&, auto&) { return grpc::Status::OK; };
  script().renew_certificate = [this](const auto& request, auto& response) {
    response.set_certificate_chain_pem(
        authority_.Sign(request.certificate_request_pem(),
                        {authority_.trust_domain(), pki::Role::kAdmin, "admin"}));
    return grpc::Status::OK;
  };
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, IsEmpty());
  const auto context = ReadContext(context_path_);
  ASSERT_TRUE(context.ok());
  EXPECT_NE(context->identity_pem, old);
  script().renew_certificate = nullptr;
  EXPECT_EQ(Run({"vm", "list"}).err, "");  // the new one works and is not due
}

TEST_F(CliTest, ARenewalThatFailsIsOnlyAWarning) {
  const std::string old =
      authority_.MakeIdentity(pki::Role::kAdmin, "admin", std::chrono::hours(24 * 80));
  UseContext(authority_.MakeContext(controller_.port(), old));
  script().list_vms = [](const auto&, auto&) { return grpc::Status::OK; };
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("warning: the certificate in " + context_path_));
  EXPECT_EQ(ReadContext(context_path_)->identity_pem, old);
}

TEST_F(CliTest, AnAnswerThatDoesNotComeIsATimeout) {
  script().list_events = [](grpc::ServerContext& context, const auto&, auto&) {
    WaitUntilCancelled(context);
    return grpc::Status::OK;
  };
  const Result result = Run({"events", "--timeout", "1"});
  EXPECT_EQ(result.exit_code, 6);
  EXPECT_THAT(result.err, HasSubstr("did not answer within 1 s"));
}

// ---- Errors of the controller ----

TEST_F(CliTest, ErrorsOfTheControllerKeepTheirTextAndGetTheirExitCode) {
  const std::vector<std::pair<grpc::StatusCode, int>> codes = {
      {grpc::StatusCode::NOT_FOUND, 5},         {grpc::StatusCode::FAILED_PRECONDITION, 8},
      {grpc::StatusCode::ALREADY_EXISTS, 8},    {grpc::StatusCode::PERMISSION_DENIED, 4},
      {grpc::StatusCode::DEADLINE_EXCEEDED, 6}, {grpc::StatusCode::INVALID_ARGUMENT, 2},
      {grpc::StatusCode::UNAVAILABLE, 3},       {grpc::StatusCode::INTERNAL, 1}};
  for (const auto& [code, exit_code] : codes) {
    script().get_vm = [code = code](const auto&, auto&) {
      return Error(code, "there is no VM 'x': `sealift vm list` shows those there are");
    };
    const Result result = Run({"vm", "show", "x", "-o", "json"});
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_EQ(result.err, "sealift: there is no VM 'x': `sealift vm list` shows those there are\n");
    EXPECT_THAT(result.out, IsEmpty());
  }
}

}  // namespace
}  // namespace sealift::cli
