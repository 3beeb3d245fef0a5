// What OpenSSL leaves behind of secrets that it has worked with: nothing that can be found in this
// process. The library is set up as in the daemons; hence a program of its own.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/sanitizers.h"
#include "base/unique_fd.h"
#include "keys/c_interop.h"
#include "keys/hkdf.h"
#include "keys/hpke.h"
#include "keys/hpke_suite.h"
#include "keys/key_schedule.h"
#include "keys/openssl_setup.h"
#include "keys/p521.h"
#include "keys/testing.h"

namespace sealift::keys {
namespace {

// Values that are searched for exist here only under a mask, so that the search does not find
// itself.
constexpr auto kMask = std::byte{0xa5};

class Masked {
 public:
  // Reads hexadecimal digits, without the value itself ever being in memory.
  static Masked FromHex(std::string_view digits) {
    Masked masked;
    const auto value = [&](std::size_t at) {
      const char c = digits[at];
      return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10);
    };
    for (std::size_t i = 0; i < digits.size(); i += 2) {
      masked.bytes_.push_back(static_cast<std::byte>(value(i) << 4 | value(i + 1)) ^ kMask);
    }
    return masked;
  }
  static Masked Of(const SecretBytes& secret) {
    Masked masked;
    for (const std::byte byte : secret.bytes()) masked.bytes_.push_back(byte ^ kMask);
    return masked;
  }
  [[nodiscard]] Masked Reversed() const {
    Masked reversed;
    reversed.bytes_.assign(bytes_.rbegin(), bytes_.rend());
    return reversed;
  }
  [[nodiscard]] SecretBytes Unmask() const {
    SecretBytes secret = SecretBytes::Allocate(bytes_.size()).value();
    for (std::size_t i = 0; i < bytes_.size(); ++i) secret.bytes()[i] = bytes_[i] ^ kMask;
    return secret;
  }

  // What SHA-512 makes of an HMAC key: XORed with a constant (RFC 2104), in words of 8 bytes.
  [[nodiscard]] Masked Padded(std::byte pad) const {
    Masked padded;
    for (std::size_t word = 0; word + 8 <= bytes_.size(); word += 8) {
      for (std::size_t i = 8; i-- > 0;) padded.bytes_.push_back(bytes_[word + i] ^ pad);
    }
    return padded;
  }

  // How often 16 bytes from the middle of the value occur in `data`.
  [[nodiscard]] int CountIn(base::ByteSpan data) const {
    constexpr std::size_t kSize = 16;
    const base::ByteSpan part =
        base::ByteSpan(bytes_).subspan(bytes_.size() / 2 - kSize / 2, kSize);
    int count = 0;
    for (std::size_t at = 0; at + kSize <= data.size(); ++at) {
      const void* found = std::memchr(&data[at], std::to_integer<int>(part[0] ^ kMask),
                                      data.size() - kSize - at + 1);
      if (found == nullptr) break;
      at = static_cast<std::size_t>(static_cast<const std::byte*>(found) - data.data());
      std::size_t same = 0;
      while (same < kSize && (data[at + same] ^ kMask) == part[same]) ++same;
      if (same == kSize) ++count;
    }
    return count;
  }

