#include "pki/certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ec.h>

#include <set>
#include <thread>

#include "base/status.h"
#include "pki/openssl.h"

namespace sealift::pki {
namespace {

using absl::StatusCode;
using std::chrono::hours;
using std::chrono::minutes;
using testing::HasSubstr;

class AuthorityTest : public testing::Test {
 protected:
  void SetUp() override {
    authority_ = *CertificateAuthority::Create(clock_);
    key_ = *GeneratePrivateKey();
  }

  Identity Host(const std::string& name) const {
    return {authority_->trust_domain(), Role::kHost, name};
  }
  std::string IssueTo(const Identity& identity, hours lifetime = kCertificateLifetime) {
    const absl::StatusOr<std::string> chain =
        authority_->Issue(*MakeRequest(key_, identity), identity, lifetime);
    EXPECT_TRUE(chain.ok()) << chain.status();
    return chain.ok() ? *chain : "";
  }

  // Verifies as TLS does it: chain, dates at the clock's time, and the purpose of the peer.
  int VerifyError(const std::string& chain_pem, int purpose) {
    const CertificatePtr leaf = *ParseCertificate(chain_pem);
    const CertificatePtr root = *ParseCertificate(authority_->certificate_pem());
    const Owned<X509_STORE, X509_STORE_free> store(X509_STORE_new());
    X509_STORE_add_cert(store.get(), root.get());
    const Owned<X509_STORE_CTX, X509_STORE_CTX_free> context(X509_STORE_CTX_new());
    X509_STORE_CTX_init(context.get(), store.get(), leaf.get(), nullptr);
    X509_STORE_CTX_set_purpose(context.get(), purpose);
    X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(context.get());
    X509_VERIFY_PARAM_set_time(parameters, std::chrono::system_clock::to_time_t(clock_.Now()));
    X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_X509_STRICT);
    X509_verify_cert(context.get());
    return X509_STORE_CTX_get_error(context.get());
  }

  base::FakeClock clock_;
  std::unique_ptr<CertificateAuthority> authority_;
  std::string key_;
};

TEST_F(AuthorityTest, IssuesWhatReadCertificateReads) {
  const std::string chain = IssueTo(Host("a"));
  const CertificateInfo info = *ReadCertificate(chain);
  EXPECT_EQ(info.identity, Host("a"));
  EXPECT_EQ(info.not_before, clock_.Now() - minutes(10));
  EXPECT_EQ(info.not_after, clock_.Now() + kCertificateLifetime);
  EXPECT_EQ(info.serial.size(), 32U) << "128 bits";
  EXPECT_TRUE(*MatchesKey(chain, key_));
  EXPECT_FALSE(*MatchesKey(chain, *GeneratePrivateKey()));
  EXPECT_TRUE(*IsIssuedBy(chain, authority_->certificate_pem()));
  EXPECT_THAT(chain, testing::EndsWith(authority_->certificate_pem()));
}

TEST_F(AuthorityTest, ReadsAnIdentityFileWithTheKeyFirst) {
  EXPECT_EQ(ReadCertificate(key_ + IssueTo(Host("a")))->identity, Host("a"));
}

TEST_F(AuthorityTest, KeyUsagesFollowTheRole) {
  const std::string& domain = authority_->trust_domain();
  const std::string controller = IssueTo({domain, Role::kController, ""});
  const std::string host = IssueTo(Host("a"));
  const std::string person = IssueTo({domain, Role::kOperator, "admin"});
  EXPECT_EQ(VerifyError(controller, X509_PURPOSE_SSL_SERVER), X509_V_OK);
  EXPECT_EQ(VerifyError(controller, X509_PURPOSE_SSL_CLIENT), X509_V_OK);
  EXPECT_EQ(VerifyError(host, X509_PURPOSE_SSL_SERVER), X509_V_OK);
  EXPECT_EQ(VerifyError(host, X509_PURPOSE_SSL_CLIENT), X509_V_ERR_INVALID_PURPOSE);
  EXPECT_EQ(VerifyError(person, X509_PURPOSE_SSL_CLIENT), X509_V_OK);
  EXPECT_EQ(VerifyError(person, X509_PURPOSE_SSL_SERVER), X509_V_ERR_INVALID_PURPOSE);
}

TEST_F(AuthorityTest, ALeafIsNoAuthority) {
  const std::string host = IssueTo(Host("a"));
  const CertificatePtr leaf = *ParseCertificate(host);
  EXPECT_EQ(X509_check_ca(leaf.get()), 0);
  EXPECT_EQ(CertificateAuthority::Load(host, key_, clock_).status().code(),
            StatusCode::kInvalidArgument);
  const CertificatePtr ca = *ParseCertificate(authority_->certificate_pem());
  EXPECT_EQ(X509_get_pathlen(ca.get()), 0);
  EXPECT_FALSE(ReadCertificate(authority_->certificate_pem()).ok()) << "a CA is nobody's identity";
}

TEST_F(AuthorityTest, SerialsAndTrustDomainsDiffer) {
  std::set<std::string> serials;
  for (int i = 0; i < 20; ++i) serials.insert(ReadCertificate(IssueTo(Host("a")))->serial);
  EXPECT_EQ(serials.size(), 20U);
  EXPECT_NE((*CertificateAuthority::Create(clock_))->trust_domain(), authority_->trust_domain());
}

TEST_F(AuthorityTest, IgnoresWhatTheRequestAsksFor) {
  const Identity wanted{authority_->trust_domain(), Role::kOperator, "admin"};
  const std::string chain =
      *authority_->Issue(*MakeRequest(key_, wanted), Host("a"), kCertificateLifetime);
  EXPECT_EQ(ReadCertificate(chain)->identity, Host("a"));
  EXPECT_EQ(VerifyError(chain, X509_PURPOSE_SSL_CLIENT), X509_V_ERR_INVALID_PURPOSE);
}

TEST_F(AuthorityTest, RefusesARequestWithoutProofOfItsKey) {
  // The request of one key with the public half of another in it.
  const RequestPtr request = *ParseRequest(*MakeRequest(key_, Host("a")));
  const KeyPtr stolen = *ParsePrivateKey(*GeneratePrivateKey());
  ASSERT_EQ(X509_REQ_set_pubkey(request.get(), stolen.get()), 1);
  const BioPtr bio(BIO_new(BIO_s_mem()));
  ASSERT_EQ(PEM_write_bio_X509_REQ(bio.get(), request.get()), 1);
  const absl::Status status =
      authority_->Issue(TextOf(bio.get()), Host("a"), kCertificateLifetime).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("signature"));
}

