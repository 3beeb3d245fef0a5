#include "agent/capabilities.h"

#include <gtest/gtest.h>

#include "base/status.h"

namespace sealift::agent {
namespace {

using record::AeadBackend;

// What a CPU without AES-NI says of ipsec-mb.
absl::Status WithoutIpsecMb(AeadBackend backend) {
  if (backend == AeadBackend::kOpenssl) return absl::OkStatus();
  return absl::UnavailableError("ipsec-mb: this CPU lacks AES-NI or PCLMULQDQ");
}
absl::Status AllPass(AeadBackend /*backend*/) { return absl::OkStatus(); }

v1::HostCapabilities Report(const Crypto& crypto, const AeadSelfTest& self_test) {
  const auto report = ReportCapabilities({}, crypto, self_test);
  EXPECT_TRUE(report.ok()) << report.status();
  return report.value_or(v1::HostCapabilities());
}

TEST(Capabilities, SayWhetherTheDirectEngineIsPossible) {
  hypervisor::HostCapabilities host;
  EXPECT_TRUE(ReportCapabilities(host, {}, AllPass)->direct_engine());
  host.direct_reason = "Linux 6.1 is too old";
  host.memory_advice = "echo advise";
  const auto report = ReportCapabilities(host, {}, AllPass);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_FALSE(report->direct_engine());
  EXPECT_EQ(report->direct_reason(), "Linux 6.1 is too old");
  EXPECT_EQ(report->memory_advice(), "echo advise");
}

TEST(Capabilities, TakeTheFastestBackend) {
  const v1::HostCapabilities report = Report({}, AllPass);
  EXPECT_EQ(report.aead_backend(), "ipsec-mb");
  EXPECT_EQ(report.aead_reason(), "");
  EXPECT_NE(report.secret_memory(), "");
}

TEST(Capabilities, SayWhyNotTheFastestBackend) {
  const v1::HostCapabilities report = Report({}, WithoutIpsecMb);
  EXPECT_EQ(report.aead_backend(), "openssl");
  EXPECT_EQ(report.aead_reason(), "ipsec-mb: this CPU lacks AES-NI or PCLMULQDQ");
}

TEST(Capabilities, TakeTheBackendThatIsAskedFor) {
  const v1::HostCapabilities report = Report({.backend = AeadBackend::kOpenssl}, AllPass);
  EXPECT_EQ(report.aead_backend(), "openssl");
  EXPECT_EQ(report.aead_reason(), "crypto.backend is openssl in its agent.yaml");
  const v1::HostCapabilities fips =
      Report({.backend = AeadBackend::kOpenssl, .provider = keys::Provider::kFips}, AllPass);
  EXPECT_EQ(fips.aead_backend(), "openssl");
  EXPECT_EQ(fips.aead_reason(), "crypto.fips is true in its agent.yaml");
}

TEST(Capabilities, AreNoneWhenTheCpuLacksTheBackendThatIsAskedFor) {
  const v1::HostCapabilities report = Report({.backend = AeadBackend::kIpsecMb}, WithoutIpsecMb);
  EXPECT_EQ(report.aead_backend(), "");
  EXPECT_EQ(report.aead_reason(),
            "crypto.backend is ipsec-mb in its agent.yaml: ipsec-mb: this CPU lacks AES-NI or "
            "PCLMULQDQ");
}

TEST(Capabilities, AreNoneWhenCryptoIsOff) {
  const v1::HostCapabilities report = Report({.off = true}, AllPass);
  EXPECT_EQ(report.aead_backend(), "");
  EXPECT_EQ(report.aead_reason(), "crypto is off in its agent.yaml");
}

TEST(Capabilities, AWrongResultIsNoReasonToTakeTheOtherBackend) {
  for (const AeadBackend broken : {AeadBackend::kIpsecMb, AeadBackend::kOpenssl}) {
    const auto self_test = [broken](AeadBackend backend) {
      if (backend == broken) return absl::InternalError("wrong ciphertext");
      return absl::Status(absl::UnavailableError("not here"));
    };
    EXPECT_TRUE(absl::IsInternal(ReportCapabilities({}, {}, self_test).status()));
    EXPECT_TRUE(absl::IsInternal(ReportCapabilities({}, {.backend = broken}, self_test).status()));
  }
}

}  // namespace
}  // namespace sealift::agent
