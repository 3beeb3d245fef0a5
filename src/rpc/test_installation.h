// An installation for tests: a CA and credential files in a temporary folder that goes away with
// it.
#pragma once

#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/testing.h"
#include "pki/certificate.h"
#include "pki/identity.h"
#include "rpc/credentials.h"

namespace sealift::rpc {

// ShiftedClock is the machine's clock, so much ahead (or behind, if negative).
class ShiftedClock final : public base::Clock {
 public:
  explicit ShiftedClock(base::Duration by = base::Duration(0)) : by_(by) {}
  [[nodiscard]] base::WallTime Now() const override {
    return clock_.Now() + std::chrono::duration_cast<std::chrono::system_clock::duration>(by_);
  }
  [[nodiscard]] base::Duration SinceBoot() const override { return clock_.SinceBoot() + by_; }
  void Pause(base::Duration time) const override { clock_.Pause(time); }

 private:
  const base::SystemClock clock_;
  const base::Duration by_;
};

// TestInstallation: failures are bugs of the test and abort it.
class TestInstallation {
 public:
  TestInstallation() {
    authority_ = *pki::CertificateAuthority::Create(clock_);
    SEALIFT_CHECK(base::WriteFileDurably(ca(), authority_->certificate_pem()).ok());
  }
  TestInstallation(const TestInstallation&) = delete;
  TestInstallation& operator=(const TestInstallation&) = delete;

  [[nodiscard]] const std::string& folder() const { return folder_.path(); }
  [[nodiscard]] std::string ca() const { return folder_ / "ca.pem"; }
  [[nodiscard]] pki::CertificateAuthority& authority() { return *authority_; }
  [[nodiscard]] const std::string& trust_domain() const { return authority_->trust_domain(); }

  [[nodiscard]] pki::Identity Controller() const {
    return {trust_domain(), pki::Role::kController, ""};
  }
  [[nodiscard]] pki::Identity Host(const std::string& name) const {
    return {trust_domain(), pki::Role::kHost, name};
  }
  [[nodiscard]] pki::Identity Operator(const std::string& name) const {
    return {trust_domain(), pki::Role::kOperator, name};
  }

  // Enrol makes a key and a certificate and writes them to `file` in the folder, replacing what is
  // there. The certificate is valid for `lifetime` from the time of `clock` on.
  CredentialFiles Enrol(const std::string& file, const pki::Identity& identity,
                        std::chrono::hours lifetime = pki::kCertificateLifetime,
                        const base::Clock& clock = ShiftedClock()) {
    const auto issuer = *pki::CertificateAuthority::Load(authority_->certificate_pem(),
                                                         *authority_->key_pem(), clock);
    const std::string key = *pki::GeneratePrivateKey();
    const std::string chain = *issuer->Issue(*pki::MakeRequest(key, identity), identity, lifetime);
    const CredentialFiles files{folder_ / file, ca()};
    SEALIFT_CHECK(base::WriteFileDurably(files.identity, key + chain).ok());
    return files;
  }

 private:
  const ShiftedClock clock_;
  const base::TestFolder folder_;
  std::unique_ptr<pki::CertificateAuthority> authority_;
};

}  // namespace sealift::rpc