TEST_F(AuthorityTest, RefusesOtherKinds) {
  const KeyPtr p256(EVP_EC_gen("P-256"));
  const RequestPtr request(X509_REQ_new());
  X509_REQ_set_pubkey(request.get(), p256.get());
  X509_REQ_sign(request.get(), p256.get(), EVP_sha256());
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509_REQ(bio.get(), request.get());
  const absl::Status status =
      authority_->Issue(TextOf(bio.get()), Host("a"), kCertificateLifetime).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("P-384"));
}

TEST_F(AuthorityTest, RefusesTextThatIsNoRequest) {
  for (const std::string& text :
       {std::string(), std::string("x"), key_, IssueTo(Host("a")),
        std::string(
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")}) {
    EXPECT_EQ(authority_->Issue(text, Host("a"), kCertificateLifetime).status().code(),
              StatusCode::kInvalidArgument);
  }
}

TEST_F(AuthorityTest, SignsOnlyIdentitiesOfItsOwn) {
  const std::string request = *MakeRequest(key_, Host("a"));
  for (const Identity& identity :
       {Identity{"other", Role::kHost, "a"}, Host(""), Host("A"), Host("a/b"),
        Host("a,URI:spiffe://x/controller"),
        Identity{authority_->trust_domain(), Role::kController, "named"}}) {
    EXPECT_EQ(authority_->Issue(request, identity, kCertificateLifetime).status().code(),
              StatusCode::kInvalidArgument)
        << identity.ToUri();
  }
}

TEST_F(AuthorityTest, LoadsWhatWasCreated) {
  const auto loaded =
      *CertificateAuthority::Load(authority_->certificate_pem(), *authority_->key_pem(), clock_);
  EXPECT_EQ(loaded->trust_domain(), authority_->trust_domain());
  EXPECT_EQ(loaded->certificate_pem(), authority_->certificate_pem());
  const std::string chain =
      *loaded->Issue(*MakeRequest(key_, Host("a")), Host("a"), kCertificateLifetime);
  EXPECT_EQ(VerifyError(chain, X509_PURPOSE_SSL_SERVER), X509_V_OK);
}

TEST_F(AuthorityTest, LoadRefusesWhatDoesNotFit) {
  const auto other = *CertificateAuthority::Create(clock_);
  EXPECT_FALSE(
      CertificateAuthority::Load(authority_->certificate_pem(), *other->key_pem(), clock_).ok());
  EXPECT_FALSE(CertificateAuthority::Load("", *authority_->key_pem(), clock_).ok());
  EXPECT_FALSE(CertificateAuthority::Load(authority_->certificate_pem(), "", clock_).ok());
  clock_.Advance(kCaLifetime + hours(1));
  EXPECT_EQ(
      CertificateAuthority::Load(authority_->certificate_pem(), *authority_->key_pem(), clock_)
          .status()
          .code(),
      StatusCode::kFailedPrecondition);
}

TEST_F(AuthorityTest, AnotherAuthorityIsNotTrusted) {
  const auto other = *CertificateAuthority::Create(clock_);
  const Identity identity{other->trust_domain(), Role::kHost, "a"};
  const std::string foreign =
      *other->Issue(*MakeRequest(key_, identity), identity, kCertificateLifetime);
  EXPECT_NE(VerifyError(foreign, X509_PURPOSE_SSL_SERVER), X509_V_OK);
  EXPECT_FALSE(*IsIssuedBy(foreign, authority_->certificate_pem()));
}

TEST_F(AuthorityTest, RenewalIsDueInTheLastThird) {
  const CertificateInfo info = *ReadCertificate(IssueTo(Host("a"), hours(300)));
  EXPECT_FALSE(RenewalDue(info, clock_.Now()));
  EXPECT_FALSE(RenewalDue(info, clock_.Now() + hours(199)));
  EXPECT_TRUE(RenewalDue(info, clock_.Now() + hours(201)));
  EXPECT_TRUE(RenewalDue(info, clock_.Now() + hours(301)));
}

TEST_F(AuthorityTest, ValidityHasTwoEnds) {
  const std::string chain = IssueTo(Host("a"), hours(1));
  const CertificateInfo info = *ReadCertificate(chain);
  EXPECT_TRUE(CheckValidity(info, clock_.Now()).ok());
  EXPECT_TRUE(CheckValidity(info, clock_.Now() - minutes(9)).ok()) << "a clock that is behind";
  EXPECT_EQ(CheckValidity(info, clock_.Now() - minutes(11)).code(), StatusCode::kUnauthenticated);
  const absl::Status expired = CheckValidity(info, clock_.Now() + minutes(61));
  EXPECT_EQ(expired.code(), StatusCode::kUnauthenticated);
  EXPECT_THAT(base::MessageOf(expired), HasSubstr("/host/a expired at 2027-"));
  clock_.Advance(minutes(61));
  EXPECT_EQ(VerifyError(chain, X509_PURPOSE_SSL_SERVER), X509_V_ERR_CERT_HAS_EXPIRED);
}

TEST_F(AuthorityTest, NoCertificateOutlivesTheAuthority) {
  clock_.Advance(kCaLifetime - hours(5));
  const CertificateInfo info = *ReadCertificate(IssueTo(Host("a")));
  EXPECT_EQ(info.not_after, clock_.Now() + hours(5));
}

TEST_F(AuthorityTest, ReadsOnlyCertificatesThatNameOneIdentity) {
  const KeyPtr key = *ParsePrivateKey(key_);
  const auto certificate_naming = [&](const char* names) {
    const CertificatePtr certificate(X509_new());
    X509_set_version(certificate.get(), X509_VERSION_3);
    X509_set_pubkey(certificate.get(), key.get());
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
    if (names != nullptr) {
      const ExtensionPtr san(X509V3_EXT_nconf_nid(nullptr, nullptr, NID_subject_alt_name, names));
      X509_add_ext(certificate.get(), san.get(), -1);
    }
    X509_sign(certificate.get(), key.get(), EVP_sha384());
    return *CertificateToPem(certificate.get());
  };
  EXPECT_TRUE(ReadCertificate(certificate_naming("URI:spiffe://d/host/a")).ok());
  for (const char* names : {static_cast<const char*>(nullptr), "DNS:host.example",
                            "URI:spiffe://d/host/A", "URI:spiffe://d/host/a,URI:spiffe://d/host/b",
                            "URI:spiffe://d/host/a,DNS:x", "email:a@b.example", "IP:127.0.0.1"}) {
    EXPECT_EQ(ReadCertificate(certificate_naming(names)).status().code(),
              StatusCode::kInvalidArgument);
  }
  EXPECT_FALSE(ReadCertificate("").ok());
  EXPECT_FALSE(ReadCertificate(key_).ok());
}

TEST_F(AuthorityTest, IssuesFromManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 5; ++i) EXPECT_TRUE(*MatchesKey(IssueTo(Host("a")), key_));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(PrivateKey, IsWipedAndNeverAsksForAPassword) {
  std::string key = *GeneratePrivateKey();
  EXPECT_THAT(key, testing::StartsWith("-----BEGIN PRIVATE KEY-----"));
  const char* const buffer = key.data();
  WipeKey(key);
  EXPECT_TRUE(key.empty());
  EXPECT_EQ(buffer[1], '\0');
  const KeyPtr plain = *NewKey();
  const BioPtr bio(BIO_new(BIO_s_mem()));
  ASSERT_EQ(PEM_write_bio_PKCS8PrivateKey(bio.get(), plain.get(), EVP_aes_256_cbc(), "secret", 6,
                                          nullptr, nullptr),
            1);
  EXPECT_FALSE(ParsePrivateKey(TextOf(bio.get())).ok());
}

}  // namespace
}  // namespace sealift::pki
