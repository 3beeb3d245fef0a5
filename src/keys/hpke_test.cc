#include "keys/hpke.h"

#include <gtest/gtest.h>
#include <openssl/err.h>

#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "keys/hpke_suite.h"
#include "keys/p521.h"
#include "keys/testing.h"

namespace sealift::keys {
namespace {

using testing::Hex;
using testing::Secret;

const base::ByteSpan kInfo = base::AsBytes("migration 42");
const base::ByteSpan kSecret = base::AsBytes("forty bytes of a key and of its nonce...");

// ---- RFC 9180 appendix A.6.1 ----

class HpkeVector : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file(SEALIFT_SOURCE_DIR "/tests/vectors/hpke_rfc9180_a6_1.json");
    vector_ = nlohmann::json::parse(file);
  }
  std::string Text(const char* name) const { return vector_.at(name).get<std::string>(); }
  base::Bytes Value(const char* name) const { return Hex(Text(name)); }
  base::Bytes Message(const char* name) const {
    return Hex(vector_.at("encryptions").at(0).at(name).get<std::string>());
  }
  HpkeKeyPair Pair(const char* private_key, const char* public_key) const {
    return {Secret(Value(private_key)), Value(public_key)};
  }

  nlohmann::json vector_;
};

TEST_F(HpkeVector, DerivesBothKeyPairs) {
  const HpkeKeyPair ephemeral = DeriveHpkeKeyPair(Secret(Value("ikmE"))).value();
  EXPECT_EQ(base::ToHex(ephemeral.private_key.bytes()), Text("skEm"));
  EXPECT_EQ(base::ToHex(ephemeral.public_key), Text("pkEm"));
  const HpkeKeyPair receiver = DeriveHpkeKeyPair(Secret(Value("ikmR"))).value();
  EXPECT_EQ(base::ToHex(receiver.private_key.bytes()), Text("skRm"));
  EXPECT_EQ(base::ToHex(receiver.public_key), Text("pkRm"));
}

TEST_F(HpkeVector, EncapsulatesTheSharedSecret) {
  const auto secret = HpkeEncapsulate(Pair("skEm", "pkEm"), Value("pkRm"));
  EXPECT_EQ(base::ToHex(secret.value().bytes()), Text("shared_secret"));
}

TEST_F(HpkeVector, DecapsulatesTheSharedSecret) {
  const auto secret = HpkeDecapsulate(Pair("skRm", "pkRm"), Value("enc"));
  EXPECT_EQ(base::ToHex(secret.value().bytes()), Text("shared_secret"));
}

TEST_F(HpkeVector, SchedulesKeyAndNonce) {
  const auto context = HpkeKeySchedule(Secret(Value("shared_secret")), Value("info"));
  EXPECT_EQ(base::ToHex(context.value().key.bytes()), Text("key"));
  EXPECT_EQ(base::ToHex(context.value().base_nonce.bytes()), Text("base_nonce"));
}

TEST_F(HpkeVector, SealsAndOpensTheFirstMessage) {
  const HpkeContext context{Secret(Value("key")), Secret(Value("base_nonce"))};
  const auto sealed = HpkeSealMessage(context, Message("aad"), Message("pt"));
  EXPECT_EQ(sealed.value(), Message("ct"));
  const auto opened = HpkeOpenMessage(context, Message("aad"), Message("ct"));
  EXPECT_EQ(base::ToHex(opened.value().bytes()), base::ToHex(Message("pt")));
}

// ---- Tampering with the message ----

class HpkeMessage : public HpkeVector {
 protected:
  bool Opens(const base::Bytes& aad, const base::Bytes& ciphertext) const {
    const HpkeContext context{Secret(Value("key")), Secret(Value("base_nonce"))};
    const auto opened = HpkeOpenMessage(context, aad, ciphertext);
    EXPECT_TRUE(opened.ok() || absl::IsPermissionDenied(opened.status()));
    return opened.ok();
  }
};