 private:
  base::Bytes bytes_;
};

// Everything of this process that can be read from outside, piece by piece.
template <typename Look>
void ForEachReadablePiece(const Look& look) {
  static base::Bytes piece(std::size_t{1} << 20);
  const base::UniqueFd memory(open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::size_t at = 0;
    std::uint64_t begin = std::stoull(line, &at, 16);
    const std::uint64_t end = std::stoull(line.substr(at + 1), nullptr, 16);
    if (line.find(" r") == std::string::npos || line.find("[vsyscall]") != std::string::npos)
      continue;
    while (begin < end) {
      const ssize_t got =
          pread(memory.get(), piece.data(), std::min<std::uint64_t>(piece.size(), end - begin),
                static_cast<off_t>(begin));
      if (got <= 0) break;  // secret memory
      look(base::ByteSpan(piece).first(static_cast<std::size_t>(got)));
      begin += static_cast<std::uint64_t>(got);
    }
  }
}

int Copies(const Masked& value) {
  int count = 0;
  const Masked reversed = value.Reversed();
  ForEachReadablePiece(
      [&](base::ByteSpan piece) { count += value.CountIn(piece) + reversed.CountIn(piece); });
  return count;
}

void ExpectNoCopy(const char* what, const Masked& value) { EXPECT_EQ(Copies(value), 0) << what; }

void ExpectNoCopyAsHmacKey(const char* what, const SecretBytes& key) {
  for (const auto pad : {std::byte{0}, std::byte{0x36}, std::byte{0x5c}}) {
    ExpectNoCopy(what, Masked::Of(key).Padded(pad));
    ExpectNoCopy(what, Masked::Of(key).Padded(pad).Padded(std::byte{0}));
  }
}

class ResidueTest : public ::testing::Test {
 protected:
  void SetUp() override {
#if defined(SEALIFT_ADDRESS_SANITIZER) || defined(SEALIFT_THREAD_SANITIZER)
    GTEST_SKIP() << "a sanitizer maps terabytes";
#endif
    if (ProbeSecretBacking() != SecretBacking::kMemfdSecret) {
      GTEST_SKIP() << "this kernel has no secret memory: the process reads its own";
    }
  }

