// Each field of what a controller sends that can be wrong.
#include "agent/requests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"

namespace sealift::agent {
namespace {

using ::testing::HasSubstr;

constexpr char kDefinition[] = "name: web1\nmemory: 64MiB\n";

v1::MigrationSpec Spec() {
  v1::MigrationSpec spec;
  spec.set_id(std::string(16, '\x07'));
  spec.set_vm("web1");
  spec.set_source("spiffe://sealift/host/a");
  spec.set_destination("spiffe://sealift/host/b");
  spec.set_engine(v1::ENGINE_STREAM);
  spec.set_streams(1);
  spec.set_mode(v1::ENCRYPTION_MODE_REQUIRED);
  return spec;
}

template <typename Message>
void ExpectRefused(const Message& message, const std::string& field) {
  const absl::Status status = FromProto(message).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(base::MessageOf(status), HasSubstr(field));
}

TEST(Requests, ReadsASpec) {
  const auto order = FromProto(Spec());
  ASSERT_TRUE(order.ok()) << order.status();
  EXPECT_EQ(order->spec.vm, "web1");
  EXPECT_EQ(order->spec.protection, keys::Protection::kSealed);
  EXPECT_EQ(order->mode, policy::EncryptionMode::kRequired);
}

TEST(Requests, RefusesWhatIsWrongInASpec) {
  const auto with = [](const std::function<void(v1::MigrationSpec&)>& change) {
    v1::MigrationSpec spec = Spec();
    change(spec);
    return spec;
  };
  ExpectRefused(with([](auto& s) { s.set_id("short"); }), "spec.id");
  ExpectRefused(with([](auto& s) { s.set_id(std::string(1 << 20, 'x')); }), "spec.id");
  ExpectRefused(with([](auto& s) { s.clear_vm(); }), "vm");
  ExpectRefused(with([](auto& s) { s.set_source(std::string(2000, 's')); }), "source");
  ExpectRefused(with([](auto& s) { s.set_destination(s.source()); }), "same host");
  ExpectRefused(with([](auto& s) { s.clear_engine(); }), "spec.engine");
  ExpectRefused(with([](auto& s) { s.set_engine(v1::ENGINE_AUTO); }), "spec.engine");
  ExpectRefused(with([](auto& s) { s.set_engine(static_cast<v1::Engine>(77)); }), "spec.engine");
  ExpectRefused(with([](auto& s) { s.clear_streams(); }), "no data stream");
  ExpectRefused(with([](auto& s) { s.set_streams(65537); }), "spec.streams");
  ExpectRefused(with([](auto& s) { s.clear_mode(); }), "spec.mode");
  ExpectRefused(with([](auto& s) { s.set_mode(static_cast<v1::EncryptionMode>(77)); }),
                "spec.mode");
}

TEST(Requests, ADestinationsSpecIsOfTheVmOfItsDefinition) {
  v1::PrepareDestinationRequest request;
  *request.mutable_spec() = Spec();
  request.set_definition_yaml(kDefinition);
  request.set_epoch(4);
  request.set_listen_address("192.0.2.1");
  const auto order = FromProto(request);
  ASSERT_TRUE(order.ok()) << order.status();
  EXPECT_EQ(order->migration.epoch, 4U);
  EXPECT_EQ(order->definition.name, "web1");
  request.set_definition_yaml("name: web2\nmemory: 64MiB\n");
  ExpectRefused(request, "spec.vm");
  request.set_definition_yaml("name: [");
  EXPECT_FALSE(FromProto(request).ok());
  request.set_definition_yaml(kDefinition);
  request.set_listen_address(std::string(1000, '1'));
  ExpectRefused(request, "listen_address");
}

TEST(Requests, ASourceIsToldWhatToDoAboutAGuestThatIsTooFast) {
  v1::PrepareSourceRequest request;
  *request.mutable_spec() = Spec();
  EXPECT_EQ(FromProto(request)->on_no_convergence, migration::NoConvergence::kThrottle);
  request.set_on_no_convergence(v1::NO_CONVERGENCE_FAIL);
  EXPECT_EQ(FromProto(request)->on_no_convergence, migration::NoConvergence::kFail);
  request.set_on_no_convergence(static_cast<v1::NoConvergence>(77));
  ExpectRefused(request, "on_no_convergence");
}

TEST(Requests, RefusesWhatIsWrongInAStart) {
  v1::StartAgentMigrationRequest good;
  good.set_id(std::string(16, '\x07'));
  good.set_sealed_key("sealed");
  good.add_data_addresses("192.0.2.1:7440");
  good.set_receipt("r1");
  const auto order = FromProto(good);
  ASSERT_TRUE(order.ok()) << order.status();
  EXPECT_EQ(order->migration, "07070707070707070707070707070707");
  EXPECT_EQ(order->destinations.front().port, 7440);
  EXPECT_EQ(order->receipt, "r1");
  const auto with = [&](const std::function<void(v1::StartAgentMigrationRequest&)>& change) {
    v1::StartAgentMigrationRequest request = good;
    change(request);
    return request;
  };
  ExpectRefused(with([](auto& r) { r.clear_id(); }), "id");
  ExpectRefused(with([](auto& r) { r.set_sealed_key(std::string(2000, 'k')); }), "sealed_key");
  ExpectRefused(with([](auto& r) { r.add_data_addresses("192.0.2.1"); }), "data_addresses");
  ExpectRefused(with([](auto& r) { r.add_data_addresses("192.0.2.1:70000"); }), "70000");
  ExpectRefused(with([](auto& r) { r.add_data_addresses(std::string(1000, '1') + ":1"); }),
                "data_addresses");
  ExpectRefused(with([](auto& r) {
                  for (int i = 0; i < 100; ++i) r.add_data_addresses("192.0.2.1:7440");
                }),
                "data_addresses");
  ExpectRefused(with([](auto& r) { r.set_receipt(std::string(100, 'r')); }), "receipt");
}

TEST(Requests, ADecisionIsOneOfTwo) {
  EXPECT_EQ(FromProto(v1::DECISION_COMMIT).value(), migration::Decision::kCommit);
  EXPECT_EQ(FromProto(v1::DECISION_ABORT).value(), migration::Decision::kAbort);
  ExpectRefused(v1::DECISION_UNSPECIFIED, "decision");
  ExpectRefused(static_cast<v1::Decision>(77), "decision");
}

TEST(Requests, AGuestIsNotWaitedForForEver) {
  v1::AgentStopVmRequest request;
  EXPECT_EQ(FromProto(request)->timeout, kDefaultStopTimeout);
  request.set_timeout_s(5);
  EXPECT_EQ(FromProto(request)->timeout, std::chrono::seconds(5));
  request.set_timeout_s(0xFFFFFFFF);
  ExpectRefused(request, "timeout_s");
}

TEST(Requests, AVmIsPutWithAModeOrNotAtAll) {
  v1::PutVmRequest request;
  request.set_definition_yaml(kDefinition);
  ExpectRefused(request, "encryption");
  request.set_encryption(v1::ENCRYPTION_MODE_REQUIRED);
  request.set_epoch(3);
  EXPECT_EQ(FromProto(request)->epoch, 3U);
}

}  // namespace
}  // namespace sealift::agent