TEST_F(HpkeMessage, RejectsEveryFlippedBit) {
  const base::Bytes ciphertext = Message("ct");
  for (std::size_t bit = 0; bit < ciphertext.size() * 8; ++bit) {
    base::Bytes damaged = ciphertext;
    damaged[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_FALSE(Opens(Message("aad"), damaged)) << bit;
  }
}

TEST_F(HpkeMessage, RejectsEveryOtherLength) {
  base::Bytes ciphertext = Message("ct");
  ciphertext.push_back(std::byte{0});
  EXPECT_FALSE(Opens(Message("aad"), ciphertext));
  for (std::size_t size = 0; size < Message("ct").size(); ++size) {
    ciphertext.resize(size);
    EXPECT_FALSE(Opens(Message("aad"), ciphertext)) << size;
  }
}

TEST_F(HpkeMessage, RejectsOtherAssociatedData) {
  EXPECT_FALSE(Opens({}, Message("ct")));
  EXPECT_FALSE(Opens(Hex("436f756e742d31"), Message("ct")));
}

// ---- Sealing a migration key to a mover ----

class HpkeReceiverTest : public ::testing::Test {
 protected:
  base::Bytes Seal() const {
    return HpkeSeal(receiver_->PublicKey(), kInfo, Secret(kSecret)).value();
  }
  void ExpectDenied(base::ByteSpan sealed, base::ByteSpan info = kInfo) {
    const auto opened = receiver_->Open(sealed, info);
    EXPECT_TRUE(absl::IsPermissionDenied(opened.status())) << opened.status();
  }

  std::unique_ptr<HpkeReceiver> receiver_ = HpkeReceiver::Generate().value();
};

TEST_F(HpkeReceiverTest, OpensWhatWasSealedToIt) {
  const base::Bytes sealed = Seal();
  EXPECT_EQ(sealed.size(), kHpkePublicKeySize + kSecret.size() + kHpkeTagSize);
  const auto opened = receiver_->Open(sealed, kInfo);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(base::ToHex(opened->bytes()), base::ToHex(kSecret));
}

TEST_F(HpkeReceiverTest, OpensOnce) {
  const base::Bytes sealed = Seal();
  ASSERT_TRUE(receiver_->Open(sealed, kInfo).ok());
  ExpectDenied(sealed);
}

TEST_F(HpkeReceiverTest, HasNoSecondTryAfterAForgery) {
  const base::Bytes sealed = Seal();
  ExpectDenied(sealed, base::AsBytes("migration 43"));
  ExpectDenied(sealed);
}

TEST_F(HpkeReceiverTest, RejectsTheKeyOfAnotherMover) {
  const auto other = HpkeReceiver::Generate().value();
  ExpectDenied(HpkeSeal(other->PublicKey(), kInfo, Secret(kSecret)).value());
}

TEST_F(HpkeReceiverTest, RejectsAnEncapsulationOffTheCurve) {
  base::Bytes sealed = Seal();
  sealed[kHpkePublicKeySize - 1] ^= std::byte{1};
  ExpectDenied(sealed);
}

TEST_F(HpkeReceiverTest, RejectsAnotherPointOfTheCurve) {
  base::Bytes sealed = Seal();
  std::ranges::copy(receiver_->PublicKey(), sealed.begin());
  ExpectDenied(sealed);
}

TEST_F(HpkeReceiverTest, RejectsADamagedCiphertext) {
  base::Bytes sealed = Seal();
  sealed[kHpkePublicKeySize] ^= std::byte{1};
  ExpectDenied(sealed);
}

TEST_F(HpkeReceiverTest, RejectsWhatIsTooShortForAKey) {
  ExpectDenied(base::ByteSpan(Seal()).first(kHpkePublicKeySize - 1));
}

TEST_F(HpkeReceiverTest, RejectsWhatIsTooShortForATag) {
  ExpectDenied(base::ByteSpan(Seal()).first(kHpkePublicKeySize + kHpkeTagSize - 1));
}

TEST_F(HpkeReceiverTest, IsFreshEachTime) {
  EXPECT_NE(receiver_->PublicKey(), HpkeReceiver::Generate().value()->PublicKey());
  EXPECT_NE(Seal(), Seal());
}

TEST_F(HpkeReceiverTest, SealingRefusesWhatIsNoPointOfTheCurve) {
  const base::Bytes good = receiver_->PublicKey();
  base::Bytes off_curve = good;
  off_curve.back() ^= std::byte{1};
  base::Bytes compressed(good.begin(), good.begin() + 67);
  compressed[0] = std::byte{0x02};
  base::Bytes hybrid = good;
  hybrid[0] = std::byte{0x06};
  base::Bytes too_long = good;
  too_long.push_back(std::byte{0});
  base::Bytes over_the_prime(kHpkePublicKeySize, std::byte{0xff});
  over_the_prime[0] = std::byte{0x04};
  base::Bytes origin(kHpkePublicKeySize);
  origin[0] = std::byte{0x04};
  const base::Bytes infinity(1);
  for (const base::Bytes& key : {off_curve, compressed, hybrid, too_long, over_the_prime, origin,
                                 infinity, base::Bytes(kHpkePublicKeySize), base::Bytes()}) {
    const auto sealed = HpkeSeal(key, kInfo, Secret(kSecret));
    EXPECT_TRUE(absl::IsInvalidArgument(sealed.status())) << base::ToHex(key);
  }
  EXPECT_EQ(::ERR_peek_error(), 0U) << "an error is left behind for the next TLS call";
}

TEST(P521Scalar, IsBetweenZeroAndTheOrder) {
  // SP 800-186 §3.2.1.5
  const base::Bytes order =
      Hex("01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
          "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409");
  base::Bytes below = order;
  below.back() = std::byte{0x08};
  EXPECT_TRUE(IsP521Scalar(Secret(below)));
  EXPECT_FALSE(IsP521Scalar(Secret(order)));
  EXPECT_FALSE(IsP521Scalar(Secret(base::Bytes(kP521ScalarSize))));
}

}  // namespace
}  // namespace sealift::keys
