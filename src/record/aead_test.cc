#include "record/aead.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "keys/key_schedule.h"
#include "keys/testing.h"
#include "record/record_format.h"

namespace sealift::record {
namespace {

using keys::testing::Hex;
using keys::testing::Secret;

std::unique_ptr<Aead> Make(AeadBackend backend, base::ByteSpan key) {
  return MakeAead(backend, Secret(key)).value();
}

// ---- NIST CAVP, GCM test vectors (gcmtestvectors, CAVS 14.0) ----

// One test case of a .rsp file: its values, and those of the section it stands in.
struct CavpCase {
  std::map<std::string, std::string> values;
  bool must_fail = false;

  base::Bytes Value(const std::string& name) const { return Hex(values.at(name)); }
};

// "Name = value" without the brackets of a section line.
std::pair<std::string, std::string> SplitLine(std::string line) {
  std::erase_if(line, [](char c) { return c == ' ' || c == '\r' || c == '[' || c == ']'; });
  const std::size_t equals = line.find('=');
  if (equals == std::string::npos) return {line, ""};
  return {line.substr(0, equals), line.substr(equals + 1)};
}

bool IsOurs(const CavpCase& section) {
  return section.values.at("Keylen") == "256" && section.values.at("IVlen") == "96" &&
         section.values.at("Taglen") == "128";
}

// The cases of a file with a 256-bit key, a 96-bit IV and a 128-bit tag.
std::vector<CavpCase> ReadCavp(const std::string& name) {
  std::ifstream file(SEALIFT_CAVP_GCM_DIR "/" + name);
  EXPECT_TRUE(file.is_open()) << "install python3-cryptography-vectors: no " << name;
  std::vector<CavpCase> cases;
  CavpCase section;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const auto [key, value] = SplitLine(line);
    if (line[0] == '[') {
      section.values[key] = value;
    } else if (key == "Count") {
      cases.push_back(section);
    } else if (key == "FAIL") {
      cases.back().must_fail = true;
    } else if (!cases.empty()) {
      cases.back().values[key] = value;
    }
  }
  std::erase_if(cases, [](const CavpCase& c) { return !IsOurs(c); });
  return cases;
}

class AeadTest : public ::testing::TestWithParam<AeadBackend> {
 protected:
  void SetUp() override {
    const auto aead = MakeAead(GetParam(), Secret(base::Bytes(keys::kAesKeySize)));
    if (absl::IsUnavailable(aead.status())) GTEST_SKIP() << aead.status();
  }
  static std::unique_ptr<Aead> Make(base::ByteSpan key) { return record::Make(GetParam(), key); }
};

INSTANTIATE_TEST_SUITE_P(Backends, AeadTest,
                         ::testing::Values(AeadBackend::kIpsecMb, AeadBackend::kOpenssl),
                         [](const auto& param) {
                           return param.param == AeadBackend::kIpsecMb ? "IpsecMb" : "Openssl";
                         });

// The file has 5 plaintext lengths with 5 AAD lengths and 15 cases each.
constexpr std::size_t kCavpCases = 375;

TEST_P(AeadTest, SealsTheNistVectors) {
  const std::vector<CavpCase> cases = ReadCavp("gcmEncryptExtIV256.rsp");
  ASSERT_EQ(cases.size(), kCavpCases);
  for (const CavpCase& test : cases) {
    const base::Bytes plaintext = test.Value("PT");
    base::Bytes ciphertext(plaintext.size());
    base::Bytes tag(kTagSize);
    Make(test.Value("Key"))->Seal(test.Value("IV"), test.Value("AAD"), plaintext, ciphertext, tag);
    EXPECT_EQ(ciphertext, test.Value("CT"));
    EXPECT_EQ(tag, test.Value("Tag"));
  }
}

TEST_P(AeadTest, OpensTheNistVectorsAndNotTheirForgeries) {
  const std::vector<CavpCase> cases = ReadCavp("gcmDecrypt256.rsp");
  ASSERT_EQ(cases.size(), kCavpCases);
  std::size_t forgeries = 0;
  for (const CavpCase& test : cases) {
    const base::Bytes ciphertext = test.Value("CT");
    base::Bytes plaintext(ciphertext.size(), std::byte{0xaa});
    const bool opened =
        Make(test.Value("Key"))
            ->Open(test.Value("IV"), test.Value("AAD"), ciphertext, test.Value("Tag"), plaintext);
    EXPECT_EQ(opened, !test.must_fail);
    EXPECT_EQ(plaintext, test.must_fail ? base::Bytes(ciphertext.size()) : test.Value("PT"));
    forgeries += test.must_fail ? 1 : 0;
  }
  EXPECT_GT(forgeries, 100U);
}

TEST_P(AeadTest, PassesItsSelfTest) { EXPECT_TRUE(SelfTest(GetParam()).ok()); }

// ---- Beyond the vectors: sizes, in place, forgeries ----

constexpr std::size_t kSizes[] = {0,   1,    15,   16,   17,   31,    32,    33,    63,    64,  65,
                                  95,  96,   127,  128,  129,  255,   256,   257,   511,   767, 768,
                                  769, 1023, 1024, 1025, 4096, 65535, 65536, 65537, 262144};

class RandomBytes {
 public:
  base::Bytes operator()(std::size_t size) {
    base::Bytes bytes(size);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(engine_());
    return bytes;
  }

