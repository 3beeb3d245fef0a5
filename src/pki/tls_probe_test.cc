#include "pki/tls_probe.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <thread>

#include "base/unique_fd.h"
#include "pki/certificate.h"
#include "pki/openssl.h"

namespace sealift::pki {
namespace {

constexpr std::chrono::seconds kTimeout{10};

// TlsServer answers one connection with a plain OpenSSL server that asks for a client certificate,
// as ours do.
class TlsServer {
 public:
  explicit TlsServer(int newest_version) {
    auto listener = base::ListenTcp("127.0.0.1", 0, 0);
    EXPECT_TRUE(listener.ok());
    listener_ = std::move(listener->first);
    address_ = {"127.0.0.1", listener->second};
    thread_ = std::thread([this, newest_version] { ServeOne(newest_version); });
  }
  ~TlsServer() { thread_.join(); }
  const base::HostPort& address() const { return address_; }

 private:
  void ServeOne(int version) {
    const base::SystemClock clock;
    const auto authority = *CertificateAuthority::Create(clock);
    const Identity identity{authority->trust_domain(), Role::kHost, "a"};
    const std::string key_pem = *GeneratePrivateKey();
    const KeyPtr key = *ParsePrivateKey(key_pem);
    const CertificatePtr certificate = *ParseCertificate(
        *authority->Issue(*MakeRequest(key_pem, identity), identity, kCertificateLifetime));
    const Owned<SSL_CTX, SSL_CTX_free> context(SSL_CTX_new(TLS_server_method()));
    SSL_CTX_use_PrivateKey(context.get(), key.get());
    SSL_CTX_use_certificate(context.get(), certificate.get());
    SSL_CTX_set_min_proto_version(context.get(), version);
    SSL_CTX_set_max_proto_version(context.get(), version);
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    pollfd ready{listener_.get(), POLLIN, 0};
    if (poll(&ready, 1, 10'000) != 1) return;
    const base::UniqueFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const Owned<SSL, SSL_free> ssl(SSL_new(context.get()));
    SSL_set_fd(ssl.get(), connection.get());
    SSL_accept(ssl.get());
  }

  base::UniqueFd listener_;
  base::HostPort address_;
  std::thread thread_;
};

absl::StatusOr<bool> Probe(int server_version, TlsVersion offered) {
  const TlsServer server(server_version);
  return ProbeTls(server.address(), offered, kTimeout);
}

TEST(ProbeTls, SeesAVersionAlthoughTheHandshakeFailsForWantOfACertificate) {
  EXPECT_EQ(*Probe(TLS1_2_VERSION, TlsVersion::k12), true);
  EXPECT_EQ(*Probe(TLS1_3_VERSION, TlsVersion::k13), true);
}

TEST(ProbeTls, SeesThatAVersionIsRefused) {
  EXPECT_EQ(*Probe(TLS1_3_VERSION, TlsVersion::k12), false);
  EXPECT_EQ(*Probe(TLS1_2_VERSION, TlsVersion::k13), false);
}

TEST(ProbeTls, SurvivesAServerThatHangsUp) {
  auto listener = *base::ListenTcp("127.0.0.1", 0, 0);
  std::thread server([&] {
    for (int i = 0; i < 50; ++i) {
      pollfd ready{listener.first.get(), POLLIN, 0};
      if (poll(&ready, 1, 10'000) != 1) return;
      const base::UniqueFd connection(
          accept4(listener.first.get(), nullptr, nullptr, SOCK_CLOEXEC));
      const linger reset{1, 0};
      setsockopt(connection.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
  });
  for (int i = 0; i < 50; ++i) {
    const absl::StatusOr<bool> agreed =
        ProbeTls({"127.0.0.1", listener.second}, TlsVersion::k13, kTimeout);
    EXPECT_FALSE(agreed.ok() && *agreed);
  }
  server.join();
}

TEST(ProbeTls, ASilentOrMissingServerIsAnError) {
  auto listener = *base::ListenTcp("127.0.0.1", 0, 0);
  const base::HostPort address{"127.0.0.1", listener.second};
  EXPECT_EQ(ProbeTls(address, TlsVersion::k12, std::chrono::milliseconds(100)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  listener.first.reset();
  EXPECT_EQ(ProbeTls(address, TlsVersion::k12, kTimeout).status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace sealift::pki