  // RFC 9180 A.6.1: skRm, pkEm and what they have in common.
  const Masked scalar_ = Masked::FromHex(
      "01462680369ae375e4b3791070a7458ed527842f6a98a79ff5e0d4cbde83c271"
      "96a3916956655523a6a2556a7af62c5cadabe2ef9da3760bb21e005202f7b2462847");
  const base::Bytes peer_ = testing::Hex(
      "040138b385ca16bb0d5fa0c0665fbbd7e69e3ee29f63991d3e9b5fa740aab8900aaeed46ed73a49055758425a0ce"
      "36507c54b29cc5b85a5cee6bae0cf1c21f2731ece2013dc3fb7c8d21654bb161b463962ca19e8c654ff24c94dd28"
      "98de12051f1ed0692237fb02b2f8d1dc1c73e9b366b529eb436e98a996ee522aef863dd5739d2f29b0");
};

TEST_F(ResidueTest, TheSearchFindsWhatIsThere) {
  const SecretBytes secret = scalar_.Unmask();
  ExpectNoCopy("in secret memory", scalar_);
  base::Bytes copy(secret.bytes().begin(), secret.bytes().end());
  EXPECT_GE(Copies(scalar_), 1);  // the search makes copies of its own
  Cleanse(copy);
  ExpectNoCopy("cleansed", scalar_);
}

TEST_F(ResidueTest, NothingOfWhatOpensslFreesOrMoves) {
  constexpr std::size_t kSize = 66;
  void* block = OPENSSL_malloc(kSize);
  std::memcpy(block, scalar_.Unmask().bytes().data(), kSize);
  block = OPENSSL_realloc(block, 100'000);
  EXPECT_GE(Copies(scalar_), 1);
  Cleanse({static_cast<std::byte*>(block), kSize});
  ExpectNoCopy("where the block was", scalar_);
  std::memcpy(block, scalar_.Unmask().bytes().data(), kSize);
  OPENSSL_free(block);
  ExpectNoCopy("what was freed", scalar_);
}

TEST_F(ResidueTest, NothingOfAPrivateKeyWhenItsPublicKeyWasMade) {
  ASSERT_TRUE(P521PublicKey(scalar_.Unmask()).ok());
  ExpectNoCopy("the private key", scalar_);
  EXPECT_TRUE(IsP521Scalar(scalar_.Unmask()));
  ExpectNoCopy("the private key", scalar_);
}

TEST_F(ResidueTest, NothingOfAKeyExchange) {
  const auto shared = P521SharedSecret(scalar_.Unmask(), peer_);
  ASSERT_TRUE(shared.ok());
  ExpectNoCopy("the private key", scalar_);
  ExpectNoCopy("the shared secret", Masked::Of(*shared));
}

TEST_F(ResidueTest, NothingOfAnOpenedMessage) {
  const auto receiver = HpkeReceiver::Generate().value();
  Masked secret;
  const auto sealed = [&] {
    MigrationKey key;
    SystemRandom random;
    key = MigrationKey::Generate(random).value();
    secret = Masked::Of(key.bytes);
    return HpkeSeal(receiver->PublicKey(), base::AsBytes("info"), key.bytes).value();
  }();
  ExpectNoCopy("the migration key after sealing", secret);
  const auto opened = receiver->Open(sealed, base::AsBytes("info"));
  ASSERT_TRUE(opened.ok());
  ExpectNoCopy("the migration key after opening", secret);
}

TEST_F(ResidueTest, NothingOfTheKeyThatProtectsAMessage) {
  const Masked key =
      Masked::FromHex("751e346ce8f0ddb2305c8a2a85c70d5cf559c53093656be636b9406d4d7d1b70");
  const Masked nonce = Masked::FromHex("55ff7a7d739c69f44b25447b0000000000000000");
  const auto sealed = HpkeSealMessage({key.Unmask(), nonce.Unmask()}, {}, base::AsBytes("text"));
  ExpectNoCopy("the AES key", key);
  static_cast<void>(sealed);
}

TEST_F(ResidueTest, NothingOfTheKeySchedule) {
  SystemRandom random;
  MigrationKey key = MigrationKey::Generate(random).value();
  const Masked migration_key = Masked::Of(key.bytes);
  const auto schedule = KeySchedule::Create(std::move(key), SpecHash{}).value();
  ExpectNoCopy("the migration key", migration_key);
  for (const Purpose purpose : {Purpose::kRecords, Purpose::kHello}) {
    const auto sub_key = schedule.Derive({purpose, Direction::kToDestination, 1, 0},
                                         purpose == Purpose::kHello ? 64 : 32);
    ASSERT_TRUE(sub_key.ok());
    static_cast<void>(Mac(*sub_key, base::AsBytes("message")));
    ExpectNoCopy("a sub-key", Masked::Of(*sub_key));
    if (purpose == Purpose::kHello) ExpectNoCopyAsHmacKey("a hello's key", *sub_key);
  }
  const auto pseudo_random_key = HkdfExtract(base::AsBytes("salt"), {base::AsBytes("input")});
  ASSERT_TRUE(pseudo_random_key.ok());
  ExpectNoCopy("the pseudo-random key", Masked::Of(*pseudo_random_key));
  ASSERT_TRUE(HkdfExpand(*pseudo_random_key, base::AsBytes("info"), 32).ok());
  ExpectNoCopyAsHmacKey("the pseudo-random key", *pseudo_random_key);
}

// ---- Where OpenSSL keeps what it works with (docs/key_management.md)

using Key = std::unique_ptr<EVP_PKEY, FreeWith<::EVP_PKEY_free>>;

TEST(SecureHeap, HoldsPrivateKeysAsLongAsTheyLive) {
  const Key warm_up(EVP_EC_gen("P-384"));  // random generators settle there too
  const std::size_t before = CRYPTO_secure_used();
  Key key(EVP_EC_gen("P-384"));
  ASSERT_NE(key, nullptr);
  EXPECT_GE(CRYPTO_secure_used(), before + 48);
  key.reset();
  EXPECT_EQ(CRYPTO_secure_used(), before);
}

// The documented exception: if this fails, OpenSSL has become better than the page says.
TEST(SecureHeap, DoesNotHoldRoundKeys) {
  const std::unique_ptr<EVP_CIPHER_CTX, FreeWith<::EVP_CIPHER_CTX_free>> context(
      EVP_CIPHER_CTX_new());
  const std::size_t before = CRYPTO_secure_used();
  const unsigned char key[32] = {};
  ASSERT_EQ(EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key, nullptr), 1);
  EXPECT_EQ(CRYPTO_secure_used(), before);
}

}  // namespace
}  // namespace sealift::keys

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const absl::Status status = sealift::keys::SetUpOpenssl(sealift::keys::Provider::kDefault);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return 1;
  }
  return RUN_ALL_TESTS();
}