 private:
  std::mt19937 engine_{20240607};  // NOLINT: the same bytes in every run
};

TEST_P(AeadTest, OpensInPlaceWhatItSealedInPlace) {
  RandomBytes random;
  const auto aead = Make(random(keys::kAesKeySize));
  for (const std::size_t size : kSizes) {
    const base::Bytes iv = random(kIvSize);
    const base::Bytes aad = random(kHeaderSize);
    const base::Bytes plaintext = random(size);
    base::Bytes separate(size);
    base::Bytes separate_tag(kTagSize);
    aead->Seal(iv, aad, plaintext, separate, separate_tag);
    base::Bytes buffer = plaintext;
    base::Bytes tag(kTagSize);
    aead->Seal(iv, aad, buffer, buffer, tag);
    EXPECT_EQ(buffer, separate) << size;
    EXPECT_EQ(tag, separate_tag) << size;
    EXPECT_TRUE(aead->Open(iv, aad, buffer, tag, buffer)) << size;
    EXPECT_EQ(buffer, plaintext) << size;
    EXPECT_TRUE(aead->Open(iv, aad, separate, tag, separate)) << size;
    EXPECT_EQ(separate, plaintext) << size;
  }
}

// The direct engine seals guest memory where it lies. Whatever the guest does to it meanwhile, the
// tag is that of the ciphertext: each byte of the plaintext is read once.
TEST_P(AeadTest, SealsMemoryThatChangesMeanwhile) {
  const auto aead = Make(RandomBytes()(keys::kAesKeySize));
  base::Bytes plaintext(std::size_t{256} * 1024);
  std::atomic<bool> stop{false};
  std::thread guest([&] {
    for (std::uint8_t value = 0; !stop; ++value) {
      for (volatile std::byte& byte : plaintext) byte = std::byte{value};
    }
  });
  base::Bytes ciphertext(plaintext.size());
  base::Bytes opened(plaintext.size());
  std::array<std::byte, kTagSize> tag{};
  const std::array<std::byte, kIvSize> iv{};
  int mixed = 0;
  for (int i = 0; i < 500; ++i) {
    aead->Seal(iv, {}, plaintext, ciphertext, tag);
    ASSERT_TRUE(aead->Open(iv, {}, ciphertext, tag, opened)) << i;
    if (opened.front() != opened.back()) ++mixed;
  }
  stop = true;
  guest.join();
  EXPECT_GT(mixed, 0) << "nothing changed while it was sealed";
}

TEST_P(AeadTest, ZeroesThePlaintextOfAForgery) {
  RandomBytes random;
  const auto aead = Make(random(keys::kAesKeySize));
  const base::Bytes iv = random(kIvSize);
  base::Bytes buffer = random(1000);
  base::Bytes tag(kTagSize);
  aead->Seal(iv, {}, buffer, buffer, tag);
  tag[0] ^= std::byte{1};
  EXPECT_FALSE(aead->Open(iv, {}, buffer, tag, buffer));
  EXPECT_EQ(buffer, base::Bytes(1000));
}

TEST_P(AeadTest, GoesOnAfterAForgery) {
  RandomBytes random;
  const auto aead = Make(random(keys::kAesKeySize));
  const base::Bytes iv = random(kIvSize);
  const base::Bytes plaintext = random(100);
  base::Bytes ciphertext(100);
  base::Bytes tag(kTagSize);
  aead->Seal(iv, {}, plaintext, ciphertext, tag);
  base::Bytes opened(100);
  EXPECT_FALSE(aead->Open(random(kIvSize), {}, ciphertext, tag, opened));
  EXPECT_TRUE(aead->Open(iv, {}, ciphertext, tag, opened));
  EXPECT_EQ(opened, plaintext);
}

TEST_P(AeadTest, DependsOnKeyIvAndAad) {
  RandomBytes random;
  const base::Bytes key = random(keys::kAesKeySize);
  const base::Bytes iv = random(kIvSize);
  const base::Bytes aad = random(kHeaderSize);
  const base::Bytes plaintext = random(64);
  base::Bytes ciphertext(64);
  base::Bytes tag(kTagSize);
  Make(key)->Seal(iv, aad, plaintext, ciphertext, tag);
  base::Bytes opened(64);
  EXPECT_FALSE(Make(random(keys::kAesKeySize))->Open(iv, aad, ciphertext, tag, opened));
  EXPECT_FALSE(Make(key)->Open(random(kIvSize), aad, ciphertext, tag, opened));
  EXPECT_FALSE(Make(key)->Open(iv, random(kHeaderSize), ciphertext, tag, opened));
  EXPECT_FALSE(Make(key)->Open(iv, {}, ciphertext, tag, opened));
  EXPECT_TRUE(Make(key)->Open(iv, aad, ciphertext, tag, opened));
}

TEST(AeadBackends, AgreeOnEverySize) {
  RandomBytes random;
  const base::Bytes key = random(keys::kAesKeySize);
  if (absl::IsUnavailable(MakeAead(AeadBackend::kIpsecMb, Secret(key)).status())) {
    GTEST_SKIP() << "ipsec-mb does not run on this CPU";
  }
  const auto ipsec_mb = Make(AeadBackend::kIpsecMb, key);
  const auto openssl = Make(AeadBackend::kOpenssl, key);
  for (const std::size_t size : kSizes) {
    for (const std::size_t aad_size : {0U, 1U, 16U, 20U, 61U}) {
      const base::Bytes iv = random(kIvSize);
      const base::Bytes aad = random(aad_size);
      const base::Bytes plaintext = random(size);
      base::Bytes ciphertext[2] = {base::Bytes(size), base::Bytes(size)};
      base::Bytes tag[2] = {base::Bytes(kTagSize), base::Bytes(kTagSize)};
      ipsec_mb->Seal(iv, aad, plaintext, ciphertext[0], tag[0]);
      openssl->Seal(iv, aad, plaintext, ciphertext[1], tag[1]);
      ASSERT_EQ(ciphertext[0], ciphertext[1]) << size << " " << aad_size;
      ASSERT_EQ(tag[0], tag[1]) << size << " " << aad_size;
      base::Bytes opened(size);
      ASSERT_TRUE(ipsec_mb->Open(iv, aad, ciphertext[1], tag[1], opened));
      ASSERT_EQ(opened, plaintext);
      ASSERT_TRUE(openssl->Open(iv, aad, ciphertext[0], tag[0], opened));
      ASSERT_EQ(opened, plaintext);
    }
  }
}

TEST(AeadBackends, TheBestIsIpsecMbWhereItRuns) {
  const AeadBackend expected =
      SelfTest(AeadBackend::kIpsecMb).ok() ? AeadBackend::kIpsecMb : AeadBackend::kOpenssl;
  EXPECT_EQ(BestBackend().value(), expected);
}

TEST(AeadBackends, HaveNames) {
  EXPECT_EQ(AeadBackendName(AeadBackend::kIpsecMb), "ipsec-mb");
  EXPECT_EQ(AeadBackendName(AeadBackend::kOpenssl), "openssl");
}

}  // namespace
}  // namespace sealift::record
